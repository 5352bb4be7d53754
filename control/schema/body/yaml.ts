// Reads a YAML body the way the Kubernetes API server does: YAML 1.1 booleans and octal numbers (`defaultMode: 0644`), no
// timestamps, one document, duplicate keys reported by line. Called by `decode`; the one door of the `yaml` package in control/.
// The package is loaded on the first YAML body, since most clients send JSON or protobuf.

import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';
import { NetloomError } from '../../../api/errors.ts';
import { depthMax, keyCountMax } from './json.ts';

/** Most alias expansions in one document (`billion laughs`). */
const aliasCountMax = 100;
let library: typeof Yaml | undefined;

/** A parsed YAML body: `duplicates` are sentences with the line, as the API server words them. */
export interface ParsedYaml { readonly value: unknown; readonly duplicates: readonly string[] }

/** Parses one YAML document. Throws BadRequest for text that is no YAML, has several documents or is over a limit. */
export function parseYaml(text: string): ParsedYaml {
  library ??= createRequire(import.meta.url)('yaml') as typeof Yaml;
  try {
    const lines = new library.LineCounter();
    const document = library.parseDocument(text, { version: '1.1', uniqueKeys: false, lineCounter: lines, customTags: (tags) => tags.filter(isKept), logLevel: 'error' });
    const problem = document.errors[0];
    if (problem !== undefined) throw unreadable(problem.message.split('\n')[0] ?? 'not YAML');
    const duplicates: string[] = [];
    check(library, document.contents, lines, duplicates, { depth: 0, keys: { count: 0 } });
    return { value: plain(document.toJS({ maxAliasCount: aliasCountMax }) as unknown, 0, { count: 0 }), duplicates };
  } catch (error) {
    if (error instanceof NetloomError) throw error;
    throw unreadable((error as Error).message);
  }
}

function isKept(tag: unknown): boolean {
  if (typeof tag === 'string') return !['timestamp', 'binary', 'omap', 'pairs', 'set', 'intTime', 'floatTime'].includes(tag);
  const { format, tag: name } = tag as { format?: string; tag: string };
  return format !== 'TIME' && !/:(timestamp|binary|omap|pairs|set)$/.test(name);
}

function unreadable(why: string): NetloomError {
  return new NetloomError('BadRequest', `error converting YAML to JSON: yaml: ${why}`, { source: 'downstream' });
}

interface Depth { readonly depth: number; readonly keys: { count: number } }

function check(yaml: typeof Yaml, node: unknown, lines: Yaml.LineCounter, duplicates: string[], at: Depth): void {
  if (at.depth > depthMax) throw unreadable(`exceeded max depth of ${depthMax}`);
  const inner = { depth: at.depth + 1, keys: at.keys };
  if (yaml.isSeq(node)) for (const item of node.items) check(yaml, item, lines, duplicates, inner);
  if (!yaml.isMap(node)) return;
  const seen = new Set<string>();
  for (const pair of node.items) {
    if (++at.keys.count > keyCountMax) throw unreadable(`more than ${keyCountMax} keys`);
    const key = yaml.isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
    const line = yaml.isNode(pair.key) && pair.key.range ? lines.linePos(pair.key.range[0]).line : 0;
    if (seen.has(key)) duplicates.push(`line ${line}: key ${JSON.stringify(key)} already set in map`);
    seen.add(key);
    check(yaml, pair.value, lines, duplicates, inner);
  }
}

/** Turns what YAML can hold and JSON cannot (shared nodes, bigint, NaN) into plain JSON values. */
function plain(value: unknown, depth: number, keys: { count: number }): unknown {
  if (depth > depthMax) throw unreadable(`exceeded max depth of ${depthMax}`);
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1, keys));
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    if (++keys.count > keyCountMax) throw unreadable(`more than ${keyCountMax} keys`);
    Object.defineProperty(out, key, { value: plain(item, depth + 1, keys), enumerable: true, configurable: true, writable: true });
  }
  return out;
}
