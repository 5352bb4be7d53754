// An in-memory API server as an ApiTransport: list, watch, get, create, update, status and delete of any kind, enough
// for informers and controllers in one process. No validation, no admission.

import type { ApiRequest, ApiResponse, ApiTransport } from '../../api/client.ts';
import type { KubeObject } from '../../api/types.ts';

interface Watcher { path: string; queue: string[]; wake: () => void }

export class FakeApi implements ApiTransport {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #watchers = new Set<Watcher>();
  #revision = 1;
  /** Requests other than list and watch, as 'METHOD path'. */
  readonly writes: string[] = [];

  /** Stores an object as if a user had applied it; `resource` is 'ingresses' and the like. */
  apply<T extends KubeObject>(resource: string, object: T): T {
    const key = keyOf(object.metadata.namespace, object.metadata.name);
    const all = this.#kind(resource);
    const old = all.get(key);
    const stored = { ...object, metadata: { uid: old?.metadata.uid ?? `uid-${this.#revision}`, creationTimestamp: old?.metadata.creationTimestamp ?? new Date(1_700_000_000_000 + this.#revision * 1_000).toISOString(), ...object.metadata, resourceVersion: String(++this.#revision) } };
    all.set(key, stored);
    this.#emit(resource, old === undefined ? 'ADDED' : 'MODIFIED', stored);
    return stored;
  }

  delete(resource: string, namespace: string | undefined, name: string): void {
    const all = this.#kind(resource);
    const old = all.get(keyOf(namespace, name));
    if (old === undefined) return;
    all.delete(keyOf(namespace, name));
    this.#emit(resource, 'DELETED', { ...old, metadata: { ...old.metadata, resourceVersion: String(++this.#revision) } });
  }

  get<T extends KubeObject>(resource: string, namespace: string | undefined, name: string): T | undefined { return this.#kind(resource).get(keyOf(namespace, name)) as T | undefined; }
  list<T extends KubeObject>(resource: string): T[] { return [...this.#kind(resource).values()] as T[]; }

  #kind(resource: string): Map<string, KubeObject> {
    let all = this.#objects.get(resource);
    if (all === undefined) this.#objects.set(resource, all = new Map());
    return all;
  }

  #emit(resource: string, type: string, object: KubeObject): void {
    for (const watcher of this.#watchers) {
      if (watcher.path !== resource) continue;
      watcher.queue.push(`${JSON.stringify({ type, object })}\n`);
      watcher.wake();
    }
  }

  async request(request: ApiRequest): Promise<ApiResponse> {
    const [path = ''] = request.path.split('?');
    const parts = path.split('/').filter((part) => part !== '');
    const rest = parts.slice(parts[0] === 'api' ? 2 : 3);
    const namespace = rest[0] === 'namespaces' && rest.length > 2 ? rest[1] : undefined;
    const [resource = '', name, subresource] = namespace === undefined ? rest : rest.slice(2);
    if (request.method === 'GET' && name === undefined) return String(request.query ?? '').includes('watch=true') ? this.#watch(resource, request.signal) : this.#list(resource);
    this.writes.push(`${request.method} ${path}`);
    if (request.method === 'POST' || request.method === 'PUT') {
      const object = JSON.parse(String(request.body)) as KubeObject;
      const stored = this.apply(resource, subresource === 'status' ? { ...this.get(resource, namespace, name ?? '')!, ...{ status: (object as { status?: unknown }).status } } : object);
      return answer(200, stored);
    }
    const object = this.get(resource, namespace, name ?? '');
    if (object === undefined) return answer(404, { kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404, message: 'not found' });
    if (request.method === 'DELETE') this.delete(resource, namespace, name ?? '');
    return answer(200, object);
  }

  #list(resource: string): ApiResponse { return answer(200, { kind: 'List', metadata: { resourceVersion: String(this.#revision) }, items: this.list(resource) }); }

  #watch(path: string, signal: AbortSignal | undefined): ApiResponse {
    const watcher: Watcher = { path, queue: [], wake: () => {} };
    this.#watchers.add(watcher);
    const watchers = this.#watchers;
    async function* body(): AsyncGenerator<Uint8Array> {
      try {
        while (signal?.aborted !== true) {
          if (watcher.queue.length > 0) { yield Buffer.from(watcher.queue.splice(0).join('')); continue; }
          await new Promise<void>((resolve) => {
            watcher.wake = resolve;
            signal?.addEventListener('abort', () => resolve(), { once: true });
          });
        }
      } finally { watchers.delete(watcher); }
    }
    return { status: 200, headers: {}, body: body() };
  }

  async close(): Promise<void> { /* nothing is open */ }
}

function keyOf(namespace: string | undefined, name: string): string { return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`; }

function answer(status: number, object: unknown): ApiResponse {
  async function* body(): AsyncGenerator<Uint8Array> { yield Buffer.from(JSON.stringify(object)); }
  return { status, headers: {}, body: body() };
}
