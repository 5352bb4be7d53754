// The compiled route table of one worker: host → path tree → route. A host's entry is built once and replaced whole;
// looking one up costs one or two hash lookups and one step per path element, however many routes there are (rules
// 14–23). Called by worker.ts with updates, by proxy/http/exchange.ts with each request.

import v8 from 'node:v8';
import { Backend } from '../proxy/http/endpoints.ts';
import type { Exchange } from '../proxy/http/exchange.ts';
import { makeLimitMemory, openSharedLimits, type SharedLimits } from '../proxy/http/policy/limits.ts';
import { compilePolicy } from '../proxy/http/policy/compile.ts';
import type { Route, Router } from '../proxy/http/route.ts';
import type { BackendSpec, HostSpec, RouteSpec, UpdateMessage } from './protocol.ts';

// Path expressions of tenants run in V8's linear-time engine only; the flag admits its `l` mark, on any thread.
v8.setFlagsFromString('--enable-experimental-regexp-engine');

interface PathNode { children: Map<string, PathNode> | undefined; route: Route | undefined; textLength: number }
interface RegexRoute { readonly expression: RegExp; readonly route: Route; readonly textLength: number }
interface HostEntry {
  readonly exact: Map<string, Route> | undefined;
  readonly root: PathNode;
  /** Longest path text first. */
  readonly regexes: readonly RegexRoute[] | undefined;
  readonly fallback: Route | undefined;
  readonly object: string;
}

export class RouteTable implements Router {
  readonly #hosts = new Map<string, HostEntry>();
  readonly #backends = new Map<string, { backend: Backend; reason: string | undefined }>();
  /** Key of affinity cookies, and the memory of rate limits; both shared by all workers and set before the first update. */
  secret = '';
  sharedLimits: SharedLimits = openSharedLimits(makeLimitMemory());
  /** Requests under way by object and client address; objects without any give way when there are many. */
  readonly #connectionCounts = new Map<string, Map<string, number>>();
  #wildcardCount = 0;
  #fallback: Route | undefined;
  #workerCount = 1;

  get hostCount(): number { return this.#hosts.size; }
  backend(key: string): Backend | undefined { return this.#backends.get(key)?.backend; }

  /** Applies one update whole. Backends first, so that new routes find theirs; unused ones last. */
  apply(update: UpdateMessage): void {
    this.#workerCount = update.workerCount;
    const goneBackends = update.isFull ? new Set(this.#backends.keys()) : new Set<string>();
    for (const [key, spec] of update.backends) {
      if (spec === null) goneBackends.add(key);
      else { goneBackends.delete(key); this.#applyBackend(key, spec); }
    }
    const goneHosts = update.isFull ? new Set(this.#hosts.keys()) : new Set<string>();
    for (const [host, spec] of update.hosts) {
      if (spec === null) goneHosts.add(host);
      else { goneHosts.delete(host); this.#hosts.set(host, this.#compileHost(spec)); }
    }
    for (const host of goneHosts) this.#hosts.delete(host);
    if (update.fallback !== undefined) this.#fallback = update.fallback === null ? undefined : this.#compileRoute(update.fallback);
    this.#wildcardCount = 0;
    for (const host of this.#hosts.keys()) if (host.startsWith('*')) this.#wildcardCount += 1;
    for (const key of goneBackends) {
      this.#backends.get(key)?.backend.close();
      this.#backends.delete(key);
    }
  }

  #applyBackend(key: string, spec: BackendSpec): void {
    const options = { protocol: spec.protocol, tls: spec.tls, endpoints: spec.endpoints };
    const present = this.#backends.get(key);
    if (present === undefined) this.#backends.set(key, { backend: new Backend(key, options), reason: spec.reason });
    else {
      present.backend.update(options);
      present.reason = spec.reason;
    }
    this.#backends.get(key)!.backend.emptyReason = spec.reason ?? 'no-endpoints';
  }

  #compileRoute(spec: RouteSpec): Route {
    const backend = spec.backend === undefined ? undefined : this.#backends.get(spec.backend)?.backend;
    return Object.freeze({
      object: spec.object, rule: spec.rule, row: spec.row, backend, reason: spec.reason,
      policy: spec.policy === undefined ? undefined : compilePolicy(spec.policy, { backendOf: (key) => this.backend(key), secret: this.secret, workerCount: this.#workerCount, sharedLimits: this.sharedLimits, connectionCounts: this.#countsOf(spec.object), object: spec.object, linear: linearExpression }),
      timeouts: spec.timeouts, retry: spec.retry,
    });
  }

  #countsOf(object: string): Map<string, number> {
    let counts = this.#connectionCounts.get(object);
    if (counts === undefined) {
      if (this.#connectionCounts.size >= countedObjectsMax) for (const [key, value] of this.#connectionCounts) if (value.size === 0) this.#connectionCounts.delete(key);
      this.#connectionCounts.set(object, counts = new Map());
    }
    return counts;
  }

  #compileHost(spec: HostSpec): HostEntry {
    const root: PathNode = { children: undefined, route: undefined, textLength: -1 };
    const exact = new Map<string, Route>();
    const regexes: RegexRoute[] = [];
    for (const item of spec.routes) {
      const route = this.#compileRoute(item);
      if (item.type === 'Exact') { if (!exact.has(item.path)) exact.set(item.path, route); }
      else if (item.type === 'Regex') regexes.push({ expression: linearExpression(item.path), route, textLength: item.path.length });
      else insertPrefix(root, item.path, route);
    }
    regexes.sort((a, b) => b.textLength - a.textLength);
    return Object.freeze({
      exact: exact.size === 0 ? undefined : exact, root, regexes: regexes.length === 0 ? undefined : regexes,
      fallback: spec.fallback === undefined ? undefined : this.#compileRoute(spec.fallback), object: spec.object,
    });
  }

  /** The route of a request, or undefined. O(path elements). */
  match(host: string, path: string, _exchange?: Exchange): Route | undefined {
    const entry = this.#entryOf(host);
    if (entry === undefined) return this.#fallback;
    const { exact, root, regexes } = entry;
    if (exact === undefined && regexes === undefined && root.children === undefined) return root.route ?? entry.fallback ?? this.#fallback;
    return matchPath(entry, path) ?? entry.fallback ?? this.#fallback;
  }

  #entryOf(host: string): HostEntry | undefined {
    const precise = this.#hosts.get(host);
    if (precise !== undefined && host !== '') return precise;
    if (this.#wildcardCount > 0) {
      const dot = host.indexOf('.');
      if (dot > 0) {
        const wildcard = this.#hosts.get(`*${host.slice(dot)}`);
        if (wildcard !== undefined) return wildcard;
      }
    }
    return this.#hosts.get('');
  }

  explainMiss(host: string, path: string): { reason: string; text: string } {
    const entry = this.#entryOf(host);
    if (entry !== undefined) return { reason: 'no-path-rule', text: `no Ingress rule for path ${path.slice(0, 200)} of host ${host} (its rules: ${entry.object})` };
    const closest = closestHost(host, this.#hosts.keys());
    if (closest === undefined) return { reason: 'no-host-rule', text: `no Ingress rule for host ${host}` };
    return { reason: `no-host-rule; closest=${closest}`, text: `no Ingress rule for host ${host} (closest: ${closest} in ${this.#hosts.get(closest)!.object})` };
  }
}

function matchPath(entry: HostEntry, path: string): Route | undefined {
  const exact = entry.exact?.get(path);
  let best: Route | undefined = exact;
  let bestLength = exact === undefined ? -1 : path.length;
  let node: PathNode | undefined = entry.root;
  if (node.route !== undefined && node.textLength > bestLength) { best = node.route; bestLength = node.textLength; }
  let start = 1;
  while (node.children !== undefined && start < path.length) {
    const slash = path.indexOf('/', start);
    const end = slash < 0 ? path.length : slash;
    node = node.children.get(path.slice(start, end));
    if (node === undefined) break;
    if (node.route !== undefined && node.textLength > bestLength) { best = node.route; bestLength = node.textLength; }
    start = end + 1;
  }
  if (entry.regexes !== undefined) {
    for (const item of entry.regexes) {
      if (item.textLength < bestLength) break;
      if (item.expression.test(path)) return item.route;
    }
  }
  return best;
}

function insertPrefix(root: PathNode, path: string, route: Route): void {
  let node = root;
  for (const element of path.split('/')) {
    if (element === '') continue;
    node.children ??= new Map();
    let child = node.children.get(element);
    if (child === undefined) {
      child = { children: undefined, route: undefined, textLength: -1 };
      node.children.set(element, child);
    }
    node = child;
  }
  const length = path === '' ? 1 : path.length;
  if (length > node.textLength) { node.route = route; node.textLength = length; }
}

/** A whole-path expression in V8's linear-time engine: no input can make it slow (rule 120). Throws SyntaxError. */
export function linearExpression(source: string): RegExp { return new RegExp(`^(?:${source.replace(/^\^/, '').replace(/\$$/, '')})$`, 'l'); }

const explainedHostsMax = 5_000;
const countedObjectsMax = 10_000;

function closestHost(host: string, hosts: Iterable<string>): string | undefined {
  if (host.length > 100) return undefined;
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(host.length / 4)) + 1;
  let seen = 0;
  for (const candidate of hosts) {
    if (candidate === '' || ++seen > explainedHostsMax) continue;
    if (Math.abs(candidate.length - host.length) >= bestDistance) continue;
    const distance = editDistance(host, candidate, bestDistance);
    if (distance < bestDistance) { best = candidate; bestDistance = distance; }
  }
  return best;
}

function editDistance(a: string, b: string, limit: number): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const swap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? 0 : 1;
      const value = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : swap));
      row.push(value);
      if (value < least) least = value;
    }
    if (least >= limit) return limit;
    previous = row;
  }
  return previous[b.length]!;
}
