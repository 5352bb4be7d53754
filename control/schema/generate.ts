// Makes control/schema/data/{types,docs}/*.json from published model code; developers run it, the product only reads its output.
//   node control/schema/generate.ts            writes the files
// Sources: the models of @kubernetes/client-node 1.1.2 (Kubernetes 1.32: JSON names, formats, which fields are required) and
// kubernetes-types 1.30 (descriptions of fields that are references, Quantity). Both are Apache-2.0 (The Kubernetes Authors); the
// generated descriptions carry that licence. Merge keys, list types and defaults are not in any of them: see `facts` and `defaults`.
// A type code is `[]`/`{}` prefixes, a base (string bool int32 int64 double byte time microtime intstr quantity any, or a type name,
// with its package if that differs), `!` for required, `~` for a zero value that Go leaves out (`omitempty` without a pointer).

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { parseSync } from 'vite';
import { kindsOf, packageGroups, packages } from './kinds.ts';

/* eslint-disable @typescript-eslint/no-explicit-any -- a syntax tree is read by shape */
interface Node { type: string; start: number; end: number; [field: string]: any }
interface ModelField { name: string; type: string; format: string }
interface Model { fields: ModelField[]; required: Set<string>; docs: Record<string, string>; doc: string }
interface PlainType { doc: string; docs: Record<string, string>; types: Record<string, string> }

const root = new URL('../../', import.meta.url);
const modelFolder = new URL('node_modules/models-1.32/dist/gen/models/', root);
const plainFolder = new URL('node_modules/kubernetes-types/', root);

/** Fields younger than the models: trafficDistribution PreferSameNode needs hints by node (KEP-3015, Kubernetes 1.33). */
const laterFields: Readonly<Record<string, Readonly<Record<string, { code: string; doc: string }>>>> = {
  'discovery/v1.EndpointHints': { forNodes: { code: '[]ForZone~', doc: 'forNodes indicates the node(s) this endpoint should be consumed by when using topology aware routing. May contain a maximum of 8 entries.' } },
};

/** The generated files: path below control/schema/data → text. */
export function generate(): Map<string, string> {
  const plain = readPlainTypes();
  const zeroFields = readZeroFields();
  const done = new Map<string, Record<string, Record<string, string>>>();
  const docs = new Map<string, Record<string, Record<string, string>>>();
  const queue: string[] = packages.flatMap((name) => kindsOf(name).map((row) => `${name}.${row.kind}`));
  const seen = new Set(queue);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const dot = next.indexOf('.');
    const packageName = next.slice(0, dot);
    const typeName = next.slice(dot + 1);
    const { codes, texts, refs } = describe(packageName, typeName, plain, zeroFields);
    into(done, packageName)[typeName] = codes;
    into(docs, packageName)[typeName] = texts;
    for (const ref of refs) if (!seen.has(ref)) { seen.add(ref); queue.push(ref); }
  }
  const files = new Map<string, string>();
  for (const [name, types] of done) files.set(`types/${name.replace('/', '.')}.json`, toText(types));
  for (const [name, texts] of docs) files.set(`docs/${name.replace('/', '.')}.json`, toText(texts));
  return files;
}

function into<T>(map: Map<string, Record<string, T>>, key: string): Record<string, T> {
  let value = map.get(key);
  if (value === undefined) map.set(key, value = {});
  return value;
}

function toText(types: Record<string, Record<string, string>>): string {
  const lines = Object.keys(types).sort().map((name) => `${JSON.stringify(name)}:${JSON.stringify(types[name])}`);
  return `{\n${lines.join(',\n')}\n}\n`;
}

type ZeroFields = ReadonlyMap<string, ReadonlySet<string>>;

function describe(packageName: string, typeName: string, plain: Map<string, PlainType>, zeroFields: ZeroFields): { codes: Record<string, string>; texts: Record<string, string>; refs: string[] } {
  const model = readModel(packageName, typeName);
  const prose = plain.get(`${packageName}.${typeName}`);
  const zeros = zeroFields.get(`${packageName}.${typeName}`);
  const codes: Record<string, string> = {};
  const texts: Record<string, string> = { '': model.doc };
  const refs: string[] = [];
  for (const field of model.fields) {
    const code = typeCode(field, packageName, prose?.types[field.name] ?? '', plain, refs);
    codes[field.name] = code + (model.required.has(field.name) ? '!' : '') + (zeros?.has(field.name) === true ? '~' : '');
    const text = prose?.docs[field.name] ?? model.docs[field.name] ?? '';
    if (text !== '') texts[field.name] = text;
  }
  for (const [field, { code, doc }] of Object.entries(laterFields[`${packageName}.${typeName}`] ?? {})) {
    codes[field] = code;
    texts[field] = doc;
  }
  return { codes, texts, refs };
}

function typeCode(field: ModelField, packageName: string, plainType: string, plain: Map<string, PlainType>, refs: string[]): string {
  let type = field.type;
  let prefix = '';
  for (;;) {
    const list = /^Array<(.*)>$/.exec(type);
    const map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
    if (list !== null) { prefix += '[]'; type = list[1] ?? ''; } else if (map !== null) { prefix += '{}'; type = map[1] ?? ''; } else break;
  }
  const isModel = /^([A-Z][a-z]+)?V\d/.test(type) && type !== 'V1MicroTime';
  if (!isModel) return prefix + baseCode(type, field.format, plainType);
  if (type === 'V1JSONSchemaProps' && field.name === 'items') return 'any';
  const target = resolveModel(type, packageName, plain);
  refs.push(target);
  return prefix + (target.startsWith(`${packageName}.`) ? target.slice(packageName.length + 1) : target);
}

function baseCode(type: string, format: string, plainType: string): string {
  if (/\bQuantity\b/.test(plainType)) return 'quantity';
  if (format === 'int-or-string' || type === 'IntOrString') return 'intstr';
  if (type === 'V1MicroTime' || format === 'date-time-micro') return 'microtime';
  if (type === 'Date') return 'time';
  if (type === 'number') return format === 'int32' || format === 'int64' ? format : 'double';
  if (type === 'boolean') return 'bool';
  if (type === 'string') return format === 'byte' ? 'byte' : 'string';
  return 'any';
}

/** `V1Foo`, `CoreV1Event` → `group/version.Name`; a name that several groups have belongs to the referring package. */
function resolveModel(model: string, from: string, plain: Map<string, PlainType>): string {
  const parts = /^([A-Z][a-z]+)?V(\d+(?:(?:alpha|beta)\d+)?)(.+)$/.exec(model);
  if (parts === null) throw new Error(`no model name: ${model}`);
  const [, group, version, name = ''] = parts;
  if (group !== undefined) return `${group.toLowerCase()}/v${version}.${name}`;
  if (name === 'FieldSelectorRequirement') return `meta/v1.${name}`;
  if (plain.has(`${from}.${name}`)) return `${from}.${name}`;
  const owners = [`meta/v${version}`, `core/v${version}`, ...Object.keys(packageGroups)].filter((name2) => plain.has(`${name2}.${name}`));
  const folder = from.slice(0, from.indexOf('/'));
  return `${owners[0] ?? `${folder}/v${version}`}.${name}`;
}

function readModel(packageName: string, typeName: string): Model {
  const [folder = '', version = 'v1'] = packageName.split('/');
  const names = [`${folder[0]?.toUpperCase()}${folder.slice(1)}${version.toUpperCase()[0]}${version.slice(1)}${typeName}`, `V${version.slice(1)}${typeName}`];
  const present = new Set(modelFiles());
  const name = names.find((candidate) => present.has(`${candidate}.d.ts`));
  if (name === undefined) throw new Error(`no model for ${packageName}.${typeName}`);
  return { ...readDeclaration(name), fields: readAttributes(name) };
}

let modelFileNames: string[] | undefined;
function modelFiles(): string[] { return modelFileNames ??= readdirSync(modelFolder); }

function readAttributes(name: string): ModelField[] {
  const body = parse(new URL(`${name}.js`, modelFolder)).body;
  const statement = body.find((node) => node['expression']?.left?.property?.name === 'attributeTypeMap');
  const elements: Node[] = statement?.['expression'].right.elements ?? [];
  return elements.map((element) => {
    const field = new Map<string, string>(element['properties'].map((p: Node) => [p['key'].value, p['value'].value]));
    return { name: field.get('baseName') ?? '', type: field.get('type') ?? '', format: field.get('format') ?? '' };
  });
}

function readDeclaration(name: string): Omit<Model, 'fields'> {
  const url = new URL(`${name}.d.ts`, modelFolder);
  const { body, docOf } = parse(url);
  const exported = body.find((node) => node['declaration']?.type === 'ClassDeclaration');
  const required = new Set<string>();
  const docs: Record<string, string> = {};
  for (const member of (exported?.['declaration'].body.body ?? []) as Node[]) {
    if (member.type !== 'PropertyDefinition' || member['static'] === true) continue;
    const key: string = member['key'].value ?? member['key'].name;
    if (member['optional'] !== true) required.add(key);
    docs[key] = docOf(member.start).replaceAll(/\\(['"])/g, '$1');
  }
  return { required, docs, doc: docOf(exported?.start ?? 0).replaceAll(/\\(['"])/g, '$1') };
}

function readPlainTypes(): Map<string, PlainType> {
  const out = new Map<string, PlainType>();
  for (const packageName of Object.keys(packageGroups)) {
    const { body, docOf, text } = parse(new URL(`${packageName}.d.ts`, plainFolder));
    for (const node of body) {
      const declaration: Node | undefined = node['declaration'];
      if (declaration?.type !== 'TSInterfaceDeclaration') continue;
      const entry: PlainType = { doc: docOf(node.start), docs: {}, types: {} };
      for (const member of declaration['body'].body as Node[]) {
        const key: string = member['key'].name ?? member['key'].value;
        entry.docs[key] = docOf(member.start);
        const annotation: Node | undefined = member['typeAnnotation'];
        if (annotation !== undefined) entry.types[key] = text.slice(annotation.start, annotation.end);
      }
      out.set(`${packageName}.${declaration['id'].name}`, entry);
    }
  }
  return out;
}

function parse(url: URL): { body: Node[]; docOf: (start: number) => string; text: string } {
  const text = readFileSync(url, 'utf8');
  const result = parseSync(url.pathname, text);
  const comments = new Map<number, string>();
  for (const comment of result.comments) comments.set(comment.end, comment.value);
  const docOf = (start: number): string => {
    let end = start;
    while (end > 0 && /\s/.test(text[end - 1] ?? '')) end--;
    return (comments.get(end) ?? '').split('\n').map((line) => line.replace(/^\s*\*+ ?/, '').trimEnd()).join('\n').trim();
  };
  return { body: result.program.body as unknown as Node[], docOf, text };
}

/** Fields whose zero value Go leaves out, from the wire table (`~` there). */
function readZeroFields(): ZeroFields {
  const table = JSON.parse(readFileSync(new URL('data/protobuf.json', import.meta.url), 'utf8')) as Record<string, string>;
  return new Map(Object.entries(table).map(([name, line]) => [
    name, new Set(line.split(' ').filter((field) => field.endsWith('~')).map((field) => field.slice(0, field.indexOf('=')))),
  ]));
}

if (import.meta.main) {
  for (const [path, text] of generate()) writeFileSync(new URL(`data/${path}`, import.meta.url), text);
}
