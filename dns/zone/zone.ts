// The DNS thread's table of the cluster zone: Services, Namespaces, pod addresses and the reverse index, changed by
// messages from the main thread in watch order. Answers are compiled when first asked and kept in `hot` until the very
// Service they were made from changes, so no TTL stands between a watch event and the answer.
// Read by find.ts (name → node) and answer.ts (node → records).

import { classIN, rrTypes } from '../wire/constants.ts';
import { soaTimes, type Template } from '../wire/builder.ts';
import type { SoaBytes } from '../wire/reply.ts';
import { joinKey, labelsOf } from '../wire/names.ts';
import { serviceKey, type EndpointRecord, type ServiceRecords, type ZoneMessage } from './records.ts';

export type PodsMode = 'verified' | 'insecure' | 'disabled';

export interface ZoneOptions {
  /** Name key of the zone, such as cluster.local. */
  zoneKey: string;
  ttlSeconds: number;
  podsMode: PodsMode;
  /** Answer `zone.pin._zone.svc.ns.svc` names. */
  isZonal: boolean;
  /** Addresses under which this server is reached: for NS and `ns.dns`. */
  ownAddresses: readonly string[];
}

/** One Service with what was derived from it on demand. */
export class ServiceZone {
  readonly records: ServiceRecords;
  readonly key: string;
  /** Entries of `hot` made from this Service: `[qtype, name key]` flattened. */
  readonly hotEntries: (number | string)[] = [];
  #hosts: Map<string, EndpointRecord[]> | undefined;

  constructor(records: ServiceRecords) {
    this.records = records;
    this.key = serviceKey(records);
  }

  /** Ready endpoints by their host label. Built at first use: O(endpoints). */
  get hosts(): Map<string, EndpointRecord[]> {
    if (this.#hosts !== undefined) return this.#hosts;
    const hosts = new Map<string, EndpointRecord[]>();
    for (const endpoint of this.records.endpoints) {
      const host = hostOf(endpoint);
      const present = hosts.get(host);
      if (present === undefined) hosts.set(host, [endpoint]);
      else present.push(endpoint);
    }
    this.#hosts = hosts;
    return hosts;
  }
}

/** Label of an endpoint: its hostname, else its address with dashes; an address that ends in `::` gets a final 0. */
export function hostOf(endpoint: EndpointRecord): string {
  if (endpoint[1] !== '') return endpoint[1];
  const dashed = endpoint[0].replace(/[.:]/g, '-');
  return dashed.endsWith('-') ? `${dashed}0` : dashed;
}

/** Most compiled answers kept; beyond it the table starts afresh. Measured: about 1.5 KB each with its service's host map. */
const hotEntriesMax = 65_536;
const hotBytesMax = 48 * 1024 * 1024;

export class Zone {
  readonly options: ZoneOptions;
  readonly zoneLabelCount: number;
  readonly services = new Map<string, ServiceZone>();
  readonly namespaces = new Set<string>();
  /** 'namespace ip' → 'namespace/pod' of verified mode. */
  readonly podByAddress = new Map<string, string>();
  /** Address → the Pods that have it: one, or several on the host's network. */
  readonly #podsAt = new Map<string, string | Set<string>>();
  /** Compiled answers: qtype → name key → template. */
  readonly hot: Map<string, Template>[] = [];
  readonly #podAddresses = new Map<string, readonly string[]>();
  readonly #reverse = new Map<string, ServiceZone | ServiceZone[]>();
  #hotCount = 0;
  #hotBytes = 0;
  #soa: SoaBytes;
  isSynced = false;
  /** Wall time since when the state is only the last known one; 0 = live. */
  staleSinceMs = 0;
  serial = 0;

  constructor(options: ZoneOptions) {
    this.options = options;
    this.zoneLabelCount = labelsOf(options.zoneKey).length;
    for (let type = 0; type < 258; type++) this.hot.push(new Map());
    this.#soa = this.#makeSoa();
  }

  get soa(): SoaBytes { return this.#soa; }
  get hotCount(): number { return this.#hotCount; }
  /** Name key below the zone. */
  name(...labels: string[]): string { return joinKey(labels, this.options.zoneKey); }

  apply(message: ZoneMessage): void {
    switch (message.type) {
      case 'services':
        for (const key of message.gone) this.#removeService(key);
        for (const records of message.set) this.#setService(records);
        return;
      case 'namespaces':
        for (const name of message.gone) this.namespaces.delete(name);
        for (const name of message.set) this.namespaces.add(name);
        return;
      case 'pods':
        for (const key of message.gone) this.#removePod(key);
        for (const [namespace, name, addresses] of message.set) this.#setPod(namespace, name, addresses);
        return;
      case 'reset': return this.#reset();
      case 'state':
        this.isSynced = message.isSynced;
        this.staleSinceMs = message.staleSinceMs;
        this.serial = message.serial;
        this.#soa = this.#makeSoa();
        return;
      case 'barrier': return;
    }
  }

  /** Services that have `ip` as cluster address or ready endpoint. */
  ownersOf(ip: string): readonly ServiceZone[] {
    const owners = this.#reverse.get(ip);
    return owners === undefined ? [] : Array.isArray(owners) ? owners : [owners];
  }

  /** The Namespace of the Pods at an address; undefined when there is none, or Pods of several Namespaces share it. */
  namespaceAt(ip: string): string | undefined {
    const present = this.#podsAt.get(ip);
    if (present === undefined) return undefined;
    const namespaces = new Set((typeof present === 'string' ? [present] : [...present]).map((key) => key.slice(0, key.indexOf('/'))));
    return namespaces.size === 1 ? [...namespaces][0] : undefined;
  }

  /** Keeps a compiled answer until `service` changes. */
  remember(qtype: number, key: string, service: ServiceZone, template: Template): void {
    const table = this.hot[qtype];
    if (table === undefined) return;
    if (this.#hotCount >= hotEntriesMax || this.#hotBytes >= hotBytesMax) this.#forgetAll();
    table.set(key, template);
    service.hotEntries.push(qtype, key);
    this.#hotCount += 1;
    this.#hotBytes += hotSize(template, key);
  }

  #setService(records: ServiceRecords): void {
    const service = new ServiceZone(records);
    this.#removeService(service.key);
    this.services.set(service.key, service);
    for (const ip of addressesOf(records)) {
      const owners = this.#reverse.get(ip);
      if (owners === undefined) this.#reverse.set(ip, service);
      else if (Array.isArray(owners)) owners.push(service);
      else this.#reverse.set(ip, [owners, service]);
    }
  }

  #removeService(key: string): void {
    const service = this.services.get(key);
    if (service === undefined) return;
    this.services.delete(key);
    this.#forget(service);
    for (const ip of addressesOf(service.records)) {
      const owners = this.#reverse.get(ip);
      if (owners === service) this.#reverse.delete(ip);
      else if (Array.isArray(owners)) {
        const rest = owners.filter((owner) => owner !== service);
        if (rest.length === 1 && rest[0] !== undefined) this.#reverse.set(ip, rest[0]);
        else this.#reverse.set(ip, rest);
      }
    }
  }

  #forget(service: ServiceZone): void {
    const entries = service.hotEntries;
    for (let index = 0; index < entries.length; index += 2) {
      const table = this.hot[entries[index] as number];
      const key = entries[index + 1] as string;
      const template = table?.get(key);
      if (template === undefined) continue;
      table?.delete(key);
      this.#hotCount -= 1;
      this.#hotBytes -= hotSize(template, key);
    }
    entries.length = 0;
  }

  #forgetAll(): void {
    for (const table of this.hot) table.clear();
    for (const service of this.services.values()) service.hotEntries.length = 0;
    this.#hotCount = 0;
    this.#hotBytes = 0;
  }

  #setPod(namespace: string, name: string, addresses: readonly string[]): void {
    const key = `${namespace}/${name}`;
    this.#removePod(key);
    this.#podAddresses.set(key, addresses);
    for (const ip of addresses) {
      this.podByAddress.set(`${namespace} ${ip}`, key);
      const present = this.#podsAt.get(ip);
      if (present === undefined) this.#podsAt.set(ip, key);
      else if (typeof present === 'string') this.#podsAt.set(ip, new Set([present, key]));
      else present.add(key);
    }
  }

  #removePod(key: string): void {
    const namespace = key.slice(0, key.indexOf('/'));
    for (const ip of this.#podAddresses.get(key) ?? []) {
      const present = this.#podsAt.get(ip);
      if (present === key) this.#podsAt.delete(ip);
      else if (present instanceof Set && present.delete(key) && present.size === 0) this.#podsAt.delete(ip);
      if (this.podByAddress.get(`${namespace} ${ip}`) !== key) continue;
      const heir = present instanceof Set ? [...present].find((other) => other.startsWith(`${namespace}/`)) : undefined;
      if (heir === undefined) this.podByAddress.delete(`${namespace} ${ip}`);
      else this.podByAddress.set(`${namespace} ${ip}`, heir);
    }
    this.#podAddresses.delete(key);
  }

  #reset(): void {
    this.#forgetAll();
    this.services.clear();
    this.namespaces.clear();
    this.podByAddress.clear();
    this.#podsAt.clear();
    this.#podAddresses.clear();
    this.#reverse.clear();
  }

  #makeSoa(): SoaBytes {
    const ttl = Math.min(this.options.ttlSeconds, 300);
    const bytes = Buffer.alloc(12 + 9 + 13 + 20);
    bytes.writeUInt16BE(rrTypes.SOA, 2);
    bytes.writeUInt16BE(classIN, 4);
    bytes.writeUInt32BE(ttl, 6);
    bytes.writeUInt16BE(9 + 13 + 20, 10);
    bytes.write('\x02ns\x03dns', 12, 'latin1');
    bytes.write('\x0ahostmaster', 21, 'latin1');
    let at = 34;
    for (const value of [this.serial, soaTimes.refresh, soaTimes.retry, soaTimes.expire, this.options.ttlSeconds]) at = bytes.writeUInt32BE(value >>> 0, at);
    return { bytes, pointerOffsets: [0, 19, 32] };
  }
}

/** Rough memory of one entry: the objects around the octets weigh most. */
function hotSize(template: Template, key: string): number { return template.body.length + key.length + 600; }

function* addressesOf(records: ServiceRecords): Generator<string> {
  const seen = new Set<string>();
  for (const ip of records.clusterIPs) if (!seen.has(ip)) { seen.add(ip); yield ip; }
  for (const [ip] of records.endpoints) if (!seen.has(ip)) { seen.add(ip); yield ip; }
}
