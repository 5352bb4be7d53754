// Gives Services their cluster IPs, node ports and health check ports. Everything a write needs is taken at once,
// before the write; commit lets go of what the old version no longer uses, release gives back what was taken. The
// stored Services are the truth: the state here is rebuilt from them at start and kept in step by ./service-sync.ts.
// Cost: O(ports) per write, whatever the number of Services.
// Source: kubernetes pkg/registry/core/service/storage/alloc.go.

import { parseCIDR } from '../../api/address.ts';
import { invalid, NetloomError } from '../../api/errors.ts';
import { objectKey } from '../../api/meta.ts';
import type { IPFamily, Service, ServiceSpec, StatusCause } from '../../api/types.ts';
import { normalizeClusterIPs } from '../defaults/service.ts';
import { Problems } from '../validation/problems.ts';
import { validateServiceIPs } from '../validation/service-ips.ts';
import { IPRange } from './ip-range.ts';
import { PortRange } from './port-range.ts';
import { dropTypeDependentFields, hasClusterIPs, hasHealthCheckPort, hasNodePorts, isHeadless, nodePortsOf, patchAllocatedValues, settleFamilies } from './service-fields.ts';
import type { Reservation } from './types.ts';

export interface ServiceAllocatorOptions {
  /** First is the primary range. */
  serviceCIDRs: readonly string[];
  nodePortRange?: { readonly from: number; readonly to: number };
  random?: () => number;
}

/** A Service that holds something which is not its own. */
export interface AllocationConflict { readonly serviceKey: string; readonly uid: string; readonly kind: 'ip' | 'port' | 'ipOutside' | 'portOutside'; readonly value: string; readonly holder: string }

export const defaultNodePortRange: Readonly<{ from: number; to: number }> = Object.freeze({ from: 30_000, to: 32_767 });

export class ServiceAllocator {
  readonly ranges: ReadonlyMap<IPFamily, IPRange>;
  readonly families: readonly IPFamily[];
  readonly ports: PortRange;

  constructor(options: ServiceAllocatorOptions) {
    const ranges = new Map<IPFamily, IPRange>();
    for (const text of options.serviceCIDRs) {
      const cidr = parseCIDR(text);
      if (cidr === undefined) throw new NetloomError('ConfigInvalid', `"${text}" is not a Service range`, { source: 'config', hint: 'write it as 10.96.0.0/16' });
      if (ranges.has(cidr.family)) throw new NetloomError('ConfigInvalid', `there are two ${cidr.family} Service ranges`, { source: 'config', hint: 'give at most one range per family' });
      ranges.set(cidr.family, new IPRange(cidr, options.random));
    }
    this.ranges = ranges;
    this.families = [...ranges.keys()];
    this.ports = new PortRange(options.nodePortRange ?? defaultNodePortRange, options.random);
  }

  /** Takes what stored Services hold; returns what two of them hold or what lies outside the ranges. */
  reserveFromExisting(services: Iterable<Service>): AllocationConflict[] {
    const conflicts: AllocationConflict[] = [];
    for (const service of services) conflicts.push(...this.reserve(service));
    return conflicts;
  }

  /** Takes what one stored Service holds, where nobody else has it. */
  reserve(service: Service): AllocationConflict[] {
    const conflicts: AllocationConflict[] = [];
    const [serviceKey, uid] = [objectKey(service), holderOf(service)];
    const spec = service.spec ?? {};
    for (const ip of clusterIPsOf(spec)) {
      const range = this.#rangeOf(ip);
      const offset = range?.offsetOf(ip);
      if (range === undefined || offset === undefined) { conflicts.push({ serviceKey, uid, kind: 'ipOutside', value: ip, holder: '' }); continue; }
      const holder = range.holder(offset);
      if (holder === undefined) range.hold(offset, uid);
      else if (holder !== uid) conflicts.push({ serviceKey, uid, kind: 'ip', value: ip, holder });
    }
    for (const port of allPortsOf(spec)) {
      if (!this.ports.contains(port)) { conflicts.push({ serviceKey, uid, kind: 'portOutside', value: String(port), holder: '' }); continue; }
      const holder = this.ports.holder(port);
      if (holder === undefined) this.ports.hold(port, uid);
      else if (holder !== uid) conflicts.push({ serviceKey, uid, kind: 'port', value: String(port), holder });
    }
    return conflicts;
  }

  /** Lets go of everything a deleted Service held; with `except`, of what the newer version no longer has. */
  free(service: Service, except?: Service): void {
    const uid = holderOf(service);
    const kept = except?.spec ?? {};
    const keptIPs = new Set(clusterIPsOf(kept));
    const keptPorts = allPortsOf(kept);
    for (const ip of clusterIPsOf(service.spec ?? {})) {
      const offset = keptIPs.has(ip) ? undefined : this.#rangeOf(ip)?.offsetOf(ip);
      if (offset !== undefined) this.#rangeOf(ip)?.free(offset, uid);
    }
    for (const port of allPortsOf(service.spec ?? {})) if (!keptPorts.has(port)) this.ports.free(port, uid);
  }

  /**
   * Settles the fields that depend on type and families, then takes what the Service needs. Changes `service.spec`,
   * which must be the caller's own. Throws Invalid, or InternalError when a range is full; nothing is held then.
   */
  allocate(service: Service, old: Service | undefined): Reservation {
    const spec = service.spec ??= {};
    const before = old?.spec;
    if (before !== undefined) {
      dropTypeDependentFields(spec, before);
      patchAllocatedValues(spec, before);
    }
    normalizeClusterIPs(service as unknown as Record<string, unknown>, old as unknown as Record<string, unknown> | undefined);
    const take = new Take(service, this);
    try {
      if (hasClusterIPs(spec)) {
        this.#checkIPs(service, spec, before);
        if (!isHeadless(spec)) this.#takeIPs(take, spec, before);
      }
      this.#takePorts(take, spec, before);
    } catch (error) {
      take.release();
      throw error;
    }
    return { commit: () => { if (old !== undefined) this.free(old, service); }, release: () => take.release() };
  }

  #checkIPs(service: Service, spec: ServiceSpec, before: ServiceSpec | undefined): void {
    const problems = new Problems();
    const fields = spec as unknown as Record<string, unknown>;
    validateServiceIPs(fields, { families: this.families }, problems);
    if (problems.count === 0) for (const { field, value, message } of settleFamilies(spec, before, this.families)) problems.invalid(field, value, message);
    if (problems.count > 0) throw refusal(service, problems.causes);
  }

  /** The primary address of an existing Service stays what it is: changing it is for validation to refuse. */
  #takeIPs(take: Take, spec: ServiceSpec, before: ServiceSpec | undefined): void {
    const had = before !== undefined && hasClusterIPs(before) && !isHeadless(before) ? (before.clusterIPs ?? []).length : 0;
    const ips = [...(spec.clusterIPs ?? [])];
    for (const [index, family] of (spec.ipFamilies ?? []).entries()) {
      if (index < had) continue;
      const wanted = ips[index];
      const ip = wanted === undefined || wanted === '' ? take.anyIP(family) : take.thisIP(family, wanted);
      ips[index] = ip;
    }
    if (spec.ipFamilyPolicy === 'SingleStack') ips.length = Math.min(ips.length, Math.max(1, spec.ipFamilies?.length ?? 1));
    spec.clusterIPs = ips;
    if (ips[0] !== undefined) spec.clusterIP = ips[0];
  }

  #takePorts(take: Take, spec: ServiceSpec, before: ServiceSpec | undefined): void {
    const had = before === undefined ? new Set<number>() : allPortsOf(before);
    if (spec.type === 'NodePort' || spec.type === 'LoadBalancer') {
      const mine = new Set<number>();
      for (const [index, port] of (spec.ports ?? []).entries()) {
        if ((port.nodePort ?? 0) === 0) continue;
        if (!had.has(port.nodePort as number) && !mine.has(port.nodePort as number)) take.thisPort(port.nodePort as number, `spec.ports[${index}].nodePort`, '');
        mine.add(port.nodePort as number);
      }
      if (hasNodePorts(spec)) for (const port of spec.ports ?? []) if ((port.nodePort ?? 0) === 0) port.nodePort = sharedPort(spec, port) ?? take.anyPort('nodePort');
    }
    if (!hasHealthCheckPort(spec)) return;
    if ((spec.healthCheckNodePort ?? 0) === 0) spec.healthCheckNodePort = take.anyPort('HealthCheck NodePort');
    else if (!had.has(spec.healthCheckNodePort as number)) take.thisPort(spec.healthCheckNodePort as number, 'spec.healthCheckNodePort', `failed to allocate requested HealthCheck NodePort ${spec.healthCheckNodePort}: `);
  }

  #rangeOf(ip: string): IPRange | undefined { return this.ranges.get(ip.includes(':') ? 'IPv6' : 'IPv4'); }
}

/** What one write has taken so far. */
class Take {
  readonly #service: Service;
  readonly #holder: string;
  readonly #allocator: ServiceAllocator;
  readonly #ips: { range: IPRange; offset: number }[] = [];
  readonly #ports: number[] = [];

  constructor(service: Service, allocator: ServiceAllocator) {
    this.#service = service;
    this.#holder = holderOf(service);
    this.#allocator = allocator;
  }

  anyIP(family: IPFamily): string {
    const range = this.#allocator.ranges.get(family);
    const offset = range?.pick();
    if (range === undefined || offset === undefined) throw full('failed to allocate a serviceIP');
    range.hold(offset, this.#holder);
    this.#ips.push({ range, offset });
    return range.at(offset);
  }

  thisIP(family: IPFamily, ip: string): string {
    const range = this.#allocator.ranges.get(family);
    const offset = range?.offsetOf(ip);
    const fail = (why: string): NetloomError => {
      const problems = new Problems();
      problems.invalid('spec.clusterIPs', this.#service.spec?.clusterIPs ?? [ip], `failed to allocate IP ${ip}: ${why}`);
      return refusal(this.#service, problems.causes);
    };
    if (range === undefined || offset === undefined) throw fail(`the provided IP (${ip}) is not in the valid range. The range of valid IPs is ${range?.cidr.toString() ?? 'empty'}`);
    const holder = range.holder(offset);
    if (holder !== undefined && holder !== this.#holder) throw fail('provided IP is already allocated');
    if (holder === undefined) {
      range.hold(offset, this.#holder);
      this.#ips.push({ range, offset });
    }
    return range.at(offset);
  }

  anyPort(what: string): number {
    const port = this.#allocator.ports.pick();
    if (port === undefined) throw full(`failed to allocate a ${what}`);
    this.#allocator.ports.hold(port, this.#holder);
    this.#ports.push(port);
    return port;
  }

  thisPort(port: number, field: string, prefix: string): void {
    const { ports } = this.#allocator;
    const fail = (why: string): NetloomError => {
      const problems = new Problems();
      problems.invalid(field, port, `${prefix}${why}`);
      return refusal(this.#service, problems.causes);
    };
    if (!ports.contains(port)) throw fail(`provided port is not in the valid range. The range of valid ports is ${ports.toString()}`);
    const holder = ports.holder(port);
    if (holder !== undefined && holder !== this.#holder) throw fail('provided port is already allocated');
    if (holder !== undefined) return;
    ports.hold(port, this.#holder);
    this.#ports.push(port);
  }

  release(): void {
    for (const { range, offset } of this.#ips.splice(0)) range.free(offset, this.#holder);
    for (const port of this.#ports.splice(0)) this.#allocator.ports.free(port, this.#holder);
  }
}

/** The node port of another protocol on the same port number: DNS over TCP and UDP get one number. */
function sharedPort(spec: ServiceSpec, port: { port: number; protocol?: string }): number | undefined {
  return spec.ports?.find((other) => other !== port && other.port === port.port && other.protocol !== port.protocol && (other.nodePort ?? 0) !== 0)?.nodePort;
}

function clusterIPsOf(spec: ServiceSpec): string[] {
  if (!hasClusterIPs(spec) || isHeadless(spec)) return [];
  const ips = spec.clusterIPs ?? (spec.clusterIP === undefined || spec.clusterIP === '' ? [] : [spec.clusterIP]);
  return ips.filter((ip) => ip !== '');
}

function allPortsOf(spec: ServiceSpec): Set<number> {
  const ports = nodePortsOf(spec);
  if ((spec.healthCheckNodePort ?? 0) !== 0) ports.add(spec.healthCheckNodePort as number);
  return ports;
}

function holderOf(service: Service): string { return service.metadata.uid ?? objectKey(service); }
function refusal(service: Service, causes: StatusCause[]): NetloomError { return invalid('Service', '', service.metadata.name, causes); }
function full(what: string): NetloomError { return new NetloomError('InternalError', `Internal error occurred: ${what}: range is full`, { source: 'internal' }); }
