// The Kubernetes API client that every component uses, over one of two transports: HTTPS through undici (its one
// door), or calls into a control plane in the same process (control/start.ts makes that one).
// Errors are NetloomError with the server's Status; a watch is an async iterable of batches of events.
// Source: Kubernetes API concepts (list, watch, patch content types).

import { readFileSync } from 'node:fs';
import type { Agent } from 'undici';
import { fromStatus, NetloomError } from './errors.ts';
import { apiVersionOf, resourcePath, type ResourceRef } from './resources.ts';
import type { KubeList, KubeObject, Status, WatchEvent } from './types.ts';

export interface ApiRequest {
  method: string; path: string; query?: string | undefined; headers?: Record<string, string> | undefined;
  body?: Buffer | string | undefined; signal?: AbortSignal | undefined;
}
export interface ApiResponse { status: number; headers: Record<string, string>; body: AsyncIterable<Uint8Array> }

/** Carries one request to an API server. Throws ConnectFailed when it cannot be reached. */
export interface ApiTransport {
  request(request: ApiRequest): Promise<ApiResponse>;
  close(): Promise<void>;
}

export interface HttpTransportOptions {
  /** `https://host:port`. */
  server: string; caPem?: string | undefined; certPem?: string | undefined; keyPem?: string | undefined;
  token?: string | undefined; tokenFile?: string | undefined; insecureSkipVerify?: boolean | undefined; serverName?: string | undefined;
  /** Time to open a connection, default 5 s. */
  connectTimeoutMs?: number;
}

/** HTTPS transport with kept connections; watches each hold one connection. */
export function httpTransport(options: HttpTransportOptions): ApiTransport {
  let agent: Agent | undefined;
  const origin = options.server.replace(/\/+$/, '');
  return {
    async request(request: ApiRequest): Promise<ApiResponse> {
      const headers: Record<string, string> = { ...request.headers };
      const token = options.tokenFile === undefined ? options.token : readFileSync(options.tokenFile, 'utf8').trim();
      if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
      const url = `${origin}${request.path}${request.query === undefined || request.query === '' ? '' : `?${request.query}`}`;
      try {
        // Loaded at the first request: a process with its own control plane makes none.
        const { Agent: UndiciAgent, request: undiciRequest } = await import('undici');
        agent ??= new UndiciAgent(agentOptions(options));
        const response = await undiciRequest(url, {
          method: request.method as 'GET', headers, dispatcher: agent,
          ...(request.body === undefined ? {} : { body: request.body }), ...(request.signal === undefined ? {} : { signal: request.signal }),
        });
        const plain: Record<string, string> = {};
        for (const [name, value] of Object.entries(response.headers)) if (value !== undefined) plain[name] = Array.isArray(value) ? value.join(', ') : value;
        return { status: response.statusCode, headers: plain, body: response.body };
      } catch (cause) {
        if (request.signal?.aborted === true) throw cause;
        throw new NetloomError('ConnectFailed', `cannot reach the API server at ${origin}: ${(cause as Error).message}`, { source: 'api', cause });
      }
    },
    close: async () => { await agent?.destroy(); },
  };
}

function agentOptions(options: HttpTransportOptions): Agent.Options {
  return {
    connections: 64, pipelining: 1, keepAliveTimeout: 30_000, headersTimeout: 60_000, bodyTimeout: 0,
    connect: {
      timeout: options.connectTimeoutMs ?? 5_000,
      ...(options.caPem === undefined ? {} : { ca: options.caPem }),
      ...(options.certPem === undefined ? {} : { cert: options.certPem, key: options.keyPem }),
      ...(options.serverName === undefined ? {} : { servername: options.serverName }),
      rejectUnauthorized: options.insecureSkipVerify !== true,
    },
  };
}

export type PatchType = 'merge' | 'strategic' | 'json' | 'apply';
const patchContentTypes: Record<PatchType, string> = {
  merge: 'application/merge-patch+json', strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json', apply: 'application/apply-patch+yaml',
};

/** Query parameters of the API, e.g. `{labelSelector: 'app=web', limit: 500}`. */
export type Query = Record<string, string | number | boolean | undefined>;
export interface PatchOptions { type: PatchType; subresource?: string; fieldManager?: string; force?: boolean; dryRun?: string; fieldValidation?: string }
export interface ApiClientOptions { userAgent?: string }

export class ApiClient {
  readonly transport: ApiTransport;
  readonly #userAgent: string;

  constructor(transport: ApiTransport, options: ApiClientOptions = {}) {
    this.transport = transport;
    this.#userAgent = options.userAgent ?? 'netloom';
  }

  get<T extends KubeObject>(resource: ResourceRef, namespace: string | undefined, name: string): Promise<T> {
    return this.#json<T>('GET', resourcePath(resource, namespace, name));
  }

  list<T extends KubeObject>(resource: ResourceRef, namespace?: string, query: Query = {}): Promise<KubeList<T>> {
    return this.#json<KubeList<T>>('GET', resourcePath(resource, namespace), query);
  }

  create<T extends KubeObject>(resource: ResourceRef, namespace: string | undefined, object: T, query: Query = {}): Promise<T> {
    return this.#json<T>('POST', resourcePath(resource, namespace), query, withKind(resource, object));
  }

  update<T extends KubeObject>(resource: ResourceRef, object: T, query: Query = {}): Promise<T> {
    return this.#json<T>('PUT', resourcePath(resource, object.metadata.namespace, object.metadata.name), query, withKind(resource, object));
  }

  updateStatus<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    return this.#json<T>('PUT', resourcePath(resource, object.metadata.namespace, object.metadata.name, 'status'), {}, withKind(resource, object));
  }

  patch<T extends KubeObject>(resource: ResourceRef, namespace: string | undefined, name: string, patch: unknown, options: PatchOptions): Promise<T> {
    const { type, subresource, ...query } = options;
    return this.#json<T>('PATCH', resourcePath(resource, namespace, name, subresource), query, patch, patchContentTypes[type]);
  }

  /** `options` is a DeleteOptions body: gracePeriodSeconds, propagationPolicy, preconditions. */
  delete(resource: ResourceRef, namespace: string | undefined, name: string, options: Record<string, unknown> = {}): Promise<KubeObject | Status> {
    return this.#json('DELETE', resourcePath(resource, namespace, name), {}, { kind: 'DeleteOptions', apiVersion: 'v1', ...options });
  }

  /** Any path; resolves to the parsed JSON answer. */
  raw<T>(method: string, path: string, body?: unknown, query: Query = {}): Promise<T> {
    return this.#json<T>(method, path, query, body);
  }

  /** Events after `query.resourceVersion`, in order, in the batches in which they arrive. Ends when the server ends it. */
  async *watch<T extends KubeObject>(resource: ResourceRef, namespace: string | undefined, query: Query, signal: AbortSignal): AsyncIterable<WatchEvent<T>[]> {
    const response = await this.transport.request({
      method: 'GET', path: resourcePath(resource, namespace), query: encodeQuery({ ...query, watch: true }),
      headers: { accept: 'application/json', 'user-agent': this.#userAgent }, signal,
    });
    if (response.status !== 200) throw await readError(response);
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      const text = rest + decoder.decode(chunk, { stream: true });
      const end = text.lastIndexOf('\n');
      if (end < 0) { rest = text; continue; }
      rest = text.slice(end + 1);
      const events: WatchEvent<T>[] = [];
      for (const line of text.slice(0, end).split('\n')) if (line !== '') events.push(JSON.parse(line) as WatchEvent<T>);
      if (events.length > 0) yield events;
    }
  }

  async #json<T>(method: string, path: string, query: Query = {}, body?: unknown, contentType = 'application/json'): Promise<T> {
    const headers: Record<string, string> = { accept: 'application/json', 'user-agent': this.#userAgent };
    if (body !== undefined) headers['content-type'] = contentType;
    const response = await this.transport.request({ method, path, query: encodeQuery(query), headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    if (response.status >= 400) throw await readError(response);
    const text = (await readBody(response)).toString('utf8');
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }
}

/** Percent-encoded query string; undefined values are left out. */
export function encodeQuery(query: Query): string {
  const parts: string[] = [];
  for (const [key, value] of Object.entries(query)) if (value !== undefined) parts.push(`${encodeURIComponent(key)}=${encodeURIComponent(String(value))}`);
  return parts.join('&');
}

export async function readBody(response: ApiResponse): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body) chunks.push(chunk);
  return chunks.length === 1 && chunks[0] instanceof Buffer ? chunks[0] : Buffer.concat(chunks);
}

async function readError(response: ApiResponse): Promise<NetloomError> {
  const text = (await readBody(response)).toString('utf8');
  let status: Partial<Status> = {};
  try { status = JSON.parse(text) as Partial<Status>; } catch { status = { message: text.slice(0, 300) || `HTTP ${response.status}` }; }
  return fromStatus(status, response.status);
}

function withKind(resource: ResourceRef, object: KubeObject): KubeObject {
  return object.kind !== undefined && object.apiVersion !== undefined ? object : { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
}
