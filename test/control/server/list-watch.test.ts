// Lists and watches: selectors, pages, resource versions, bookmarks, streaming lists, compaction, tables.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import { configMap, pod, service, startWorld, until, type Answer, type World } from './harness.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ isControllersOn: false, storageLimits: { historyAgeMs: 0, historyCountMin: 300, historyCountMax: 400 } });
  for (const name of ['a', 'b', 'c']) await world.client.raw('POST', '/api/v1/namespaces', { metadata: { name } });
});
afterAll(() => world.stop());

const maps = '/api/v1/namespaces/a/configmaps';
const make = (name: string, labels: Record<string, string> = {}, namespace = 'a'): Promise<Answer> => world.call('POST', `/api/v1/namespaces/${namespace}/configmaps`, { body: configMap(name, {}, { labels }) });
const names = (answer: Answer): string[] => (answer.json.items as { metadata: { name: string } }[]).map((item) => item.metadata.name);

/** A watch that collects events until it is stopped. */
class Watching {
  readonly events: { type: string; object: any }[] = [];
  readonly abort = new AbortController();
  isEnded = false;
  status = 0;
  constructor(path: string, query: string, headers: Record<string, string> = {}) { void this.#run(path, query, headers); }
  async #run(path: string, query: string, headers: Record<string, string>): Promise<void> {
    try {
      const response = await world.transport.request({ method: 'GET', path, query: `watch=true&${query}`, headers: { accept: 'application/json', ...headers }, signal: this.abort.signal });
      this.status = response.status;
      let rest = '';
      for await (const chunk of response.body) {
        const lines = (rest + Buffer.from(chunk).toString()).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) this.events.push(JSON.parse(line) as { type: string; object: any });
      }
      this.isEnded = true;
    } catch { this.isEnded = true; }
  }
  types(): string[] { return this.events.map((event) => `${event.type} ${event.object.metadata?.name ?? ''}`.trim()); }
  async count(count: number): Promise<void> { await until(`${count} events, got ${this.types().join()}`, () => this.events.length >= count); }
  stop(): void { this.abort.abort(); }
}

describe('selectors', () => {
  beforeAll(async () => {
    await make('web-1', { app: 'web', tier: 'front' });
    await make('web-2', { app: 'web', tier: 'back' });
    await make('db', { app: 'db' });
  });
  const cases: [string, string[]][] = [
    ['app=web', ['web-1', 'web-2']], ['app==web,tier!=back', ['web-1']], ['app in (web,db)', ['db', 'web-1', 'web-2']], ['app notin (web)', ['db']],
    ['tier', ['web-1', 'web-2']], ['!tier', ['db']], ['app=none', []],
  ];
  for (const [selector, wanted] of cases) test(`-l ${selector}`, async () => { expect(names(await world.call('GET', maps, { query: `labelSelector=${encodeURIComponent(selector)}` }))).toEqual(wanted); });
  test('fields by name and namespace, over all namespaces', async () => {
    await make('same', {}, 'a');
    await make('same', {}, 'b');
    expect((await world.call('GET', '/api/v1/configmaps', { query: 'fieldSelector=metadata.name=same' })).json.items).toHaveLength(2);
    expect((await world.call('GET', '/api/v1/configmaps', { query: 'fieldSelector=metadata.name=same,metadata.namespace=b' })).json.items).toHaveLength(1);
    expect(names(await world.call('GET', maps, { query: 'fieldSelector=metadata.name!=same' }))).toEqual(['db', 'web-1', 'web-2']);
  });
  test('Pod fields, also negated and absent ones', async () => {
    await world.call('POST', '/api/v1/namespaces/c/pods', { body: pod('p1', { nodeName: 'n1' }) });
    await world.call('POST', '/api/v1/namespaces/c/pods', { body: pod('p2') });
    const find = async (selector: string): Promise<string[]> => names(await world.call('GET', '/api/v1/namespaces/c/pods', { query: `fieldSelector=${encodeURIComponent(selector)}` }));
    expect(await find('spec.nodeName=n1')).toEqual(['p1']);
    expect(await find('spec.nodeName=')).toEqual(['p2']);
    expect(await find('status.phase!=Succeeded,status.phase!=Failed')).toEqual(['p1', 'p2']);
    expect(await find('spec.hostNetwork=false')).toEqual(['p1', 'p2']);
  });
  test('an unknown field is 400', async () => {
    const answer = await world.call('GET', maps, { query: 'fieldSelector=data.x=1' });
    expect([answer.status, answer.json.message]).toEqual([400, 'field label not supported: data.x']);
  });
  test('items of built-in kinds come without kind, the list with it', async () => {
    const { json } = await world.call('GET', maps);
    expect([json.kind, json.apiVersion, json.items[0].kind]).toEqual(['ConfigMapList', 'v1', undefined]);
  });
});

describe('pages', () => {
  beforeAll(async () => { for (let index = 0; index < 25; index++) await make(`page-${String(index).padStart(2, '0')}`, {}, 'b'); });
  const list = (query: string): Promise<Answer> => world.call('GET', '/api/v1/namespaces/b/configmaps', { query });
  test('follow each other without gap or repeat and say what remains', async () => {
    const seen: string[] = [];
    const remaining: unknown[] = [];
    let token = '';
    do {
      const { json, text } = await list(`limit=10${token === '' ? '' : `&continue=${encodeURIComponent(token)}`}`);
      expect(text).toContain('"kind":"ConfigMapList"');
      seen.push(...(json.items as { metadata: { name: string } }[]).map((item) => item.metadata.name));
      remaining.push(json.metadata.remainingItemCount);
      token = json.metadata.continue ?? '';
    } while (token !== '');
    expect(seen.filter((name) => name.startsWith('page-'))).toHaveLength(25);
    expect(new Set(seen).size).toBe(seen.length);
    expect(remaining.slice(0, 2)).toEqual([16, 6]);
  });
  test('later pages show the state of the first one', async () => {
    const first = await list('limit=20');
    await world.call('DELETE', '/api/v1/namespaces/b/configmaps/page-24');
    await make('page-99', {}, 'b');
    const second = await list(`limit=20&continue=${encodeURIComponent(first.json.metadata.continue)}`);
    expect(names(second)).toContain('page-24');
    expect(names(second)).not.toContain('page-99');
    expect(second.json.metadata.resourceVersion).toBe(first.json.metadata.resourceVersion);
  });
  test('with a selector, pages are full and have no count', async () => {
    const first = await list('limit=2&fieldSelector=metadata.name!=same');
    expect([names(first), first.json.metadata.remainingItemCount]).toEqual([['page-00', 'page-01'], undefined]);
    expect(names(await list(`limit=2&fieldSelector=metadata.name!=same&continue=${encodeURIComponent(first.json.metadata.continue)}`))).toEqual(['page-02', 'page-03']);
  });
  test('a token that is too old gives 410 and a token to go on with', async () => {
    const first = await list('limit=5');
    for (let index = 0; index < 450; index++) await world.client.patch(resources.configmaps, 'b', 'page-00', { data: { n: String(index) } }, { type: 'merge' });
    const late = await list(`limit=5&continue=${encodeURIComponent(first.json.metadata.continue)}`);
    expect([late.status, late.json.reason]).toEqual([410, 'Expired']);
    const on = await list(`limit=5&continue=${encodeURIComponent(late.json.metadata.continue)}`);
    expect([on.status, names(on)[0]]).toEqual([200, 'page-05']);
  });
  test('continue with a resourceVersion is 400', async () => { expect((await list('limit=5&resourceVersion=5&continue=abc')).status).toBe(400); });
});

describe('resource versions', () => {
  test('Exact is that state, or 410', async () => {
    const before = (await world.call('GET', maps)).json.metadata.resourceVersion as string;
    await make('later');
    const exact = await world.call('GET', maps, { query: `resourceVersion=${before}&resourceVersionMatch=Exact` });
    expect(names(exact)).not.toContain('later');
    expect((await world.call('GET', maps, { query: 'resourceVersion=1&resourceVersionMatch=Exact' })).status).toBe(410);
  });
  test('a revision that is still to come is 504 with a cause that clients know', async () => {
    const answer = await world.call('GET', maps, { query: 'resourceVersion=999999999' });
    expect([answer.status, answer.json.details.causes[0].reason, answer.json.details.retryAfterSeconds]).toEqual([504, 'ResourceVersionTooLarge', 1]);
  });
  test('match without version, sendInitialEvents on a list, bad words: 422', async () => {
    for (const query of ['resourceVersionMatch=Exact', 'sendInitialEvents=true', 'resourceVersionMatch=Foo&resourceVersion=1', 'resourceVersion=abc']) expect((await world.call('GET', maps, { query })).status, query).toBe(422);
  });
});

describe('watches', () => {
  test('from 0: present objects as ADDED, then changes; metadata of each in order', async () => {
    const watching = new Watching(maps, 'fieldSelector=metadata.name=seen&resourceVersion=0');
    await make('seen');
    await world.client.patch(resources.configmaps, 'a', 'seen', { data: { x: '1' } }, { type: 'merge' });
    await world.call('DELETE', `${maps}/seen`);
    await watching.count(3);
    expect(watching.types()).toEqual(['ADDED seen', 'MODIFIED seen', 'DELETED seen']);
    const versions = watching.events.map((event) => Number(event.object.metadata.resourceVersion));
    expect(versions).toEqual([...versions].sort((x, y) => x - y));
    watching.stop();
  });
  test('from N: only what came after', async () => {
    const { json } = await make('from-n');
    const watching = new Watching(maps, `resourceVersion=${json.metadata.resourceVersion}`);
    await make('from-n-2');
    await watching.count(1);
    expect(watching.types()).toEqual(['ADDED from-n-2']);
    watching.stop();
  });
  test('a label watch sees objects come into and leave the selection', async () => {
    await make('moving', { color: 'red' });
    const watching = new Watching(maps, 'labelSelector=color%3Dblue');
    await until('the stream is open', () => watching.status === 200);
    const paint = (color: string): Promise<unknown> => world.client.patch(resources.configmaps, 'a', 'moving', { metadata: { labels: { color } } }, { type: 'merge' });
    await paint('blue');
    await world.client.patch(resources.configmaps, 'a', 'moving', { data: { k: 'v' } }, { type: 'merge' });
    await paint('green');
    await watching.count(3);
    expect(watching.types()).toEqual(['ADDED moving', 'MODIFIED moving', 'DELETED moving']);
    const left = watching.events[2]?.object;
    expect(left.metadata.labels.color).toBe('blue');
    expect(Number(left.metadata.resourceVersion)).toBeGreaterThan(Number(watching.events[1]?.object.metadata.resourceVersion));
    watching.stop();
  });
  test('other namespaces and kinds stay out', async () => {
    const watching = new Watching('/api/v1/namespaces/c/configmaps', 'resourceVersion=0');
    await make('elsewhere', {}, 'a');
    await make('here', {}, 'c');
    await watching.count(1);
    expect(watching.types()).toEqual(['ADDED here']);
    watching.stop();
  });
  test('a streaming list ends its first part with a marked bookmark', async () => {
    const watching = new Watching('/api/v1/namespaces/b/configmaps', 'sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true');
    await until('the bookmark', () => watching.events.some((event) => event.type === 'BOOKMARK'));
    const mark = watching.events.at(-1);
    expect(mark?.object.metadata.annotations).toEqual({ 'k8s.io/initial-events-end': 'true' });
    expect(mark?.object.kind).toBe('ConfigMap');
    expect(watching.events.slice(0, -1).every((event) => event.type === 'ADDED')).toBe(true);
    watching.stop();
  });
  test('sendInitialEvents without NotOlderThan is 422', async () => { expect((await world.call('GET', maps, { query: 'watch=true&sendInitialEvents=true' })).status).toBe(422); });
  test('timeoutSeconds ends the stream cleanly', async () => {
    const watching = new Watching(maps, 'timeoutSeconds=1&resourceVersion=0');
    await until('the end', () => watching.isEnded, 4_000);
    expect(watching.status).toBe(200);
    expect(watching.events.every((event) => event.type === 'ADDED')).toBe(true);
  });
  test('too old: 200, one ERROR event with 410, then the end', async () => {
    for (let index = 0; index < 410; index++) await world.client.patch(resources.configmaps, 'b', 'page-01', { data: { n: String(index) } }, { type: 'merge' });
    const watching = new Watching(maps, 'resourceVersion=2');
    await until('the end', () => watching.isEnded);
    expect(watching.status).toBe(200);
    expect(watching.events.map((event) => [event.type, event.object.code, event.object.reason])).toEqual([['ERROR', 410, 'Expired']]);
    expect(watching.events[0]?.object.message).toMatch(/^too old resource version: 2 \(\d+\)$/);
  });
  test('churn of one kind costs other kinds no history', async () => {
    const { json } = await world.call('GET', '/api/v1/namespaces/a/services');
    for (let index = 0; index < 410; index++) await world.client.patch(resources.configmaps, 'b', 'page-02', { data: { n: String(index) } }, { type: 'merge' });
    await world.call('POST', '/api/v1/namespaces/a/services', { body: service('quiet') });
    const watching = new Watching('/api/v1/namespaces/a/services', `resourceVersion=${json.metadata.resourceVersion}`);
    await watching.count(1);
    expect(watching.types()).toEqual(['ADDED quiet']);
    watching.stop();
  });
  test('a slow reader loses nothing', async () => {
    const response = await world.transport.request({ method: 'GET', path: maps, query: `watch=true&resourceVersion=${(await world.call('GET', maps)).json.metadata.resourceVersion}`, headers: {} });
    const big = 'x'.repeat(20_000);
    for (let index = 0; index < 120; index++) await make(`slow-${index}`, {}, 'a').then(() => world.client.patch(resources.configmaps, 'a', `slow-${index}`, { data: { big } }, { type: 'merge' }));
    const seen: number[] = [];
    let rest = '';
    for await (const chunk of response.body) {
      const lines = (rest + Buffer.from(chunk).toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) seen.push(Number((JSON.parse(line) as { object: { metadata: { resourceVersion: string } } }).object.metadata.resourceVersion));
      if (seen.length >= 240) break;
    }
    expect(seen).toHaveLength(240);
    expect(seen).toEqual([...seen].sort((x, y) => x - y));
  });
});

describe('tables', () => {
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
  test('carry columns, rows with metadata, and the revision to watch from', async () => {
    const { json } = await world.call('GET', '/api/v1/namespaces/default/services', { headers: { accept } });
    expect([json.kind, json.apiVersion]).toEqual(['Table', 'meta.k8s.io/v1']);
    expect(json.columnDefinitions.map((column: { name: string }) => column.name)).toEqual(['Name', 'Type', 'Cluster-IP', 'External-IP', 'Port(s)', 'Age', 'Selector']);
    expect(json.rows[0].cells.slice(0, 5)).toEqual(['kubernetes', 'ClusterIP', '10.96.0.1', '<none>', '443/TCP']);
    expect(json.rows[0].object.kind).toBe('PartialObjectMetadata');
    expect(Number(json.metadata.resourceVersion)).toBeGreaterThan(0);
  });
  test('includeObject decides what comes along', async () => {
    const get = async (include: string): Promise<any> => (await world.call('GET', '/api/v1/namespaces/default/services', { headers: { accept }, query: `includeObject=${include}` })).json.rows[0].object;
    expect((await get('Object')).kind).toBe('Service');
    expect(await get('None')).toBeUndefined();
  });
  test('in a watch, columns come with the first event only', async () => {
    const watching = new Watching(maps, 'resourceVersion=0&fieldSelector=metadata.name!=x', { accept });
    await watching.count(2);
    expect(watching.events[0]?.object.columnDefinitions).toHaveLength(3);
    expect(watching.events[1]?.object.columnDefinitions).toBeNull();
    watching.stop();
  });
  test('metadata alone for metadata clients', async () => {
    const { json } = await world.call('GET', maps, { headers: { accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1' } });
    expect([json.kind, json.items[0].kind, json.items[0].data]).toEqual(['PartialObjectMetadataList', 'PartialObjectMetadata', undefined]);
  });
  test('YAML when the client likes it best, 406 for what nobody has', async () => {
    expect((await world.call('GET', `${maps}/db`, { headers: { accept: 'application/yaml' } })).text).toContain('kind: ConfigMap');
    expect((await world.call('GET', maps, { headers: { accept: 'text/html' } })).status).toBe(406);
  });
});
