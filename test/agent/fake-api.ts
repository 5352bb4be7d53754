// An API server in memory, just enough for the agent: objects by path, merge patches, watches with a spec.nodeName
// selector, graceful deletion of bound Pods. It counts writes, and can be cut off.

import { randomUUID } from 'node:crypto';
import { ApiClient, type ApiRequest, type ApiResponse, type ApiTransport } from '../../api/client.ts';
import type { Event, KubeObject, Node, Pod } from '../../api/types.ts';

interface Watcher { collection: string; nodeName: string | undefined; push(event: unknown): void; end(): void }

export class FakeApi {
  readonly objects = new Map<string, KubeObject>();
  readonly client: ApiClient;
  isDown = false;
  writeCount = 0;
  #revision = 1;
  readonly #watchers = new Set<Watcher>();

  constructor() { this.client = new ApiClient(this.transport()); }

  transport(): ApiTransport {
    return {
      request: async (request) => {
        if (this.isDown) throw new Error('the API is down');
        return this.#handle(request);
      },
      close: () => Promise.resolve(),
    };
  }

  cutWatches(): void { for (const watcher of [...this.#watchers]) watcher.end(); }

  /** Adds a Pod bound to the node. */
  addPod(name: string, nodeName: string, spec: NonNullable<Pod['spec']>, metadata: Partial<Pod['metadata']> = {}, status?: Pod['status']): Pod {
    const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', ...metadata }, spec: { nodeName, ...spec }, ...(status === undefined ? {} : { status }) };
    return this.put(`/api/v1/namespaces/${pod.metadata.namespace}/pods/${name}`, pod) as Pod;
  }

  put(path: string, object: KubeObject): KubeObject {
    const isNew = !this.objects.has(path);
    const metadata = { uid: randomUUID(), creationTimestamp: new Date().toISOString(), ...object.metadata, resourceVersion: String(++this.#revision) };
    const stored = { ...object, metadata };
    this.objects.set(path, stored);
    this.#notify(isNew ? 'ADDED' : 'MODIFIED', path, stored);
    return stored;
  }

  remove(path: string): void {
    const object = this.objects.get(path);
    if (object === undefined) return;
    this.objects.delete(path);
    this.#notify('DELETED', path, { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#revision) } });
  }

  pod(name: string): Pod | undefined { return this.objects.get(`/api/v1/namespaces/default/pods/${name}`) as Pod | undefined; }
  node(name: string): Node | undefined { return this.objects.get(`/api/v1/nodes/${name}`) as Node | undefined; }
  events(): Event[] { return [...this.objects.values()].filter((each) => each.kind === 'Event') as Event[]; }

  deletePod(name: string, graceSeconds?: number): void {
    const pod = this.pod(name) as Pod;
    const grace = graceSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? 30;
    this.put(`/api/v1/namespaces/default/pods/${name}`, { ...pod, metadata: { ...pod.metadata, deletionTimestamp: new Date().toISOString(), deletionGracePeriodSeconds: grace } });
  }

  isReady(name: string): boolean {
    return this.pod(name)?.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') === true;
  }

  #notify(type: string, path: string, object: KubeObject): void {
    for (const watcher of this.#watchers) {
      if (isIn(watcher.collection, path) && (watcher.nodeName === undefined || (object as Pod).spec?.nodeName === watcher.nodeName)) watcher.push({ type, object });
    }
  }

  #handle(request: ApiRequest): ApiResponse {
    const query = new URLSearchParams(request.query ?? '');
    const body = request.body === undefined ? undefined : JSON.parse(String(request.body)) as Record<string, unknown>;
    const path = request.path;
    if (request.method === 'GET') return this.#read(path, query, request.signal);
    this.writeCount += 1;
    if (request.method === 'POST') {
      const object = body as unknown as KubeObject;
      const own = `${path}/${object.metadata.name}`;
      return this.objects.has(own) ? status(409, 'AlreadyExists') : json(201, this.put(own, object));
    }
    const base = path.endsWith('/status') ? path.slice(0, -'/status'.length) : path;
    const old = this.objects.get(base);
    if (old === undefined) return status(404, 'NotFound');
    if (request.method === 'PUT') return json(200, this.put(base, body as unknown as KubeObject));
    const uid = (body?.['metadata'] as { uid?: string } | undefined)?.uid ?? (body?.['preconditions'] as { uid?: string } | undefined)?.uid;
    if (uid !== undefined && uid !== old.metadata.uid) return status(409, 'Conflict');
    if (request.method === 'PATCH') return json(200, this.put(base, merge(old, body) as KubeObject));
    this.remove(base);
    return json(200, old);
  }

  #read(path: string, query: URLSearchParams, signal: AbortSignal | undefined): ApiResponse {
    if (this.objects.has(path)) return json(200, this.objects.get(path));
    const nodeName = /spec\.nodeName=([^,]+)/.exec(query.get('fieldSelector') ?? '')?.[1];
    if (!/s$/.test(path) || /\/(pods|nodes|secrets|configmaps|leases)\/[^/]+$/.test(path)) return status(404, 'NotFound');
    if (query.get('watch') !== 'true') {
      const items = [...this.objects].filter(([key, object]) => isIn(path, key) && (nodeName === undefined || (object as Pod).spec?.nodeName === nodeName)).map(([, object]) => object);
      return json(200, { kind: 'List', apiVersion: 'v1', metadata: { resourceVersion: String(this.#revision) }, items });
    }
    return { status: 200, headers: {}, body: this.#watch(path, nodeName, signal) };
  }

  async *#watch(collection: string, nodeName: string | undefined, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    const queue: unknown[] = [];
    let wake = (): void => {};
    let isEnded = false;
    const watcher: Watcher = { collection, nodeName, push: (event) => { queue.push(event); wake(); }, end: () => { isEnded = true; wake(); } };
    this.#watchers.add(watcher);
    signal?.addEventListener('abort', () => watcher.end());
    try {
      while (!isEnded) {
        if (queue.length > 0) yield Buffer.from(`${queue.splice(0).map((event) => JSON.stringify(event)).join('\n')}\n`);
        else await new Promise<void>((resolve) => { wake = resolve; });
      }
    } finally { this.#watchers.delete(watcher); }
  }
}

function isIn(collection: string, path: string): boolean {
  const kind = collection.split('/').at(-1);
  return path.startsWith(`${collection}/`) || (path.includes('/namespaces/') && path.split('/').at(-2) === kind && collection.split('/').length === 4);
}

function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target as Record<string, unknown> } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merge(result[key], value);
  }
  return result;
}

async function* once(text: string): AsyncIterable<Uint8Array> { yield Buffer.from(text); }
function json(code: number, object: unknown): ApiResponse { return { status: code, headers: { 'content-type': 'application/json' }, body: once(JSON.stringify(object)) }; }
function status(code: number, reason: string): ApiResponse { return json(code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason, code, message: reason }); }
