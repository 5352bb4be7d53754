// The parts around the kernel without a kernel: sync loop timing, bisection of a refused batch, health answers, UDP
// flow decisions, NodePort addresses, host ports, element text.

import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import { joinService } from '../../api/services.ts';
import type { Pod } from '../../api/types.ts';
import type { PortPlan, ServicePlan } from '../../proxy/backend.ts';
import { parseCIDRs, resolveNodePortAddresses } from '../../proxy/config.ts';
import { HealthServer, ProxyHealth } from '../../proxy/healthcheck.ts';
import { planHostPorts } from '../../proxy/host-ports.ts';
import { ProxyMetrics } from '../../proxy/metrics.ts';
import { isStale, UdpFlows, type Flow } from '../../proxy/nftables/conntrack.ts';
import { commandsOf, parseElements } from '../../proxy/nftables/element-text.ts';
import { planElements } from '../../proxy/nftables/elements.ts';
import { FamilyEngine } from '../../proxy/nftables/engine.ts';
import type { KernelPort, OperationGroup } from '../../proxy/nftables/port.ts';
import { planService } from '../../proxy/plan.ts';
import { SyncLoop } from '../../proxy/sync-loop.ts';
import { service, slice } from '../lib/builders.ts';

/** Time stands still until `advance`. */
class VirtualClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; callback: () => void }[] = [];
  nowMs(): number { return 1_700_000_000_000 + this.#nowMs; }
  monotonicMs(): number { return this.#nowMs; }
  after(delayMs: number, callback: () => void): { cancel(): void } {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return { cancel: () => { this.#timers = this.#timers.filter((each) => each !== timer); } };
  }
  every(): { cancel(): void } { return { cancel: () => {} }; }
  async advance(ms: number): Promise<void> {
    this.#nowMs += ms;
    const due = this.#timers.filter((timer) => timer.atMs <= this.#nowMs);
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.#nowMs);
    for (const timer of due) timer.callback();
    await settle();
  }
}
const settle = async (): Promise<void> => { for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => { setImmediate(resolve); }); };

describe('sync loop', () => {
  const make = (sync: (isFull: boolean) => Promise<void>): { loop: SyncLoop; clock: VirtualClock } => {
    const clock = new VirtualClock();
    return { clock, loop: new SyncLoop({ clock, periodMsMin: 10, retryMsMin: 100, retryMsMax: 1_000, sync }) };
  };

  test('the first change at once, later ones gathered until the period is over', async () => {
    const runs: boolean[] = [];
    const { loop, clock } = make((isFull) => { runs.push(isFull); return Promise.resolve(); });
    loop.request(false);
    expect(runs).toEqual([]);
    await settle();
    expect(runs).toEqual([false]);
    for (let change = 0; change < 5; change++) loop.request(change === 3);
    await settle();
    expect(runs).toHaveLength(1);
    await clock.advance(10);
    expect(runs).toEqual([false, true]);
  });

  test('one sync at a time; what comes meanwhile is synced after it', async () => {
    let running = 0;
    let most = 0;
    let count = 0;
    const gate = Promise.withResolvers<undefined>();
    const { loop, clock } = make(async () => { running += 1; count += 1; most = Math.max(most, running); await gate.promise; running -= 1; });
    loop.request(false);
    await settle();
    loop.request(false);
    gate.resolve(undefined);
    await settle();
    await clock.advance(10);
    await loop.whenIdle();
    expect([most, count]).toEqual([1, 2]);
  });

  test('after a failure everything again, later and later', async () => {
    const runs: [number, boolean][] = [];
    const { loop, clock } = make((isFull) => { runs.push([clock.monotonicMs(), isFull]); return runs.length < 4 ? Promise.reject(new Error('no')) : Promise.resolve(); });
    loop.request(false);
    await settle();
    for (let step = 0; step < 100; step++) await clock.advance(10);
    await loop.whenIdle();
    expect(runs).toEqual([[0, false], [100, true], [300, true], [700, true]]);
  });

  test('nothing runs after stop', async () => {
    let count = 0;
    const { loop } = make(() => { count += 1; return Promise.resolve(); });
    loop.request(false);
    await loop.stop();
    await settle();
    expect(count).toBe(0);
  });
});

const planOf = (key: string, ip: string, endpoints: string[] = ['10.244.0.1']): ServicePlan => {
  const plan = planService(joinService(key, service(key, { clusterIP: ip }), new Map([['a', slice(key, endpoints)]])), { name: 'n1' }, ['IPv4']);
  if (plan === undefined) throw new Error('no plan');
  return plan;
};

/** A kernel that refuses every batch that holds one of these addresses, with or without saying which group. */
function pickyPort(refused: string, isNaming: boolean): KernelPort & { applied: Set<string>; batches: number } {
  const port = {
    applied: new Set<string>(), batches: 0, mechanism: 'picky',
    open: () => Promise.resolve({ isAdopted: false, ownership: 'none' as const }), load: () => Promise.resolve(), dump: () => Promise.resolve([]), timeouts: () => Promise.resolve(new Map<number, number>()),
    generation: () => Promise.resolve(1), isIntact: () => Promise.resolve(true), counters: () => Promise.resolve([]), remove: () => Promise.resolve(), close: () => Promise.resolve(),
    apply: (groups: readonly OperationGroup[]) => {
      port.batches += 1;
      const bad = groups.flatMap((group, index) => (group.adds.some((operation) => operation.key.includes(refused)) ? [index] : []));
      if (bad.length > 0) return Promise.resolve({ isApplied: false, failed: isNaming ? bad : [], reason: 'errno 22' });
      for (const group of groups) for (const operation of group.adds) port.applied.add(operation.key);
      return Promise.resolve({ isApplied: true, failed: [], reason: '' });
    },
  };
  return port;
}

describe('a Service that the kernel refuses', () => {
  for (const isNaming of [true, false]) {
    test(`is left out and reported, all others are applied (${isNaming ? 'the kernel names it' : 'found by halving'})`, async () => {
      const port = pickyPort('\x0a\x60\x00\x07', isNaming);
      const engine = new FamilyEngine({ port, ownership: 'none', nodeName: 'n1', nodeIPs: [], log: silentLog, program: { family: 'IPv4', serviceCIDRs: [], localClients: undefined, nodePorts: 'all', isMasqueradeAll: false, isExternalServed: true } });
      await engine.start();
      const services = new Map(Array.from({ length: 100 }, (_unused, index): [string, ServicePlan] => [`default/s${index}`, planOf(`default/s${index}`, `10.96.0.${index}`)]));
      const result = await engine.sync({ isFull: true, services });
      expect(result.failures.map((failure) => failure.key)).toEqual(['default/s7']);
      expect(result.failures[0]?.reason).toContain('errno 22');
      expect([...port.applied].filter((key) => key.length === 12)).toHaveLength(99);
      expect(port.batches).toBeLessThan(isNaming ? 3 : 25);
      // Once it is gone or mended, it is applied like any other.
      const mended = await engine.sync({ isFull: false, services: new Map([['default/s7', planOf('default/s7', '10.96.0.200')]]) });
      expect(mended.failures).toEqual([]);
    });
  }
});

test('a batch that is only too large goes in smaller ones', async () => {
  const port = pickyPort('nothing', false);
  const apply = port.apply;
  port.apply = (groups) => (groups.filter((group) => group.adds.length > 0).length > 30 ? Promise.resolve({ isApplied: false, failed: [], reason: 'errno 90' }) : apply(groups));
  const engine = new FamilyEngine({ port, ownership: 'none', nodeName: 'n1', nodeIPs: [], log: silentLog, program: { family: 'IPv4', serviceCIDRs: [], localClients: undefined, nodePorts: 'all', isMasqueradeAll: false, isExternalServed: true } });
  await engine.start();
  const services = new Map(Array.from({ length: 100 }, (_unused, index): [string, ServicePlan] => [`default/s${index}`, planOf(`default/s${index}`, `10.96.0.${index}`)]));
  const result = await engine.sync({ isFull: true, services });
  expect(result.failures).toEqual([]);
  expect([...port.applied].filter((key) => key.length === 12)).toHaveLength(100);
});

describe('health', () => {
  test('healthy before the first sync, unhealthy when a change waits too long, healthy after it', async () => {
    const clock = new VirtualClock();
    const health = new ProxyHealth({ clock, limitMs: 1_000, families: ['IPv4', 'IPv6'] });
    expect(health.healthz().code).toBe(200);
    health.queued();
    await clock.advance(999);
    expect(health.livez().code).toBe(200);
    await clock.advance(1);
    expect(health.livez().code).toBe(503);
    health.synced(true);
    expect(health.livez().code).toBe(200);
    expect(Object.keys(JSON.parse(health.healthz().body) as object)).toEqual(['lastUpdated', 'currentTime', 'nodeEligible', 'healthy', 'status']);
    expect(JSON.parse(health.livez().body)).not.toHaveProperty('nodeEligible');
  });

  test('a node that the autoscaler removes fails /healthz but not /livez', () => {
    const health = new ProxyHealth({ clock: new VirtualClock(), limitMs: 1_000, families: ['IPv4'] });
    health.setNode({ metadata: { name: 'n1' }, spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] } });
    expect([health.healthz().code, health.livez().code]).toEqual([503, 200]);
    health.setNode({ metadata: { name: 'n1', deletionTimestamp: '2026-01-01T00:00:00Z' } });
    expect(health.healthz().code).toBe(503);
    health.setNode({ metadata: { name: 'n1' } });
    expect(health.healthz().code).toBe(200);
  });

  test('the health server answers /healthz and /livez, nothing else', async () => {
    const health = new ProxyHealth({ clock: new VirtualClock(), limitMs: 1_000, families: ['IPv4'] });
    const server = new HealthServer(health);
    await server.listen('127.0.0.1', 0);
    health.setNode({ metadata: { name: 'n1', deletionTimestamp: '2026-01-01T00:00:00Z' } });
    const codes = await Promise.all(['/healthz', '/livez', '/metrics'].map(async (path) => (await fetch(`http://127.0.0.1:${server.port}${path}`)).status));
    expect(codes).toEqual([503, 200, 404]);
    await expect(new HealthServer(health).listen('127.0.0.1', server.port)).rejects.toMatchObject({ code: 'PortInUse' });
    server.close();
  });

  test('metrics carry kube-proxy\'s names', async () => {
    const registry = new Registry();
    const metrics = new ProxyMetrics(registry, { pendingCount: 1, serviceCount: 2, failedCount: 0, elementCount: 9, driftCount: 3, conntrackDeletedCount: 4, dropping: (policy) => (policy === 'internal' ? 5 : 6) });
    metrics.synced(3, true, 2, 8, 1_000);
    metrics.programmed(20);
    const text = await registry.metrics();
    for (const line of ['kubeproxy_sync_proxy_rules_duration_seconds_count 1', 'kubeproxy_sync_full_proxy_rules_duration_seconds_count 1', 'kubeproxy_network_programming_duration_seconds_count 1', 'kubeproxy_sync_proxy_rules_last_timestamp_seconds 1', 'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"} 5', 'netloom_proxy_drift_repairs_total 3']) expect(text).toContain(line);
  });
});

describe('UDP flows', () => {
  const port = (serving: string[], more: Partial<PortPlan> = {}): PortPlan => ({
    key: 'k', namespace: 'ns', name: 's', portName: '', family: 'IPv4', protocol: 'UDP', port: 53, nodePort: 30_053, appProtocol: undefined, clusterIP: '10.96.0.1', externalIPs: ['198.51.100.1'], loadBalancerIPs: [],
    sourceRanges: [], isInternalLocal: false, isExternalLocal: false, affinityTimeoutSeconds: 0, cluster: [], local: [], hasAny: true, serving, ...more,
  });
  const info = joinService('ns/s', service('ns/s'), new Map());
  const plan = (...ports: PortPlan[]): ServicePlan => ({ key: 'ns/s', info, ports });
  const flow = (destination: string, destinationPort: number, answeredBy: string): Flow => ({ family: 2, destination, port: destinationPort, answeredBy, tuple: Buffer.alloc(0) });
  const isNode = (ip: string): boolean => ip === '192.168.0.1';

  test('the first state after a start removes nothing', () => { expect(new UdpFlows().update('ns/s', plan(port(['10.244.0.1'])), true).size).toBe(0); });
  test('an endpoint that no longer serves', () => {
    const flows = new UdpFlows();
    flows.update('ns/s', plan(port(['10.244.0.1', '10.244.0.2'])), true);
    const stale = flows.update('ns/s', plan(port(['10.244.0.2'])), false);
    expect(isStale(flow('10.96.0.1', 53, '10.244.0.1'), stale, isNode)).toBe(true);
    expect(isStale(flow('10.96.0.1', 53, '10.244.0.2'), stale, isNode)).toBe(false);
    expect(isStale(flow('198.51.100.1', 53, '10.244.0.1'), stale, isNode)).toBe(true);
    expect(isStale(flow('192.168.0.1', 30_053, '10.244.0.1'), stale, isNode)).toBe(true);
  });
  test('a foreign flow that only uses the NodePort\'s number stays', () => {
    const flows = new UdpFlows();
    flows.update('ns/s', plan(port(['10.244.0.1'])), true);
    expect(isStale(flow('8.8.8.8', 30_053, '8.8.8.8'), flows.update('ns/s', undefined, false), isNode)).toBe(false);
  });
  test('no endpoints left, Service deleted, port changed: all its flows', () => {
    for (const next of [plan(port([])), undefined, plan(port(['10.244.0.1'], { port: 54 }))]) {
      const flows = new UdpFlows();
      flows.update('ns/s', plan(port(['10.244.0.1'])), true);
      expect(isStale(flow('10.96.0.1', 53, '10.244.0.1'), flows.update('ns/s', next, false), isNode)).toBe(true);
    }
  });
  test('more endpoints, TCP ports and unchanged Services touch nothing', () => {
    const flows = new UdpFlows();
    flows.update('ns/s', plan(port(['10.244.0.1'])), true);
    expect(flows.update('ns/s', plan(port(['10.244.0.1', '10.244.0.2'])), false).size).toBe(0);
    expect(flows.update('ns/t', plan(port([], { protocol: 'TCP' })), false).size).toBe(0);
  });
});

describe('configuration', () => {
  const ips = ['192.168.0.1', 'fd00::1'];
  test('bind on loopback: NodePorts on loopback only', () => { expect(resolveNodePortAddresses({ bind: '127.0.0.1', nodePortAddresses: undefined }, ips)).toEqual({ kernel: [], loopback: ['127.0.0.1', '::1'] }); });
  test('bind on everything: all addresses and loopback', () => { expect(resolveNodePortAddresses({ bind: '0.0.0.0', nodePortAddresses: [] }, ips)).toEqual({ kernel: 'all', loopback: ['127.0.0.1', '::1'] }); });
  test('bind on one address: that one', () => { expect(resolveNodePortAddresses({ bind: '192.168.0.1', nodePortAddresses: undefined }, ips)).toEqual({ kernel: ['192.168.0.1/32'], loopback: [] }); });
  test('primary, a network, localhost', () => {
    expect(resolveNodePortAddresses({ bind: '0.0.0.0', nodePortAddresses: ['primary', '10.0.0.0/8', 'localhost'] }, ips)).toEqual({ kernel: ['192.168.0.1/32', 'fd00::1/128', '10.0.0.0/8'], loopback: ['127.0.0.1', '::1'] });
  });
  test('what is no CIDR is refused with a hint', () => { expect(() => parseCIDRs('serviceCIDRs', ['10.96.0.0'])).toThrow(/serviceCIDRs: "10.96.0.0" is not a CIDR/); });
});

describe('host ports', () => {
  const pod = (more: Partial<NonNullable<Pod['spec']>> = {}, status: Pod['status'] = { phase: 'Running', podIP: '10.244.0.5' }): Pod => ({
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'ns' }, status, spec: { nodeName: 'n1', containers: [{ name: 'c', ports: [{ containerPort: 80, hostPort: 8080 }, { containerPort: 53, hostPort: 5353, protocol: 'UDP', hostIP: '192.168.0.1' }] }], ...more },
  });
  test('a port on every address and one on its own address, source kept', () => {
    const ports = planHostPorts(pod(), 'n1', ['IPv4', 'IPv6'])?.ports ?? [];
    expect(ports.map(({ protocol, nodePort, externalIPs, isExternalLocal }) => ({ protocol, nodePort, externalIPs, isExternalLocal }))).toEqual([
      { protocol: 'TCP', nodePort: 8080, externalIPs: [], isExternalLocal: true }, { protocol: 'UDP', nodePort: 0, externalIPs: ['192.168.0.1'], isExternalLocal: true },
    ]);
    expect(ports[0]?.local[0]).toMatchObject({ ip: '10.244.0.5', port: 80 });
  });
  test('not for Pods of other nodes, host-network Pods, finished Pods, Pods without address', () => {
    expect(planHostPorts(pod(), 'n2', ['IPv4'])).toBeUndefined();
    expect(planHostPorts(pod({ hostNetwork: true }), 'n1', ['IPv4'])).toBeUndefined();
    expect(planHostPorts(pod({}, { phase: 'Failed', podIP: '10.244.0.5' }), 'n1', ['IPv4'])).toBeUndefined();
    expect(planHostPorts(pod({}, { phase: 'Pending' }), 'n1', ['IPv4'])).toBeUndefined();
  });
});

describe('elements as nft text', () => {
  test('every kind of element reads as it was written', () => {
    const object = service('ns/s', { clusterIP: '10.96.0.1', type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.0/8', '192.0.2.7/32'], sessionAffinity: 'ClientIP', ports: [{ name: '', port: 80, protocol: 'TCP', nodePort: 30_080 }] });
    object.status = { loadBalancer: { ingress: [{ ip: '198.51.100.1' }] } };
    const plan = planService(joinService('ns/s', object, new Map([['a', slice('ns/s', ['10.244.0.1'])]])), { name: 'n1' }, ['IPv4']);
    const { elements } = planElements(plan?.ports ?? [], { family: 'IPv4', nodeName: 'n1', nodeIPs: [], own: undefined, owns: () => true, poolOf: () => 3, previous: () => undefined, timeoutClass: () => 1 });
    const adds = [...elements].map(([id, data]) => ({ isDelete: false, set: id.charCodeAt(0), key: id.slice(1), data }));
    const lines = commandsOf([{ deletes: [], adds }], 'IPv4');
    expect(lines).toContain('add element ip netloom vips { 10.96.0.1 . tcp . 80 : 0x88100001, 198.51.100.1 . tcp . 80 : 0xb0100001 }');
    expect(lines).toContain('add element ip netloom nodeports { tcp . 30080 : 0x90100001 }');
    expect(lines).toContain('add element ip netloom sources { 198.51.100.1 . tcp . 80 . 10.0.0.0-10.255.255.255, 198.51.100.1 . tcp . 80 . 192.0.2.7-192.0.2.7 }');
    expect(lines).toContain('add element ip netloom affinity-endpoints { 0x00003000 : 10.244.0.1 . 8080 }');
    const json = JSON.stringify({ nftables: [{ set: { elem: [{ concat: ['198.51.100.1', 'tcp', 80, { prefix: { addr: '10.0.0.0', len: 8 } }] }] } }] });
    expect(parseElements(json, 11)[0]).toEqual(adds.filter((each) => each.set === 11).map((each) => [each.key, each.data])[0]);
  });
});
