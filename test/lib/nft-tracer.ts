// A packet tracer for the rule set: it reads the same nft text that the kernel is given, holds the elements in memory
// and walks one new connection through the hooks. A statement that it does not know fails the test, so the tracer
// cannot drift from the program.

import { parseCIDR, parseIP } from '../../api/address.ts';
import type { IPFamily, Protocol } from '../../api/types.ts';
import { protocolNumbers, setLayouts } from '../../proxy/nftables/layout.ts';

export interface Packet { readonly source: string; readonly destination: string; readonly protocol: Protocol; readonly port: number; readonly isFromHost: boolean }
export interface TraceOptions {
  /** Whether an address belongs to this host: `fib … type local`. */
  isLocalAddress(ip: string): boolean;
  /** Value of the next `numgen random mod m`. */
  random(modulus: number): number;
  nowMs: number;
}
export interface TraceResult { readonly verdict: 'accept' | 'drop' | 'refuse-rst' | 'refuse-icmp'; readonly endpoint: string | undefined; readonly isMasqueraded: boolean; readonly markAfter: number }

interface Chain { readonly rules: string[][]; readonly hook: string | undefined }
interface State { packet: Packet; mark: number; packetMark: number; endpoint: string | undefined; options: TraceOptions; hook: string; isMasqueraded: boolean }
type Verdict = 'accept' | 'drop' | 'refuse-rst' | 'refuse-icmp' | 'return' | undefined;

const latin1 = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
const word = (value: number): string => latin1(new Uint8Array(new Uint32Array([value]).buffer));
const portOctets = (value: number): string => String.fromCharCode(value >> 8, value & 255, 0, 0);
const readWord = (text: string): number => (text.charCodeAt(0) | (text.charCodeAt(1) << 8) | (text.charCodeAt(2) << 16) | (text.charCodeAt(3) << 24)) >>> 0;

export class NftTracer {
  readonly #family: IPFamily;
  readonly #chains = new Map<string, Chain>();
  readonly #verdicts = new Map<string, Map<number, string>>();
  readonly #cidrs = new Map<string, string[]>();
  readonly #elements = new Map<string, Map<string, string>>();
  readonly #affinity = new Map<string, { data: string; expiresMs: number }>();

  constructor(family: IPFamily) {
    this.#family = family;
    for (const layout of setLayouts) this.#elements.set(layout.name, new Map());
  }

  /** Reads `add …` commands. */
  load(program: string): void {
    for (const line of program.split('\n')) {
      const match = /^add (set|map|chain|rule|element) (?:ip|ip6) \S+ (\S+) ?(.*)$/.exec(line);
      if (match === null) { if (line.trim() !== '') throw new Error(`tracer: cannot read ${line}`); continue; }
      const [, what, name = '', rest = ''] = match;
      if (what === 'chain') this.#chains.set(name, { rules: [], hook: /hook (\S+)/.exec(rest)?.[1] });
      else if (what === 'rule') this.#chains.get(name)?.rules.push(tokens(rest));
      else if (what === 'element') this.#addText(name, rest);
      else if (rest.includes(': verdict')) this.#verdicts.set(name, parseVerdicts(/elements = \{ (.*?) \}/.exec(rest)?.[1] ?? ''));
      else if (!this.#elements.has(name) && name !== 'affinity') this.#cidrs.set(name, []);
    }
  }

  #addText(name: string, rest: string): void {
    const inner = rest.slice(1, -1).trim();
    const verdicts = this.#verdicts.get(name);
    if (verdicts !== undefined) for (const [key, value] of parseVerdicts(inner)) verdicts.set(key, value);
    else this.#cidrs.get(name)?.push(...inner.split(', '));
  }

  /** Replaces all elements by (set number + key → data). */
  setElements(elements: Iterable<readonly [id: string, data: string]>): void {
    for (const map of this.#elements.values()) map.clear();
    for (const [id, data] of elements) this.#elements.get(setLayouts[id.charCodeAt(0)]?.name ?? '')?.set(id.slice(1), data);
  }

  /** Walks the first packet of a connection through every hook that it meets. */
  trace(packet: Packet, options: TraceOptions): TraceResult {
    const state: State = { packet, mark: 0, packetMark: 0, endpoint: undefined, options, hook: packet.isFromHost ? 'output' : 'prerouting', isMasqueraded: false };
    const first = this.#hook(state);
    if (first !== 'accept') return { verdict: first, endpoint: undefined, isMasqueraded: false, markAfter: 0 };
    const target = state.endpoint?.replace(/ \d+$/, '') ?? packet.destination;
    state.hook = options.isLocalAddress(target) && !packet.isFromHost ? 'input' : 'postrouting';
    const verdict = this.#hook(state);
    return { verdict, endpoint: state.endpoint, isMasqueraded: state.isMasqueraded, markAfter: state.mark | state.packetMark };
  }

  #hook(state: State): Exclude<Verdict, 'return' | undefined> {
    for (const [name, chain] of this.#chains) {
      if (chain.hook !== state.hook) continue;
      const verdict = this.#run(name, state, 0);
      if (verdict !== undefined && verdict !== 'return' && verdict !== 'accept') return verdict;
    }
    return 'accept';
  }

  #run(name: string, state: State, depth: number): Verdict {
    const chain = this.#chains.get(name);
    if (chain === undefined || depth > 16) throw new Error(`tracer: no chain ${name} or too deep`);
    for (const rule of chain.rules) {
      const verdict = this.#rule(rule, state, depth);
      if (verdict === 'return') return undefined;
      if (verdict !== undefined) return verdict;
    }
    return undefined;
  }

  /** 'goto' ends the caller's chain: modelled as a verdict even when the target falls off its end. */
  #jump(action: string, state: State, depth: number): Verdict {
    const [kind, chain = ''] = action.split(' ');
    const verdict = this.#run(chain, state, depth + 1);
    return verdict ?? (kind === 'goto' ? 'return' : undefined);
  }

  #rule(rule: readonly string[], state: State, depth: number): Verdict {
    let at = 0;
    const take = (count: number): string[] => { const part = rule.slice(at, at + count); at += count; return part; };
    const until = (stop: string): string => { const end = rule.indexOf(stop, at); if (end < 0) throw new Error(`tracer: ${rule.join(' ')}`); const text = rule.slice(at, end).join(' '); at = end + 1; return text; };
    while (at < rule.length) {
      const rest = rule.slice(at).join(' ');
      if (/^(goto|jump) /.test(rest)) return this.#jump(take(2).join(' '), state, depth);
      if (rest === 'drop' || rest === 'return') return rest;
      if (rest === 'reject with tcp reset') return 'refuse-rst';
      if (/^reject with icmp(v6)? type port-unreachable$/.test(rest)) return 'refuse-icmp';
      if (rest === 'masquerade fully-random') { state.isMasqueraded = true; return 'accept'; }
      if (rest.startsWith('meta l4proto tcp ')) { take(3); if (state.packet.protocol !== 'TCP') return undefined; continue; }
      if (rest.startsWith('meta l4proto { tcp, udp, sctp } ')) { take(7); continue; }
      if (rest.startsWith('iifname != "lo" ')) { take(3); if (state.packet.isFromHost) return undefined; continue; }
      if (rest.startsWith('ct status dnat ')) { take(3); if (state.endpoint === undefined) return undefined; continue; }
      if (/^fib [ds]addr type /.test(rest)) { if (!this.#fib(take(rest.includes(' type != ') && rule[at + 3] === '!=' ? 5 : 4), state)) return undefined; continue; }
      if (/^dnat (ip|ip6) to /.test(rest)) { take(3); if (this.#dnat(until('map'), take(1)[0] ?? '', state)) return 'accept'; return undefined; }
      if (rest.startsWith('update @affinity ')) { this.#update(rest, state); at = rule.indexOf('}', at) + 1; continue; }
      if (rest.startsWith('delete @affinity ')) { this.#affinity.delete(this.#key(/\{ (.*?) :/.exec(rest)?.[1] ?? '', state)); at = rule.indexOf('}', at) + 1; continue; }
      if (rest === 'meta mark set 0') { state.packetMark = 0; return undefined; }
      const hash = /^meta mark set jhash (.*) mod 2147483647 seed \S+$/.exec(rest);
      if (hash !== null) { state.packetMark = hashOf(this.#key(hash[1] ?? '', state)); return undefined; }
      if (rest.startsWith('ct mark set ')) { take(3); const end = endOfSet(rule, at); if (!this.#setMark(rule.slice(at, end).join(' '), state)) return undefined; at = end; continue; }
      const vmap = /^ct mark & (\S+) vmap (@\S+|\{ .* \})$/.exec(rest);
      if (vmap !== null) return this.#vmap(Number(vmap[1]), vmap[2] ?? '', state, depth);
      const compare = /^ct mark & (\S+) (==|!=) (\S+)( |$)/.exec(rest);
      if (compare !== null) { at += 6; if (((state.mark & Number(compare[1])) >>> 0 === Number(compare[3]) >>> 0) !== (compare[2] === '==')) return undefined; continue; }
      const match = /^((?:.*? )?)(!= )?(@\S+|\d\S*\/\d+|::1)( |$)/.exec(rest);
      if (match === null) throw new Error(`tracer: cannot read ${rest}`);
      at += match[0].trim().split(' ').length;
      if (this.#matches((match[1] ?? '').trim(), match[3] ?? '', state) === (match[2] !== undefined)) return undefined;
    }
    return undefined;
  }

  #fib(parts: readonly string[], state: State): boolean {
    const isLocal = state.options.isLocalAddress(parts[1] === 'daddr' ? state.packet.destination : state.packet.source);
    return isLocal === (parts[3] !== '!=');
  }

  #vmap(mask: number, where: string, state: State, depth: number): Verdict {
    const map = where.startsWith('@') ? this.#verdicts.get(where.slice(1)) : parseVerdicts(where.slice(2, -2));
    const action = map?.get((state.mark & mask) >>> 0);
    return action === undefined ? undefined : this.#jump(action, state, depth);
  }

  #setMark(expression: string, state: State): boolean {
    const draw = /^numgen random mod (\d+) offset (\d+)$/.exec(expression);
    const or = /^ct mark \| (\S+)$/.exec(expression);
    const lookup = /^(.*) map @(\S+)$/.exec(expression);
    if (draw !== null) state.mark = (state.options.random(Number(draw[1])) + Number(draw[2])) >>> 0;
    else if (or !== null) state.mark = (state.mark | Number(or[1])) >>> 0;
    else if (lookup !== null) {
      const key = this.#key(lookup[1] ?? '', state);
      const data = lookup[2] === 'affinity' ? this.#sticky(key, state) : this.#elements.get(lookup[2] ?? '')?.get(key);
      if (data === undefined) return false;
      state.mark = readWord(data);
    } else if (/^(0x)?[0-9a-f]+$/.test(expression)) state.mark = Number(expression);
    else throw new Error(`tracer: cannot read ct mark set ${expression}`);
    return true;
  }

  #sticky(key: string, state: State): string | undefined {
    const entry = this.#affinity.get(key);
    return entry !== undefined && entry.expiresMs > state.options.nowMs ? entry.data : undefined;
  }

  /** Refreshes the timer of an entry that lives, without changing its value: what the kernel does. */
  #update(statement: string, state: State): void {
    const match = /^update @affinity \{ (.*) timeout (\d+)s : ct mark \}/.exec(statement);
    if (match === null) throw new Error(`tracer: cannot read ${statement}`);
    const key = this.#key(match[1] ?? '', state);
    this.#affinity.set(key, { data: this.#sticky(key, state) ?? word(state.mark), expiresMs: state.options.nowMs + Number(match[2]) * 1000 });
  }

  #dnat(keyText: string, map: string, state: State): boolean {
    const data = this.#elements.get(map.slice(1))?.get(this.#key(keyText, state));
    if (data === undefined) return false;
    const size = this.#family === 'IPv4' ? 4 : 16;
    const octets = [...data.slice(0, size)].map((character) => character.charCodeAt(0));
    const ip = size === 4 ? octets.join('.') : formatV6(octets);
    state.endpoint = `${ip} ${(data.charCodeAt(size) << 8) | data.charCodeAt(size + 1)}`;
    return true;
  }

  #key(text: string, state: State): string {
    return text.split(' . ').map((part) => this.#part(part, state)).join('');
  }

  #part(part: string, state: State): string {
    const masked = /^ct mark & (\S+)$/.exec(part);
    if (masked !== null) return word((state.mark & Number(masked[1])) >>> 0);
    if (part === 'meta mark') return word(state.packetMark);
    if (part === 'meta l4proto') return `${String.fromCharCode(protocolNumbers[state.packet.protocol])}\0\0\0`;
    if (part === 'th dport') return portOctets(state.packet.port);
    if (/^ip6? saddr$/.test(part)) return latin1(parseIP(state.packet.source)?.bytes ?? new Uint8Array());
    if (/^ip6? daddr$/.test(part)) return latin1(parseIP(state.hook === 'postrouting' ? state.endpoint?.replace(/ \d+$/, '') ?? state.packet.destination : state.packet.destination)?.bytes ?? new Uint8Array());
    throw new Error(`tracer: cannot read key part ${part}`);
  }

  #matches(expression: string, what: string, state: State): boolean {
    const cidrs = what.startsWith('@') ? this.#cidrs.get(what.slice(1)) : [what === '::1' ? '::1/128' : what];
    if (cidrs !== undefined) {
      const ip = expression.endsWith('saddr') ? state.packet.source : state.packet.destination;
      return cidrs.some((cidr) => parseCIDR(cidr)?.contains(ip));
    }
    const key = this.#key(expression, state);
    const map = this.#elements.get(what.slice(1));
    if (map === undefined) throw new Error(`tracer: no set ${what}`);
    if (what !== '@sources') return map.has(key);
    for (const [first, last] of map) if (key >= first && key <= last && key.slice(0, -addressSize(this.#family)) === first.slice(0, -addressSize(this.#family))) return true;
    return false;
  }
}

const addressSize = (family: IPFamily): number => (family === 'IPv4' ? 4 : 16);

function tokens(text: string): string[] { return text.trim().split(/ +/); }

/** A `ct mark set` expression ends at the rule's end, or before goto, masquerade, dnat. */
function endOfSet(rule: readonly string[], from: number): number {
  for (let index = from; index < rule.length; index++) if (/^(goto|jump|masquerade)$/.test(rule[index] ?? '')) return index;
  return rule.length;
}

function parseVerdicts(text: string): Map<number, string> {
  const map = new Map<number, string>();
  for (const entry of text.split(', ').filter((item) => item !== '')) {
    const [key = '', action = ''] = entry.split(' : ');
    map.set(Number(key) >>> 0, action.trim());
  }
  return map;
}

/** Any hash will do: only equality counts. */
function hashOf(text: string): number {
  let hash = 7;
  for (const character of text) hash = (hash * 31 + character.charCodeAt(0)) % 2_147_483_647;
  return hash;
}

function formatV6(octets: readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_unused, index) => (((octets[index * 2] ?? 0) << 8) | (octets[index * 2 + 1] ?? 0)).toString(16));
  return parseIPText(groups.join(':'));
}
function parseIPText(text: string): string { const parsed = new URL(`http://[${text}]/`).hostname; return parsed.slice(1, -1); }
