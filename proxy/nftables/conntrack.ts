// UDP flows that must move: the kernel keeps a flow on its endpoint for as long as datagrams come, so after a change
// the flows of Services whose endpoint no longer serves are removed; the next datagram is routed anew. TCP is left
// alone: its connections end by themselves, and removing them breaks graceful shutdown. Called after each sync.
//
// Only Services that this process saw change are looked at, and a restart is no change: flows are never cut by it.
// The table is listed (O(flows), filtered to UDP by us) only when a UDP Service lost an endpoint, an address or itself.
// Source: kubernetes pkg/proxy/conntrack; linux include/uapi/linux/netfilter/nfnetlink_conntrack.h.

import { formatIP } from '../../api/address.ts';
import type { Log } from '../../api/log.ts';
import type { IPFamily } from '../../api/types.ts';
import type { PlanChanges, ServicePlan } from '../backend.ts';
import type { Libraries, NetlinkSocket } from './ffi.ts';
import { NetlinkSocket as Socket, protocols } from './ffi.ts';
import { eachAttribute, messageOffsets } from './netlink.ts';
import type { Companion } from './nftables.ts';

const subsystem = 1 << 8;
const getFlow = subsystem | 1;
const deleteFlow = subsystem | 2;
const udp = 17;

/** One UDP flow: where the client sent to, and who answers. `tuple` is the original direction as netlink gave it. */
export interface Flow { readonly family: number; readonly destination: string; readonly port: number; readonly answeredBy: string; readonly tuple: Buffer }

interface Target { readonly serving: ReadonlySet<string> }

/** Decides which flows go; pure. `nodeAddresses` guards against foreign flows that merely use a NodePort's number. */
export class UdpFlows {
  /** 'ip port' or 'nodeport port' → IPs that serve; per Service, so that it can be taken back. */
  readonly #targets = new Map<string, Target>();
  readonly #byService = new Map<string, Map<string, Target>>();

  /** Notes the change; returns the targets under which a flow may now be wrong. The first plan of a Service after a start makes none. */
  update(key: string, plan: ServicePlan | undefined, isFirst: boolean): Map<string, Target> {
    const before = this.#byService.get(key);
    const after = new Map<string, Target>();
    for (const port of plan?.ports ?? []) {
      if (port.protocol !== 'UDP') continue;
      const target: Target = { serving: new Set(port.serving) };
      for (const ip of [port.clusterIP, ...port.externalIPs, ...port.loadBalancerIPs]) if (ip !== undefined) after.set(`${ip} ${port.port}`, target);
      if (port.nodePort !== 0) after.set(`nodeport ${port.family} ${port.nodePort}`, target);
    }
    const stale = new Map<string, Target>();
    for (const [name, target] of before ?? []) {
      const now = after.get(name);
      if (now === undefined) { this.#targets.delete(name); stale.set(name, { serving: new Set() }); }
      else if ([...target.serving].some((ip) => !now.serving.has(ip))) stale.set(name, now);
    }
    for (const [name, target] of after) {
      // An address without endpoints answers nothing, but a new one may hold flows that went past us before.
      if (before?.has(name) !== true && !isFirst) stale.set(name, target);
      this.#targets.set(name, target);
    }
    if (after.size === 0) this.#byService.delete(key); else this.#byService.set(key, after);
    return stale;
  }

  keys(): IterableIterator<string> { return this.#byService.keys(); }
}

/** Whether a flow goes to a stale target and is answered by an endpoint that does not serve it. */
export function isStale(flow: Flow, stale: ReadonlyMap<string, Target>, isNodeAddress: (ip: string) => boolean): boolean {
  const family: IPFamily = flow.family === 2 ? 'IPv4' : 'IPv6';
  const target = stale.get(`${flow.destination} ${flow.port}`) ?? (isNodeAddress(flow.destination) ? stale.get(`nodeport ${family} ${flow.port}`) : undefined);
  return target !== undefined && !target.serving.has(flow.answeredBy);
}

export class ConntrackCleaner implements Companion {
  readonly #socket: NetlinkSocket;
  readonly #log: Log;
  readonly #isNodeAddress: (ip: string) => boolean;
  readonly #flows = new UdpFlows();
  #isFirst = true;
  #deletedCount = 0;

  constructor(libraries: Libraries, options: { log: Log; isNodeAddress: (ip: string) => boolean }) {
    this.#socket = Socket.open(libraries.libc, protocols.netfilter);
    this.#log = options.log;
    this.#isNodeAddress = options.isNodeAddress;
  }

  get deletedCount(): number { return this.#deletedCount; }

  start(): Promise<void> { return Promise.resolve(); }

  afterSync(changes: PlanChanges): Promise<void> {
    const stale = new Map<string, Target>();
    const merge = (key: string, plan: ServicePlan | undefined): void => { for (const [name, target] of this.#flows.update(key, plan, this.#isFirst)) stale.set(name, target); };
    if (changes.isFull) for (const key of [...this.#flows.keys()]) if (!changes.services.has(key)) merge(key, undefined);
    for (const [key, plan] of changes.services) merge(key, plan);
    if (changes.isFull) this.#isFirst = false;
    if (stale.size > 0) this.#clean(stale);
    return Promise.resolve();
  }

  #clean(stale: ReadonlyMap<string, Target>): void {
    try {
      const found = listUdpFlows(this.#socket).filter((flow) => isStale(flow, stale, this.#isNodeAddress));
      for (const flow of found) removeFlow(this.#socket, flow);
      this.#deletedCount += found.length;
      if (found.length > 0) this.#log.debug('udp flows of endpoints that no longer serve removed', { count: found.length });
    } catch (err) {
      this.#log.warn('udp flows could not be cleaned', { err });
    }
  }

  stop(): Promise<void> {
    this.#socket.close();
    return Promise.resolve();
  }

  status(): readonly string[] { return []; }
}

let sequence = 1;

function header(type: number, flags: number, family: number, body: Buffer): Buffer {
  const message = Buffer.alloc(20 + body.length);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message.writeUInt32LE(sequence++, 8);
  message[16] = family;
  body.copy(message, 20);
  return message;
}

/** All UDP flows of both families. */
export function listUdpFlows(socket: NetlinkSocket): Flow[] {
  const flows: Flow[] = [];
  for (const family of [2, 10]) {
    const message = header(getFlow, 0x301, family, Buffer.alloc(0));
    socket.send(message, message.length);
    for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
      for (const at of messageOffsets(datagram)) {
        if (datagram.readUInt16LE(at + 4) !== subsystem) continue;
        const flow = readFlow(datagram, at + 20, at + datagram.readUInt32LE(at), family);
        if (flow !== undefined) flows.push(flow);
      }
    }
  }
  return flows;
}

function readFlow(buffer: Buffer, from: number, to: number, family: number): Flow | undefined {
  let original: { protocol: number; destination: string; port: number } | undefined;
  let tuple = Buffer.alloc(0);
  let answeredBy = '';
  eachAttribute(buffer, from, to, (type, start, end) => {
    if (type === 1) { original = readTuple(buffer, start, end); tuple = Buffer.from(buffer.subarray(start - 4, start - 4 + ((end - start + 4 + 3) & ~3))); }
    else if (type === 2) answeredBy = readTuple(buffer, start, end).source;
  });
  return original?.protocol === udp ? { family, destination: original.destination, port: original.port, answeredBy, tuple } : undefined;
}

function readTuple(buffer: Buffer, from: number, to: number): { protocol: number; source: string; destination: string; port: number } {
  const result = { protocol: 0, source: '', destination: '', port: 0 };
  eachAttribute(buffer, from, to, (group, groupStart, groupEnd) => {
    eachAttribute(buffer, groupStart, groupEnd, (type, start, end) => {
      if (group === 1 && (type === 1 || type === 3)) result.source = formatIP(buffer.subarray(start, end));
      else if (group === 1 && (type === 2 || type === 4)) result.destination = formatIP(buffer.subarray(start, end));
      else if (group === 2 && type === 1) result.protocol = buffer[start] ?? 0;
      else if (group === 2 && type === 3) result.port = buffer.readUInt16BE(start);
    });
  });
  return result;
}

function removeFlow(socket: NetlinkSocket, flow: Flow): void {
  const message = header(deleteFlow, 5, flow.family, flow.tuple);
  socket.send(message, message.length);
  while (socket.receive() !== undefined) { /* the answer says gone or already gone: both are fine */ }
}
