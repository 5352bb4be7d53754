// The static rules, as nft text: base chains, shared chains and empty maps. They never change while Services do;
// only a new affinity timeout adds a few chains. Pure. Called by tables (load) and by tests; README.md walks
// through the program hook by hook. Nothing from an API object ever enters this text: addresses here come from
// configuration and are parsed CIDRs, so no object can inject a rule.

import type { Cidr } from '../../api/address.ts';
import type { IPFamily } from '../../api/types.ts';
import { familyWords, kinds, limits, marks, setLayouts, tableName, tiers } from './layout.ts';

/** `localClients` undefined = no way to tell Pods from others: nothing is masqueraded on ClusterIPs. */
export interface ProgramOptions {
  readonly family: IPFamily;
  readonly serviceCIDRs: readonly Cidr[];
  readonly localClients: readonly Cidr[] | undefined;
  readonly nodePorts: 'all' | readonly Cidr[];
  readonly isMasqueradeAll: boolean;
  /** False: sources that are neither this host nor a Pod are not served at all (bind on loopback). */
  readonly isExternalServed: boolean;
}

interface Variant { readonly name: string; readonly target: 'vip' | 'nodeport'; readonly isLocal: boolean; readonly isMasqueraded: boolean }

const variants: readonly Variant[] = [
  { name: 'vip-cluster', target: 'vip', isLocal: false, isMasqueraded: false },
  { name: 'vip-cluster-masq', target: 'vip', isLocal: false, isMasqueraded: true },
  { name: 'vip-local', target: 'vip', isLocal: true, isMasqueraded: false },
  { name: 'vip-local-masq', target: 'vip', isLocal: true, isMasqueraded: true },
  { name: 'nodeport-cluster', target: 'nodeport', isLocal: false, isMasqueraded: false },
  { name: 'nodeport-cluster-masq', target: 'nodeport', isLocal: false, isMasqueraded: true },
  { name: 'nodeport-local', target: 'nodeport', isLocal: true, isMasqueraded: false },
];

/** Draws before the choice falls back to the next smaller tier; with tiers 1/8 apart one draw misses in at most 11 %. */
const drawCount = 4;
const hex = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;

/** A list of nft commands that builds everything inside an existing, empty table. */
export function staticProgram(options: ProgramOptions): string {
  const words = familyWords(options.family);
  const table = `${words.table} ${tableName}`;
  const lines: string[] = [];
  for (const set of setLayouts) lines.push(`add ${set.data === undefined ? 'set' : 'map'} ${table} ${set.name} { type ${set.key.replaceAll('ADDR', words.address)}${set.data === undefined ? '' : ` : ${set.data.replaceAll('ADDR', words.address)}`};${set.isInterval ? ' flags interval;' : ''}${set.isCounted ? ' counter;' : ''} }`);
  lines.push(
    `add map ${table} affinity { type ${options.family === 'IPv4' ? 'mark . ipv4_addr' : 'mark'} : mark; flags dynamic,timeout; timeout 3h; size ${limits.affinityEntriesMax}; }`,
    ...cidrSet(table, 'service-cidrs', words.address, options.serviceCIDRs),
    ...cidrSet(table, 'local-clients', words.address, options.localClients ?? []),
    ...cidrSet(table, 'nodeport-addresses', words.address, options.nodePorts === 'all' ? [] : options.nodePorts),
  );
  lines.push(...tierChains(table));
  for (const variant of variants) lines.push(`add chain ${table} ${variant.name}`, `add map ${table} ${variant.name}-timeouts { type mark : verdict; }`);
  for (const variant of variants) lines.push(...variantRules(table, words.table, variant));
  lines.push(...refusalChain(table, options.family), ...dispatchChains(table, words.table, options), ...baseChains(table, words.table, options));
  return `${lines.join('\n')}\n`;
}

function cidrSet(table: string, name: string, type: string, cidrs: readonly Cidr[]): string[] {
  const lines = [`add set ${table} ${name} { type ${type}; flags interval; auto-merge; }`];
  if (cidrs.length > 0) lines.push(`add element ${table} ${name} { ${cidrs.map(String).join(', ')} }`);
  return lines;
}

/** Chains that draw a random index; jumped to, so that every variant shares them. `floors` draws from the next smaller tier. */
function tierChains(table: string): string[] {
  const lines: string[] = [];
  for (const isLocal of [false, true]) {
    const offset = (marks.ours | (isLocal ? marks.choiceLocal : 0)) >>> 0;
    const shift = isLocal ? marks.localTierShift : 0;
    const suffix = isLocal ? '-local' : '';
    const draw: string[] = [];
    const floor: string[] = [];
    for (let tier = 1; tier < tiers.length; tier++) {
      const chain = `draw${suffix}-${tiers[tier]}`;
      lines.push(`add chain ${table} ${chain}`, `add rule ${table} ${chain} ct mark set ${tier === 1 ? hex(offset) : `numgen random mod ${tiers[tier]} offset ${offset}`}`);
      draw.push(`${hex(tier << shift)} : jump ${chain}`);
      floor.push(`${hex(tier << shift)} : jump draw${suffix}-${tiers[Math.max(1, tier - 1)]}`);
    }
    lines.push(
      `add map ${table} tiers${suffix} { type mark : verdict; elements = { ${draw.join(', ')} } }`,
      `add map ${table} floors${suffix} { type mark : verdict; elements = { ${floor.join(', ')} } }`,
    );
  }
  return lines;
}

function keyOf(ip: string, target: Variant['target']): string {
  return target === 'vip' ? `${ip} daddr . meta l4proto . th dport` : 'meta l4proto . th dport';
}

const descriptorMap = (target: Variant['target']): string => (target === 'vip' ? 'vips' : 'nodeports');

/** Rules that draw an index and end with `finish`; all but the last draw fall through to the next when it misses. */
function drawRules(rule: string, ip: string, variant: Variant, isFirstKnown: boolean, finish: readonly string[]): string[] {
  const suffix = variant.isLocal ? '-local' : '';
  const mask = hex(variant.isLocal ? marks.localTierMask : marks.clusterTierMask);
  const lines: string[] = [];
  for (let draw = 0; draw <= drawCount; draw++) {
    if (draw > 0 || !isFirstKnown) lines.push(`${rule} ct mark set ${keyOf(ip, variant.target)} map @${descriptorMap(variant.target)}`);
    lines.push(`${rule} ct mark & ${mask} vmap @${draw === drawCount ? 'floors' : 'tiers'}${suffix}`, ...finish);
  }
  lines.push(`${rule} drop`);
  return lines;
}

function variantRules(table: string, ip: string, variant: Variant): string[] {
  const rule = `add rule ${table} ${variant.name}`;
  const lines: string[] = [];
  if (variant.isLocal) lines.push(`${rule} ct mark & ${hex(marks.localTierMask)} == 0 drop`);
  lines.push(`${rule} ct mark & ${hex(marks.timeoutMask)} vmap @${variant.name}-timeouts`);
  const finish: string[] = [];
  if (variant.isMasqueraded) finish.push(`${rule} ct mark set ct mark | ${hex(marks.masquerade)}`);
  finish.push(`${rule} meta l4proto { tcp, udp, sctp } dnat ${ip} to ct mark & ${hex(marks.choiceMask)} . ${keyOf(ip, variant.target)} map @${variant.target}-endpoints`);
  lines.push(...drawRules(rule, ip, variant, true, finish));
  return lines;
}

/**
 * Chains of one affinity timeout: hit (refresh, use), new (draw, remember, use). Added when a Service first needs it.
 * The key is (pool, client). IPv6 takes a 31-bit hash of the two, held in the packet mark for the moment and cleared
 * before it leaves: nft 1.0.6 gives a 20-octet key of a dynamic map overlapping registers and stores nonsense.
 */
export function timeoutProgram(family: IPFamily, timeoutClass: number, timeoutSeconds: number): string {
  const words = familyWords(family);
  const table = `${words.table} ${tableName}`;
  const isHashed = family === 'IPv6';
  const client = `ct mark & ${hex(marks.poolMask)} . ${words.table} saddr`;
  const entry = isHashed ? 'meta mark' : client;
  const hash = isHashed ? [`meta mark set jhash ${client} mod 2147483647 seed 0x4e4c`] : [];
  const remember = `update @affinity { ${entry} timeout ${timeoutSeconds}s : ct mark }`;
  const lines: string[] = [];
  for (const variant of variants) {
    const name = `${variant.name}-t${timeoutClass}-${timeoutSeconds}s`;
    const addRules = (part: string, rules: readonly string[]): void => { for (const rule of rules) lines.push(`add rule ${table} ${name}${part} ${rule}`); };
    for (const part of ['', '-new', '-hit', '-use', '-store']) lines.push(`add chain ${table} ${name}${part}`);
    addRules('-use', [
      ...(variant.isLocal ? [`ct mark set ct mark | ${hex(marks.affinityLocal)}`] : []), ...(variant.isMasqueraded ? [`ct mark set ct mark | ${hex(marks.masquerade)}`] : []),
      ...(isHashed ? ['meta mark set 0'] : []),
      `meta l4proto { tcp, udp, sctp } dnat ${words.table} to ct mark & ${hex(marks.affinityKeyMask)} map @affinity-endpoints`,
    ]);
    // Of two first connections at once one stores its choice; the other reads it back and follows.
    addRules('-store', [remember, `ct mark set ${entry} map @affinity goto ${name}-use`, `goto ${name}-use`]);
    lines.push(...drawRules(`add rule ${table} ${name}-new`, words.table, variant, false, [
      `add rule ${table} ${name}-new ct mark set ct mark & ${hex(marks.choiceMask)} . ${keyOf(words.table, variant.target)} map @${variant.target}-picks goto ${name}-store`,
    ]));
    addRules('-hit', [remember, `jump ${name}-use`, ...hash, `delete @affinity { ${entry} : ct mark }`, `goto ${name}-new`]);
    addRules('', [`ct mark set ${keyOf(words.table, variant.target)} map @${variant.target}-pools`, ...hash, `ct mark set ${entry} map @affinity goto ${name}-hit`, `goto ${name}-new`]);
    lines.push(`add element ${table} ${variant.name}-timeouts { ${hex(timeoutClass << marks.timeoutShift)} : goto ${name} }`);
  }
  return `${lines.join('\n')}\n`;
}

/** Reads class → seconds back from chain names: which affinity timeouts an adopted table serves already. */
export function timeoutsOfChains(chains: readonly string[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const chain of chains) {
    const match = /^vip-cluster-t(\d+)-(\d+)s$/.exec(chain);
    if (match !== null) found.set(Number(match[1]), Number(match[2]));
  }
  return found;
}

/** RST for TCP, since ICMP errors are rate limited per destination and a client would wait for its timeout. */
function refusalChain(table: string, family: IPFamily): string[] {
  const rule = `add rule ${table} refuse`;
  return [`add chain ${table} refuse`, `${rule} meta l4proto tcp reject with tcp reset`, `${rule} reject with ${familyWords(family).icmp} ${family === 'IPv4' ? 'type port-unreachable' : 'type port-unreachable'}`];
}

function dispatchChains(table: string, ip: string, options: ProgramOptions): string[] {
  const kind = (value: number): string => hex(value << marks.kindShift);
  const lines: string[] = [];
  for (const chain of ['vip', 'nodeport', 'vip-internal-cluster', 'vip-internal-local', 'vip-external-local', 'nodeport-external-local']) lines.push(`add chain ${table} ${chain}`);
  const keepsSource = options.localClients === undefined ? [''] : [`${ip} saddr @local-clients`];
  for (const policy of ['cluster', 'local']) {
    const rule = `add rule ${table} vip-internal-${policy}`;
    if (!options.isMasqueradeAll) for (const match of keepsSource) lines.push(`${rule} ${match} goto vip-${policy}`.replace('  ', ' '));
    if (options.isMasqueradeAll || options.localClients !== undefined) lines.push(`${rule} goto vip-${policy}-masq`);
  }
  for (const target of ['vip', 'nodeport']) {
    const rule = `add rule ${table} ${target}-external-local`;
    if (options.localClients !== undefined) lines.push(`${rule} ${ip} saddr @local-clients goto ${target}-cluster`);
    lines.push(`${rule} fib saddr type local goto ${target}-cluster-masq`, `${rule} goto ${target}-local`);
  }
  lines.push(
    `add rule ${table} vip ct mark & ${hex(marks.firewall)} != 0 ${ip} daddr . meta l4proto . th dport . ${ip} saddr != @sources drop`,
    `add rule ${table} vip ct mark & ${hex(marks.kindMask)} vmap { ${kind(kinds.reject)} : goto refuse, ${kind(kinds.internalCluster)} : goto vip-internal-cluster, ${kind(kinds.internalLocal)} : goto vip-internal-local, ${kind(kinds.externalCluster)} : goto vip-cluster-masq, ${kind(kinds.externalLocal)} : goto vip-external-local }`,
    `add rule ${table} nodeport ct mark & ${hex(marks.kindMask)} vmap { ${kind(kinds.reject)} : goto refuse, ${kind(kinds.externalCluster)} : goto nodeport-cluster-masq, ${kind(kinds.externalLocal)} : goto nodeport-external-local }`,
  );
  return lines;
}

function baseChains(table: string, ip: string, options: ProgramOptions): string[] {
  const loopback = options.family === 'IPv4' ? '127.0.0.0/8' : '::1';
  const services = `add rule ${table} services`;
  const ours = `ct mark & ${hex(marks.ours)} == ${hex(marks.ours)} ct status dnat`;
  const both = hex((marks.ours | marks.masquerade) >>> 0);
  const lines = [
    `add chain ${table} services`,
    `${services} ct mark set ${ip} daddr . meta l4proto . th dport map @vips goto vip`,
    `${services} ${ip} daddr @cluster-ips goto refuse`,
    `${services} ${ip} daddr @service-cidrs drop`,
  ];
  const isNodePortOff = options.nodePorts !== 'all' && options.nodePorts.length === 0;
  const listed = options.nodePorts === 'all' ? '' : ` ${ip} daddr @nodeport-addresses`;
  if (!isNodePortOff) lines.push(`${services} ${ip} daddr != ${loopback}${listed} fib daddr type local ct mark set meta l4proto . th dport map @nodeports goto nodeport`);
  lines.push(`add chain ${table} prerouting { type nat hook prerouting priority -100; policy accept; }`);
  if (!options.isExternalServed) {
    const outside = `add rule ${table} prerouting iifname != "lo" ${ip} saddr != @local-clients fib saddr type != local`;
    lines.push(`${outside} ${ip} daddr @service-cidrs drop`, `${outside} return`);
  }
  lines.push(
    `add rule ${table} prerouting jump services`,
    `add chain ${table} output { type nat hook output priority -100; policy accept; }`,
    `add rule ${table} output jump services`,
    `add chain ${table} postrouting { type nat hook postrouting priority 100; policy accept; }`,
    `add rule ${table} postrouting ct mark & ${both} == ${both} ct status dnat ct mark set 0 masquerade fully-random`,
    `add rule ${table} postrouting ${ours} ${ip} saddr . ${ip} daddr @hairpin ct mark set 0 masquerade fully-random`,
    `add rule ${table} postrouting ${ours} ct mark set 0`,
    `add chain ${table} input-clear { type nat hook input priority 100; policy accept; }`,
    `add rule ${table} input-clear ${ours} ct mark set 0`,
    `add chain ${table} input { type filter hook input priority -10; policy accept; }`,
    `add rule ${table} input iifname != "lo" ${ip} daddr ${loopback} drop`,
  );
  return lines;
}
