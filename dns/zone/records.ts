// What the main thread tells the DNS thread about one Service: everything its answers need, as plain values that can be
// posted to a thread and written to the snapshot file. Made by dns/feed/plan.ts, kept by zone.ts.

/** Ready endpoint: `[address, hostname or '', index into portSets, zone or '']`. */
export type EndpointRecord = readonly [ip: string, hostname: string, portSet: number, zone: string];

export interface PortRecord { readonly name: string; readonly protocol: string; readonly port: number }

export interface ServiceRecords {
  readonly namespace: string;
  readonly name: string;
  readonly kind: 'cluster' | 'headless' | 'external';
  /** Canonical, both families. */
  readonly clusterIPs: readonly string[];
  readonly externalName: string;
  /** Ports of the Service itself. */
  readonly ports: readonly PortRecord[];
  /** Ports of the EndpointSlices that the endpoints stand in. */
  readonly portSets: readonly (readonly PortRecord[])[];
  /** Ready endpoints only. */
  readonly endpoints: readonly EndpointRecord[];
  /** All endpoints, ready or not: for "0 of 3 endpoints ready". */
  readonly endpointCount: number;
}

/** Messages from the main thread to the DNS thread, in order. */
export type ZoneMessage =
  | { readonly type: 'services'; readonly set: readonly ServiceRecords[]; readonly gone: readonly string[] }
  | { readonly type: 'namespaces'; readonly set: readonly string[]; readonly gone: readonly string[] }
  /** `pods`: `[namespace, name, addresses]`. */
  | { readonly type: 'pods'; readonly set: readonly (readonly [string, string, readonly string[]])[]; readonly gone: readonly string[] }
  | { readonly type: 'reset' }
  | { readonly type: 'state'; readonly isSynced: boolean; readonly staleSinceMs: number; readonly serial: number }
  /** Ask for an `applied` message once everything before it is served. */
  | { readonly type: 'barrier'; readonly sequence: number };

export function serviceKey(records: ServiceRecords): string { return `${records.namespace}/${records.name}`; }
