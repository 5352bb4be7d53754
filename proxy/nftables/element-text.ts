// Elements in nft's own words and back from its JSON: for the `nft` program, and for replacing a whole table in one
// transaction. The fast path never comes here. Everything is made from octets of our own keys, so no text of an API
// object can reach the command.

import { formatIP, parseIP } from '../../api/address.ts';
import type { IPFamily } from '../../api/types.ts';
import { familyWords, markPart, portPart, readMark, setLayouts, tableName } from './layout.ts';
import type { ElementOperation, OperationGroup } from './port.ts';

const protocolNames: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };
const protocolOctets: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };
const elementsPerCommand = 500;

/** nft commands of one transaction, a line each: deletes first, as in a netlink batch. */
export function commandsOf(groups: readonly OperationGroup[], family: IPFamily): string[] {
  const lines: string[] = [];
  for (const isDelete of [true, false]) {
    const bySet = new Map<number, string[]>();
    for (const group of groups) for (const operation of isDelete ? group.deletes : group.adds) {
      const list = bySet.get(operation.set) ?? [];
      bySet.set(operation.set, list);
      list.push(elementText(operation, family));
    }
    for (const [set, list] of bySet) {
      for (let at = 0; at < list.length; at += elementsPerCommand) lines.push(`${isDelete ? 'delete' : 'add'} element ${familyWords(family).table} ${tableName} ${setLayouts[set]?.name} { ${list.slice(at, at + elementsPerCommand).join(', ')} }`);
    }
  }
  return lines;
}

function elementText(operation: ElementOperation, family: IPFamily): string {
  const layout = setLayouts[operation.set];
  if (layout === undefined) throw new Error(`no set ${operation.set}`);
  const types = layout.key.split(' . ');
  const key = readParts(operation.key, types, family);
  if (layout.isInterval) {
    const last = readParts(operation.data, types, family);
    key[key.length - 1] = `${key.at(-1)}-${last.at(-1)}`;
    return key.join(' . ');
  }
  if (operation.isDelete || layout.data === undefined) return key.join(' . ');
  return `${key.join(' . ')} : ${readParts(operation.data, layout.data.split(' . '), family).join(' . ')}`;
}

function readParts(octets: string, types: readonly string[], family: IPFamily): string[] {
  let at = 0;
  return types.map((type) => {
    const start = at;
    at += type === 'ADDR' ? familyWords(family).addressBytes : 4;
    if (type === 'ADDR') return formatIP(Buffer.from(octets.slice(start, at), 'latin1'));
    if (type === 'mark') return `0x${readMark(octets, start).toString(16).padStart(8, '0')}`;
    if (type === 'inet_proto') return protocolNames[octets.charCodeAt(start)] ?? String(octets.charCodeAt(start));
    return String((octets.charCodeAt(start) << 8) | octets.charCodeAt(start + 1));
  });
}

/** Octets of the parts that `nft -j list` prints; ranges and prefixes give their first and last address. */
function writeParts(parts: readonly unknown[], types: readonly string[], isLast: boolean): string {
  return types.map((type, index) => {
    const part = parts[index];
    if (type === 'ADDR') return addressOctets(part, isLast);
    if (type === 'mark') return markPart(Number(part));
    if (type === 'inet_proto') return String.fromCharCode(typeof part === 'number' ? part : protocolOctets[String(part)] ?? 0, 0, 0, 0);
    return portPart(Number(part));
  }).join('');
}

function addressOctets(part: unknown, isLast: boolean): string {
  const { range, prefix } = (typeof part === 'object' && part !== null ? part : {}) as { range?: [string, string]; prefix?: { addr: string; len: number } };
  const text = range !== undefined ? range[isLast ? 1 : 0] : prefix !== undefined ? prefix.addr : String(part);
  const bytes = parseIP(text)?.bytes ?? new Uint8Array();
  if (prefix === undefined || !isLast) return String.fromCharCode(...bytes);
  return String.fromCharCode(...bytes.map((octet, index) => octet | (0xff >> Math.max(0, Math.min(8, prefix.len - index * 8)))));
}

/** Elements of `nft -j list set|map`. */
export function parseElements(json: string, set: number): [key: string, data: string][] {
  const layout = setLayouts[set];
  const listed = JSON.parse(json) as { nftables: { set?: { elem?: unknown[] }; map?: { elem?: unknown[] } }[] };
  const elements = listed.nftables.flatMap((item) => item.set?.elem ?? item.map?.elem ?? []);
  const keyTypes = layout?.key.split(' . ') ?? [];
  return elements.map((element): [string, string] => {
    const [key, data] = layout?.data === undefined ? [element, undefined] : element as [unknown, unknown];
    const keyParts = partsOf((key as { elem?: { val: unknown } } | null)?.elem?.val ?? key);
    if (layout?.isInterval === true) return [writeParts(keyParts, keyTypes, false), writeParts(keyParts, keyTypes, true)];
    return [writeParts(keyParts, keyTypes, false), layout?.data === undefined ? '' : writeParts(partsOf(data), layout.data.split(' . '), false)];
  });
}

function partsOf(value: unknown): unknown[] {
  const concat = typeof value === 'object' && value !== null ? (value as { concat?: unknown[] }).concat : undefined;
  return concat ?? [value];
}
