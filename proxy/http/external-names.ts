// Addresses behind the name of an ExternalName Service, for backends that are reached by name (P-16). Off unless the
// administrator allows it. A name is resolved for each new connection (answers are kept for their TTL, bounded), every
// address is checked, and what is dialled is the very address that was checked: this is the `lookup` of net.connect, so
// there is no second resolution that could answer differently. One refused address refuses the whole name. Only DNS is
// asked, never /etc/hosts. Called by upstream-h1.ts and upstream-h2.ts through the engine; the rules also by ingress/backends.ts.

import dns from 'node:dns';
import type { LookupFunction } from 'node:net';
import { canonicalIP, isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR, parseIP, type Cidr } from '../../api/address.ts';
import type { Clock } from '../../api/clock.ts';

/** What an administrator lets ExternalName backends reach. */
export interface ExternalNameRules {
  readonly isAllowed: boolean;
  /** Never reached, whatever else says so: Service ranges, this node's own addresses. */
  readonly denyRanges: readonly string[];
  /** Private or loopback ranges that may be reached all the same. */
  readonly allowRanges: readonly string[];
  /** Name servers as `ip[:port]`; empty = those of the system. */
  readonly servers: readonly string[];
}

/** Why an address must not be reached, or undefined. */
export type AddressCheck = (ip: string) => string | undefined;

const cachedNamesMax = 1_000;
const ttlMsMin = 1_000;
const ttlMsMax = 60_000;
const failureTtlMs = 1_000;
const addressesMax = 16;
const resolveTimeoutMs = 1_000;

const ranges = (...texts: string[]): readonly Cidr[] => texts.flatMap((text) => parseCIDR(text) ?? []);
/** Cloud metadata, "this network", reserved, documentation of translation: no service lives there, or a dangerous one. */
const neverRanges = ranges('0.0.0.0/8', '169.254.0.0/16', '100.100.100.200/32', '192.0.0.0/24', '240.0.0.0/4', 'fd00:ec2::254/128', '64:ff9b::/96', '64:ff9b:1::/48', '2002::/16', '2001::/32', 'fec0::/10');
const privateRanges = ranges('10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '198.18.0.0/15', 'fc00::/7');

/** Checks an address against the rules; text that is not a plain canonical address (mapped, short, octal) is refused. */
export function addressCheck(rules: Pick<ExternalNameRules, 'denyRanges' | 'allowRanges'>): AddressCheck {
  const denied = ranges(...rules.denyRanges);
  const allowed = ranges(...rules.allowRanges);
  return (ip) => {
    if (parseIP(ip) === undefined || canonicalIP(ip) === undefined || /^::(ffff:)?\d+\./i.test(ip) || /^::ffff:/i.test(ip)) return 'is not a plain address';
    if (isUnspecified(ip)) return 'is the unspecified address';
    if (isMulticast(ip)) return 'is a multicast address';
    if (isLinkLocal(ip) || neverRanges.some((cidr) => cidr.contains(ip))) return 'is a link-local, metadata or reserved address';
    if (denied.some((cidr) => cidr.contains(ip))) return 'is in a range of the cluster or of this node';
    if (allowed.some((cidr) => cidr.contains(ip))) return undefined;
    if (isLoopback(ip)) return 'is a loopback address';
    if (privateRanges.some((cidr) => cidr.contains(ip))) return 'is a private address that is not listed';
    return undefined;
  };
}

/** Why text is not usable as an external name: addresses in any spelling (127.0.0.1, 2130706433, 0x7f.1), localhost, bad syntax. */
export function externalNameFault(text: string): string | undefined {
  const name = text.replace(/\.$/, '').toLowerCase();
  const last = name.slice(name.lastIndexOf('.') + 1);
  if (parseIP(name) !== undefined || /^(\d+|0x[0-9a-f]*)$/.test(last) || name.includes(':') || name.includes('[')) return 'is an address, not a name';
  if (name.length > 253 || !name.split('.').every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) return 'is not a DNS name';
  if (last === 'localhost' || name === 'localhost.localdomain' || name === 'ip6-localhost') return 'is a name of this host';
  return undefined;
}

interface Answer { readonly addresses: readonly dns.LookupAddress[]; readonly fault: string | undefined; readonly untilMs: number }

/** The `lookup` of an engine that reaches no external names. */
export const refuseNames: LookupFunction = (name, _options, callback) => { process.nextTick(callback, refusal(name, 'external names are not allowed'), '', 4); };

export class ExternalNames {
  readonly lookup: LookupFunction;
  readonly #clock: Clock;
  readonly #check: AddressCheck;
  readonly #resolver: dns.promises.Resolver;
  readonly #onRefused: (name: string, fault: string) => void;
  readonly #answers = new Map<string, Answer>();
  readonly #pending = new Map<string, Promise<Answer>>();

  constructor(rules: ExternalNameRules, clock: Clock, onRefused: (name: string, fault: string) => void = () => {}) {
    this.#clock = clock;
    this.#check = addressCheck(rules);
    this.#onRefused = onRefused;
    this.#resolver = new dns.promises.Resolver({ timeout: resolveTimeoutMs, tries: 2 });
    if (rules.servers.length > 0) this.#resolver.setServers(rules.servers);
    this.lookup = (name, options, callback) => {
      const give = callback as unknown as (error: Error | null, addresses: unknown, family?: number) => void;
      void this.#answer(name).then((answer) => {
        const [first] = answer.addresses;
        if (first === undefined) give(refusal(name, answer.fault ?? 'has no address'), '');
        else if (options.all === true) give(null, answer.addresses);
        else give(null, first.address, first.family);
      });
    };
  }

  #answer(name: string): Promise<Answer> {
    const cached = this.#answers.get(name);
    if (cached !== undefined && cached.untilMs > this.#clock.monotonicMs()) return Promise.resolve(cached);
    let pending = this.#pending.get(name);
    if (pending === undefined) {
      this.#pending.set(name, pending = this.#resolve(name).then((answer) => {
        this.#pending.delete(name);
        this.#answers.delete(name);
        if (this.#answers.size >= cachedNamesMax) for (const oldest of this.#answers.keys()) { this.#answers.delete(oldest); break; }
        this.#answers.set(name, answer);
        return answer;
      }));
    }
    return pending;
  }

  /** Asks for both families and checks what comes. Never rejects. */
  async #resolve(name: string): Promise<Answer> {
    const failed = (fault: string): Answer => ({ addresses: [], fault, untilMs: this.#clock.monotonicMs() + failureTtlMs });
    const nameFault = externalNameFault(name);
    if (nameFault !== undefined) return this.#refuse(name, nameFault, failed);
    const [v4, v6] = await Promise.allSettled([this.#resolver.resolve4(name, { ttl: true }), this.#resolver.resolve6(name, { ttl: true })]);
    const records = [
      ...(v4.status === 'fulfilled' ? v4.value.map((record) => ({ ...record, family: 4 })) : []),
      ...(v6.status === 'fulfilled' ? v6.value.map((record) => ({ ...record, family: 6 })) : []),
    ].slice(0, addressesMax);
    if (records.length === 0) return failed('does not resolve');
    for (const { address } of records) {
      const fault = this.#check(address);
      if (fault !== undefined) return this.#refuse(name, `${address} ${fault}`, failed);
    }
    const ttlMs = Math.min(ttlMsMax, Math.max(ttlMsMin, Math.min(...records.map((record) => record.ttl)) * 1_000));
    return { addresses: records.map(({ address, family }) => ({ address, family })), fault: undefined, untilMs: this.#clock.monotonicMs() + ttlMs };
  }

  #refuse(name: string, fault: string, failed: (fault: string) => Answer): Answer {
    this.#onRefused(name, fault);
    return failed(fault);
  }
}

function refusal(name: string, fault: string): NodeJS.ErrnoException { return Object.assign(new Error(`external name ${name}: ${fault}`), { code: 'EACCES' }); }
