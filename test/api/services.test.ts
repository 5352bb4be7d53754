// What the Service view counts, joins and marks (rules of section 1 of the Service proxy's behaviour).

import { expect, test } from 'vitest';
import type { Informer, InformerEvent, InformerListener } from '../../api/informer.ts';
import { ServiceView } from '../../api/services.ts';
import { ObjectStore } from '../../api/store.ts';
import { objectKey } from '../../api/meta.ts';
import type { EndpointSlice, KubeObject, Service, SliceEndpoint } from '../../api/types.ts';
import { service, slice } from '../lib/builders.ts';

class Source<T extends KubeObject> {
  readonly store = new ObjectStore<T>();
  readonly hasSynced = true;
  readonly #listeners: InformerListener<T>[] = [];
  whenSynced(): Promise<void> { return Promise.resolve(); }
  onChange(listener: InformerListener<T>): () => void { this.#listeners.push(listener); return () => {}; }
  put(object: T): void {
    const key = objectKey(object);
    const old = this.store.set(key, object);
    this.#emit({ type: old === undefined ? 'add' : 'update', key, object, old });
  }
  drop(key: string): void { const old = this.store.delete(key); if (old !== undefined) this.#emit({ type: 'delete', key, object: old, old }); }
  #emit(event: InformerEvent<T>): void { for (const listener of this.#listeners) listener(event); }
}

function makeView(options: ConstructorParameters<typeof ServiceView>[1] = {}): { services: Source<Service>; slices: Source<EndpointSlice>; view: ServiceView; dirty: string[] } {
  const services = new Source<Service>();
  const slices = new Source<EndpointSlice>();
  const view = new ServiceView({ services: services as unknown as Informer<Service>, endpointSlices: slices as unknown as Informer<EndpointSlice> }, options);
  const dirty: string[] = [];
  view.onDirty((key) => dirty.push(key));
  return { services, slices, view, dirty };
}

test('a Service and its slices join per port by name and protocol, the endpoint port coming from the slice', () => {
  const { services, slices, view } = makeView();
  services.put(service('shop/web', { clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'], ports: [{ name: 'http', port: 80, targetPort: 1 }, { name: 'dns', port: 53, protocol: 'UDP' }] }));
  slices.put(slice('shop/web', ['10.0.0.1', '10.0.0.2'], { ports: [{ name: 'http', port: 8080, protocol: 'TCP' }, { name: 'dns', port: 5353, protocol: 'UDP' }, { name: 'other', port: 1 }] }));
  const info = view.get('shop/web');
  expect(info?.isProxied).toBe(true);
  expect(info?.ports.map((port) => [port.key, port.endpoints.IPv4.map((item) => `${item.ip}:${item.port}`)])).toEqual([
    ['shop/web:http:TCP', ['10.0.0.1:8080', '10.0.0.2:8080']], ['shop/web:dns:UDP', ['10.0.0.1:5353', '10.0.0.2:5353']]]);
});

test('conditions default to ready, serving and not terminating', () => {
  const { services, slices, view } = makeView();
  services.put(service('web', { clusterIP: '10.96.0.9' }));
  const raw: SliceEndpoint[] = [{ addresses: ['10.0.0.1'] }, { addresses: ['10.0.0.2'], conditions: { ready: false, serving: true, terminating: true } }, { addresses: ['10.0.0.3', '10.0.0.4'], conditions: { ready: null } }];
  slices.put(slice('web', raw));
  expect(view.get('default/web')?.ports[0]?.endpoints.IPv4.map((item) => [item.ip, item.ready, item.serving, item.terminating])).toEqual([
    ['10.0.0.1', true, true, false], ['10.0.0.2', false, true, true], ['10.0.0.3', true, true, false]]);
});

test.each([
  ['headless', { clusterIP: 'None' }, {}, false], ['no clusterIP', {}, {}, false], ['ExternalName with a leftover clusterIP', { type: 'ExternalName', clusterIP: '10.96.0.9' }, {}, false],
  ['given to another proxy', { clusterIP: '10.96.0.9' }, { 'service.kubernetes.io/service-proxy-name': 'other' }, false],
  ['labelled headless', { clusterIP: '10.96.0.9' }, { 'service.kubernetes.io/headless': '' }, false], ['plain', { clusterIP: '10.96.0.9' }, {}, true],
] as [string, NonNullable<Service['spec']>, Record<string, string>, boolean][])('a Service that is %s is proxied: %s', (_name, spec, labels, expected) => {
  const { services, view } = makeView();
  services.put(service('web', spec, { labels }));
  expect(view.get('default/web')?.isProxied).toBe(expected);
});

test('a port with nil name, nil number or 0, an FQDN slice and a slice without Service label are ignored', () => {
  const { services, slices, view } = makeView();
  services.put(service('web', { clusterIP: '10.96.0.9' }));
  slices.put(slice('web', ['10.0.0.1'], { name: 'a', ports: [{ name: null, port: 1 }, { name: '', port: null }, { name: '', port: 0 }] }));
  slices.put(slice('web', ['example.com'], { name: 'b', addressType: 'FQDN' }));
  const loose = slice('web', ['10.0.0.2'], { name: 'c' });
  delete loose.metadata.labels?.['kubernetes.io/service-name'];
  slices.put(loose);
  expect(view.get('default/web')?.ports[0]?.endpoints.IPv4).toEqual([]);
});

test('an address in several slices counts once and the local copy wins', () => {
  const { services, slices, view } = makeView({ nodeName: 'here' });
  services.put(service('web', { clusterIP: '10.96.0.9' }));
  slices.put(slice('web', [{ addresses: ['10.0.0.1'], nodeName: 'there' }], { name: 'a' }));
  slices.put(slice('web', [{ addresses: ['10.0.0.1'], nodeName: 'here' }], { name: 'b' }));
  slices.put(slice('web', [{ addresses: ['10.0.0.1'], nodeName: 'elsewhere' }], { name: 'c' }));
  expect(view.get('default/web')?.ports[0]?.endpoints.IPv4.map((item) => item.nodeName)).toEqual(['here']);
});

test('old spellings with leading zeros mean the decimal address', () => {
  const { services, slices, view } = makeView();
  services.put(service('web', { clusterIP: '010.096.000.009', externalIPs: ['192.000.002.001'] }));
  slices.put(slice('web', ['010.000.000.001']));
  const info = view.get('default/web');
  expect([info?.clusterIPs, info?.externalIPs, info?.ports[0]?.endpoints.IPv4[0]?.ip]).toEqual([['10.96.0.9'], ['192.0.2.1'], '10.0.0.1']);
});

test('ipMode Proxy addresses are left alone and source ranges are trimmed', () => {
  const { services, view } = makeView();
  const lb = service('web', { type: 'LoadBalancer', clusterIP: '10.96.0.9', loadBalancerSourceRanges: [' 192.0.2.0/24 '] });
  lb.status = { loadBalancer: { ingress: [{ ip: '198.51.100.1', ipMode: 'Proxy' }, { ip: '198.51.100.2', ipMode: 'VIP' }, { ip: '198.51.100.3' }, { hostname: 'lb.example' }] } };
  services.put(lb);
  expect(view.get('default/web')).toMatchObject({ loadBalancerIPs: ['198.51.100.2', '198.51.100.3'], sourceRanges: ['192.0.2.0/24'] });
});

test('the same joined object is returned until an event marks the Service dirty, and moves of a slice mark both Services', () => {
  const { services, slices, view, dirty } = makeView();
  services.put(service('a', { clusterIP: '10.96.0.1' }));
  services.put(service('b', { clusterIP: '10.96.0.2' }));
  slices.put(slice('a', ['10.0.0.1'], { name: 's' }));
  const first = view.get('default/a');
  expect(view.get('default/a')).toBe(first);
  dirty.length = 0;
  slices.put(slice('b', ['10.0.0.1'], { name: 's' }));
  expect(dirty).toEqual(['default/a', 'default/b']);
  expect(view.get('default/a')?.ports[0]?.endpoints.IPv4).toEqual([]);
  services.drop('default/a');
  expect(view.get('default/a')).toBeUndefined();
});

test('the trigger time of a slice change is passed on once', () => {
  const { services, slices, view } = makeView();
  services.put(service('a', { clusterIP: '10.96.0.1' }));
  const times: (number | undefined)[] = [];
  view.onDirty((_key, time) => times.push(time));
  const stamp = { 'endpoints.kubernetes.io/last-change-trigger-time': '2026-01-01T00:00:00.5Z' };
  slices.put(slice('a', ['10.0.0.1'], { annotations: stamp }));
  slices.put(slice('a', ['10.0.0.2'], { annotations: stamp }));
  expect(times).toEqual([Date.parse('2026-01-01T00:00:00.5Z'), undefined]);
});
