// The informer against a scripted API server: what it asks, what it reports, and that nothing is lost over 410, refused
// connections and broken streams.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ApiClient, type ApiRequest, type ApiResponse, type ApiTransport } from '../../api/client.ts';
import { systemClock } from '../../api/clock.ts';
import { Informer, type InformerEvent } from '../../api/informer.ts';
import { silentLog } from '../../api/log.ts';
import { resources } from '../../api/resources.ts';
import type { ConfigMap, KubeObject } from '../../api/types.ts';
import { waitFor } from '../lib/wait-for.ts';

interface Change { revision: number; type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: ConfigMap }

/** A tiny API server of one kind with history, faults and compaction. */
class FakeServer implements ApiTransport {
  revision = 10;
  floor = 0;
  readonly objects = new Map<string, ConfigMap>();
  readonly changes: Change[] = [];
  readonly requests: string[] = [];
  refusals = 0;
  #wake = new Set<() => void>();
  #cut = new Set<() => void>();

  put(name: string, value: string): void {
    const type = this.objects.has(name) ? 'MODIFIED' : 'ADDED';
    this.revision += 1;
    const object = { metadata: { name, namespace: 'n', uid: `uid-${name}`, resourceVersion: String(this.revision) }, data: { value } } as unknown as ConfigMap;
    this.objects.set(name, object);
    this.#record({ revision: this.revision, type, object });
  }
  drop(name: string): void {
    const old = this.objects.get(name);
    if (old === undefined) return;
    this.objects.delete(name);
    this.revision += 1;
    this.#record({ revision: this.revision, type: 'DELETED', object: { ...old, metadata: { ...old.metadata, resourceVersion: String(this.revision) } } });
  }
  compact(): void { this.floor = this.revision; }
  cut(): void { for (const cut of this.#cut) cut(); }
  get watchCount(): number { return this.#cut.size; }
  #record(change: Change): void { this.changes.push(change); for (const wake of this.#wake) wake(); }

  async request(request: ApiRequest): Promise<ApiResponse> {
    this.requests.push(`${request.path}?${request.query ?? ''}`);
    if (this.refusals > 0) { this.refusals -= 1; throw new Error('refused'); }
    const query = new URLSearchParams(request.query);
    if (query.get('watch') !== 'true') return json(this.#list(query));
    return { status: 200, headers: {}, body: this.#watch(Number(query.get('resourceVersion')), request.signal) };
  }

  #list(query: URLSearchParams): unknown {
    const names = [...this.objects.keys()].sort();
    const from = query.get('continue') ?? '';
    const page = names.filter((name) => name > from).slice(0, 3);
    const last = page.at(-1);
    const isMore = last !== undefined && names.at(-1) !== last;
    return { apiVersion: 'v1', kind: 'ConfigMapList', metadata: { resourceVersion: String(this.revision), ...(isMore ? { continue: last } : {}) }, items: page.map((name) => this.objects.get(name)) };
  }

  async *#watch(from: number, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    if (from < this.floor) { yield line({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' } }); return; }
    let isCut = false;
    let position = this.changes.findIndex((change) => change.revision > from);
    if (position < 0) position = this.changes.length;
    const waiter = { wake: (): void => {} };
    const wake = (): void => waiter.wake();
    const cut = (): void => { isCut = true; waiter.wake(); };
    this.#wake.add(wake);
    this.#cut.add(cut);
    signal?.addEventListener('abort', cut);
    try {
      while (!isCut) {
        const change = this.changes[position];
        if (change !== undefined) { position += 1; const bytes = line({ type: change.type, object: change.object }); yield bytes.subarray(0, 7); yield bytes.subarray(7); continue; }
        yield line({ type: 'BOOKMARK', object: { kind: 'ConfigMap', metadata: { resourceVersion: String(this.revision) } } });
        await new Promise<void>((resolve) => { waiter.wake = resolve; if (this.changes[position] !== undefined || isCut) resolve(); });
      }
    } finally { this.#wake.delete(wake); this.#cut.delete(cut); }
  }
  async close(): Promise<void> { this.cut(); }
}

const line = (value: unknown): Uint8Array => Buffer.from(`${JSON.stringify(value)}\n`);
function json(value: unknown): ApiResponse {
  return { status: 200, headers: {}, body: (async function* body() { yield Buffer.from(JSON.stringify(value)); })() };
}

function start(server: FakeServer): { informer: Informer<ConfigMap>; events: string[]; seen: Map<string, string> } {
  const informer = new Informer<ConfigMap>(new ApiClient(server), resources.configmaps, { clock: systemClock, log: silentLog, random: () => 0 });
  const events: string[] = [];
  const seen = new Map<string, string>();
  informer.onChange((event: InformerEvent<ConfigMap>) => {
    events.push(`${event.type} ${event.key}`);
    if (event.type === 'delete') seen.delete(event.key); else seen.set(event.key, event.object.data?.['value'] ?? '');
  });
  informer.start();
  return { informer, events, seen };
}
const state = (objects: Iterable<KubeObject>): string[] => [...objects].map((object) => `${object.metadata.name}=${(object as ConfigMap).data?.['value']}`).sort();

test('it lists in pages from the cache, then watches with bookmarks from the list', async () => {
  const server = new FakeServer();
  for (const name of ['a', 'b', 'c', 'd', 'e']) server.put(name, '1');
  const { informer, events } = start(server);
  await informer.whenSynced();
  expect(events).toEqual(['add n/a', 'add n/b', 'add n/c', 'add n/d', 'add n/e']);
  expect(server.requests[0]).toContain('resourceVersion=0');
  await waitFor(() => server.watchCount === 1);
  expect(server.requests.at(-1)).toMatch(/resourceVersion=15&allowWatchBookmarks=true&timeoutSeconds=\d+&watch=true/);
  informer.stop();
});

test('changes arrive in order and objects are replaced, never changed', async () => {
  const server = new FakeServer();
  server.put('a', '1');
  const { informer, events } = start(server);
  await informer.whenSynced();
  const first = informer.store.get('n/a');
  server.put('a', '2');
  server.put('b', '1');
  server.drop('a');
  await waitFor(() => events.length === 4);
  expect(events).toEqual(['add n/a', 'update n/a', 'add n/b', 'delete n/a']);
  expect(first?.data?.['value']).toBe('1');
  informer.stop();
});

test('after 410 it lists again and reports only the differences', async () => {
  const server = new FakeServer();
  for (const name of ['a', 'b', 'c']) server.put(name, '1');
  const { informer, events } = start(server);
  await informer.whenSynced();
  await waitFor(() => server.watchCount === 1);
  server.refusals = 1;
  server.cut();
  server.put('a', '2');
  server.drop('b');
  server.put('d', '1');
  server.compact();
  server.put('e', '1');
  await waitFor(() => state(informer.store.values()).join() === state(server.objects.values()).join());
  expect(events.slice(3).sort()).toEqual(['add n/d', 'add n/e', 'delete n/b', 'update n/a']);
  informer.stop();
});

test('while the server is away the last objects stay and failures are counted', async () => {
  const server = new FakeServer();
  server.put('a', '1');
  const { informer } = start(server);
  await informer.whenSynced();
  await waitFor(() => server.watchCount === 1);
  server.refusals = 4;
  server.cut();
  await waitFor(() => informer.failureCount >= 2);
  expect([informer.hasSynced, informer.store.size]).toEqual([true, 1]);
  await waitFor(() => informer.failureCount === 0, { timeoutMs: 15_000 });
  informer.stop();
});

test('whatever changes, cuts, refusals and compactions happen, the store ends as the server has it', async () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.constant('put'), fc.constantFrom('a', 'b', 'c', 'd', 'e'), fc.string({ maxLength: 3 })) },
    { weight: 3, arbitrary: fc.tuple(fc.constant('drop'), fc.constantFrom('a', 'b', 'c', 'd', 'e'), fc.constant('')) },
    { weight: 2, arbitrary: fc.tuple(fc.constantFrom('cut', 'compact', 'refuse', 'turn'), fc.constant(''), fc.constant('')) },
  );
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
    const server = new FakeServer();
    const { informer, seen } = start(server);
    for (const [kind, name, value] of steps) {
      if (kind === 'put') server.put(name, value);
      else if (kind === 'drop') server.drop(name);
      else if (kind === 'cut') server.cut();
      else if (kind === 'compact') server.compact();
      else if (kind === 'refuse') server.refusals = 1;
      else await new Promise((resolve) => { setImmediate(resolve); });
    }
    await waitFor(() => state(informer.store.values()).join() === state(server.objects.values()).join(), { timeoutMs: 20_000 });
    expect([...seen].map(([key, value]) => `${key.slice(2)}=${value}`).sort()).toEqual(state(server.objects.values()));
    informer.stop();
    server.cut();
  }), { numRuns: 60 });
});
