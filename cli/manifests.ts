// Manifest files for `up -f`: reads YAML and JSON, names file, line and document of whatever is wrong, applies what is
// right with server-side apply, and applies again when a file changes. One bad document never stops the others.

import { readdirSync, readFileSync, statSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { LineCounter, parseAllDocuments } from 'yaml';
import type { ApiClient } from '../api/client.ts';
import type { Clock, TimerHandle } from '../api/clock.ts';
import { isNotFound, NetloomError } from '../api/errors.ts';
import type { ResourceRef } from '../api/resources.ts';
import type { Container, KubeObject, PodSpec } from '../api/types.ts';

/** `where` is "file:line" with the document's number, for messages. */
export interface ManifestObject { object: KubeObject; where: string }
export interface ManifestProblem { where: string; message: string }
export interface LoadedManifests { objects: ManifestObject[]; problems: ManifestProblem[] }
export interface AppliedObject { object: KubeObject; where: string }
export interface ApplyResult { applied: AppliedObject[]; problems: ManifestProblem[] }

/** Files below the given paths, in order; folders are read one level deep for .yaml, .yml and .json. Throws ConfigInvalid when one is missing. */
export function listManifestFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    let isFolder: boolean;
    try { isFolder = statSync(path).isDirectory(); } catch {
      throw new NetloomError('ConfigInvalid', `cannot read ${path}: no such file or folder`, { source: 'config', hint: 'check the path given with -f' });
    }
    if (!isFolder) return [path];
    const files = readdirSync(path).filter((name) => /\.(ya?ml|json)$/.test(name)).sort().map((name) => join(path, name));
    if (files.length === 0) throw new NetloomError('ConfigInvalid', `${path} holds no .yaml, .yml or .json file`, { source: 'config' });
    return files;
  });
}

/** Parses the files; List objects are taken apart; relative workingDir of containers is made absolute from the file's folder. */
export function loadManifests(files: readonly string[]): LoadedManifests {
  const result: LoadedManifests = { objects: [], problems: [] };
  for (const file of files) {
    let text: string;
    try { text = readFileSync(file, 'utf8'); } catch (error) {
      result.problems.push({ where: file, message: (error as Error).message });
      continue;
    }
    loadText(file, text, result);
  }
  const rank = (kind: string | undefined): number => (kind === 'CustomResourceDefinition' ? 0 : kind === 'Namespace' ? 1 : 2);
  result.objects.sort((a, b) => rank(a.object.kind) - rank(b.object.kind));
  return result;
}

function loadText(file: string, text: string, result: LoadedManifests): void {
  const lineCounter = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter, prettyErrors: false, maxAliasCount: 1000 } as Parameters<typeof parseAllDocuments>[1]);
  for (const [index, document] of [...documents].entries()) {
    const contents = document.contents as { range?: [number, number, number] } | null;
    const fault = document.errors[0];
    const line = lineCounter.linePos(fault?.pos[0] ?? contents?.range?.[0] ?? 0).line;
    const where = `${file}:${line}: document ${index + 1}`;
    if (fault !== undefined) { result.problems.push({ where, message: `not valid YAML: ${fault.message.split('\n')[0]}` }); continue; }
    let value: unknown;
    try { value = document.toJS({ maxAliasCount: 1000 }); } catch (error) { result.problems.push({ where, message: (error as Error).message }); continue; }
    if (value === null || value === undefined) continue;
    addValue(file, where, value, result);
  }
}

function addValue(file: string, where: string, value: unknown, result: LoadedManifests): void {
  const object = value as Partial<KubeObject> & { items?: unknown[] };
  if (typeof value !== 'object' || Array.isArray(value)) { result.problems.push({ where, message: 'not a Kubernetes object: expected a mapping with apiVersion, kind and metadata' }); return; }
  if (typeof object.kind !== 'string' || typeof object.apiVersion !== 'string') {
    result.problems.push({ where, message: `${typeof object.kind === 'string' ? 'apiVersion' : 'kind'} is not set` });
    return;
  }
  if (object.kind === 'List' && Array.isArray(object.items)) { for (const item of object.items) addValue(file, where, item, result); return; }
  if (typeof object.metadata?.name !== 'string') { result.problems.push({ where, message: `${object.kind} has no metadata.name` }); return; }
  resolveWorkingDirs(object as KubeObject, dirname(resolve(file)));
  result.objects.push({ object: object as KubeObject, where });
}

function resolveWorkingDirs(object: KubeObject, folder: string): void {
  const spec = (object as { spec?: PodSpec & { template?: { spec?: PodSpec }; jobTemplate?: { spec?: { template?: { spec?: PodSpec } } } } }).spec;
  for (const pod of [object.kind === 'Pod' ? spec : undefined, spec?.template?.spec, spec?.jobTemplate?.spec?.template?.spec]) {
    const containers: Container[] = [...(Array.isArray(pod?.containers) ? pod.containers : []), ...(Array.isArray(pod?.initContainers) ? pod.initContainers : [])];
    for (const container of containers) {
      if (container === null || typeof container !== 'object') continue;
      if (container.workingDir === undefined) container.workingDir = folder;
      else if (typeof container.workingDir === 'string' && !isAbsolute(container.workingDir)) container.workingDir = join(folder, container.workingDir);
    }
  }
}

/** Finds where a kind lives by asking the server's discovery, one request per group and version. */
export class KindFinder {
  readonly #client: ApiClient;
  readonly #known = new Map<string, Promise<Map<string, ResourceRef>>>();
  constructor(client: ApiClient) { this.#client = client; }

  async find(apiVersion: string, kind: string): Promise<ResourceRef> {
    const kinds = await this.#kindsOf(apiVersion);
    const found = kinds.get(kind);
    if (found === undefined) {
      this.#known.delete(apiVersion);
      throw new NetloomError('NotFound', `no matches for kind "${kind}" in version "${apiVersion}"`, { source: 'config', hint: 'netloom kubectl kinds: kubectl api-resources lists what is served; install the CustomResourceDefinition first' });
    }
    return found;
  }

  #kindsOf(apiVersion: string): Promise<Map<string, ResourceRef>> {
    let kinds = this.#known.get(apiVersion);
    if (kinds === undefined) {
      kinds = this.#load(apiVersion);
      this.#known.set(apiVersion, kinds);
      kinds.catch(() => this.#known.delete(apiVersion));
    }
    return kinds;
  }

  async #load(apiVersion: string): Promise<Map<string, ResourceRef>> {
    const [group, version] = apiVersion.includes('/') ? (apiVersion.split('/') as [string, string]) : ['', apiVersion];
    const result = new Map<string, ResourceRef>();
    try {
      const list = await this.#client.raw<{ resources: { name: string; kind: string; namespaced: boolean }[] }>('GET', group === '' ? `/api/${version}` : `/apis/${group}/${version}`);
      for (const { name, kind, namespaced } of list.resources) if (!name.includes('/')) result.set(kind, { group, version, resource: name, kind, isNamespaced: namespaced });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    return result;
  }
}

/** Objects that are applied at a time. */
const applyParallel = 8;

/** Applies the objects with server-side apply (field manager netloom-up, forced); results are in the order of the objects. */
export async function applyManifests(client: ApiClient, finder: KindFinder, objects: readonly ManifestObject[]): Promise<ApplyResult> {
  const outcomes = new Array<AppliedObject | ManifestProblem>(objects.length);
  const apply = async (index: number): Promise<void> => {
    const { object, where } = objects[index]!;
    try {
      const resource = await finder.find(object.apiVersion ?? '', object.kind ?? '');
      const namespace = resource.isNamespaced ? (object.metadata.namespace ?? 'default') : undefined;
      const body = namespace === undefined ? object : { ...object, metadata: { ...object.metadata, namespace } };
      const applied = await client.patch<KubeObject>(resource, namespace, object.metadata.name, body, { type: 'apply', fieldManager: 'netloom-up', force: true, fieldValidation: 'Strict' });
      outcomes[index] = { object: applied, where };
    } catch (error) { outcomes[index] = { where, message: (error as Error).message }; }
  };
  // What others need first, one by one; then the rest side by side, unless a name occurs twice and so the last one counts.
  const isFirst = ({ object }: ManifestObject): boolean => object.kind === 'Namespace' || object.kind === 'CustomResourceDefinition';
  const keys = new Set(objects.map(({ object }) => `${object.apiVersion}/${object.kind}/${object.metadata.namespace}/${object.metadata.name}`));
  const parallel = keys.size === objects.length ? applyParallel : 1;
  for (const [index, item] of objects.entries()) if (isFirst(item)) await apply(index);
  const rest = [...objects.entries()].filter(([, item]) => !isFirst(item)).map(([index]) => index).values();
  await Promise.all(Array.from({ length: parallel }, async () => { for (const index of rest) await apply(index); }));
  return { applied: outcomes.filter((item) => 'object' in item), problems: outcomes.filter((item) => 'message' in item) };
}

/** Calls back, at most every 100 ms, after one of the files changed. A file is watched through its folder: editors replace files. */
export function watchFiles(paths: readonly string[], clock: Clock, onChange: () => void): { close(): void } {
  let timer: TimerHandle | undefined;
  const watchers: FSWatcher[] = paths.map((path) => {
    const isFolder = statSync(path).isDirectory();
    const wanted = (name: string | null): boolean => name === null || (isFolder ? /\.(ya?ml|json)$/.test(name) : name === basename(path));
    const watcher = watch(isFolder ? path : dirname(path), (_event, name) => {
      if (wanted(name)) timer ??= clock.after(100, () => { timer = undefined; onChange(); });
    });
    return watcher.on('error', () => watcher.close());
  });
  return { close: () => { timer?.cancel(); for (const watcher of watchers) watcher.close(); } };
}
