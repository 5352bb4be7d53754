// The source tree keeps its own rules: floor plan of imports, no cycles, file and function size, header comments,
// one door per third-party package, banned calls, and a README that is in step with the code.

import { readdirSync, readFileSync, existsSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';
import { parseSync } from 'vite';
import { errorTable } from '../api/errors.ts';

const root = join(import.meta.dirname, '..');
const folders = ['api', 'control', 'agent', 'proxy', 'dns', 'ingress', 'cli', 'bench', 'test'];
const product = ['api', 'control', 'agent', 'proxy', 'dns', 'ingress', 'cli'];
const mayImport: Record<string, string[]> = {
  api: [], control: ['api'], agent: ['api'], proxy: ['api'], dns: ['api'], ingress: ['api', 'proxy'],
  cli: ['api', 'control', 'agent', 'proxy', 'dns', 'ingress', 'bench'], bench: product, test: [...product, 'bench'],
};
const fileLinesMax = 400;
const functionLinesMax = 70;

/** The files that may import a package; a pattern matches the path below the root. Tests and benches may import anything. */
const doors: Record<string, RegExp> = {
  'undici': /^(cli\/(status|check|explain|http|admin-client)|api\/client|agent\/probes?|agent\/probes\/[\w-]+|ingress\/[\w-]*external-auth|proxy\/http\/[\w-]+|control\/storage\/etcd[\w-]*)\.ts$/,
  'http-proxy': /^control\/server\/[\w-]*proxy[\w-]*\.ts$/,
  'node-cron': /^control\/sweeps\.ts$/,
  'dns2': /^dns\/transport\/udp\.ts$|^cli\/[\w-]+\.ts$/,
  'prom-client': /(^|\/|-)metrics\.ts$|^cli\/admin\.ts$/,
  'koffi': /^proxy\/nftables\/[\w-]+\.ts$/,
  'ws': /^(agent|control)\/[\w/-]+\.ts$/,
  '@peculiar/x509': /^control\/certificates\.ts$/,
  'reflect-metadata': /^control\/certificates\.ts$/,
  'yaml': /\.ts$/,
  'commander': /^cli\//,
  '@marcbachmann/cel-js': /^control\/schema\/custom\/cel\.ts$/,
  'vite': /^control\/schema\/generate\.ts$/,
};

interface SourceFile { path: string; text: string; lines: number; imports: { target: string; isTypeOnly: boolean }[]; functions: { line: number; length: number }[] }

function listFiles(folder: string): string[] {
  const full = join(root, folder);
  if (!existsSync(full)) return [];
  return readdirSync(full, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('node_modules'));
}

interface AstNode { type: string; start: number; end: number; [key: string]: unknown }

function parseFile(path: string): SourceFile {
  const text = readFileSync(join(root, path), 'utf8');
  const result = parseSync(path, text);
  if (result.errors.length > 0) throw new Error(`${path}: ${result.errors[0]?.message}`);
  const starts = [0];
  for (let index = text.indexOf('\n'); index >= 0; index = text.indexOf('\n', index + 1)) starts.push(index + 1);
  const lineOf = (offset: number): number => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) { const middle = (low + high + 1) >> 1; if ((starts[middle] ?? 0) <= offset) low = middle; else high = middle - 1; }
    return low + 1;
  };
  const imports = result.module.staticImports.map((item) => ({
    target: item.moduleRequest.value, isTypeOnly: item.entries.length > 0 && item.entries.every((entry) => entry.isType),
  }));
  for (const item of result.module.staticExports) for (const entry of item.entries) if (entry.moduleRequest) imports.push({ target: entry.moduleRequest.value, isTypeOnly: entry.isType });
  const functions: SourceFile['functions'] = [];
  walk(result.program as unknown as AstNode, (node) => {
    if (!/^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type)) return;
    functions.push({ line: lineOf(node.start), length: lineOf(node.end) - lineOf(node.start) + 1 });
  });
  return { path, text, lines: starts.length - 1, imports, functions };
}

function walk(node: AstNode, visit: (node: AstNode) => void): void {
  visit(node);
  for (const value of Object.values(node)) {
    if (Array.isArray(value)) { for (const item of value) if (isNode(item)) walk(item, visit); } else if (isNode(value)) walk(value, visit);
  }
}
function isNode(value: unknown): value is AstNode { return typeof value === 'object' && value !== null && typeof (value as AstNode).type === 'string'; }

const files = folders.flatMap(listFiles).map(parseFile);
const sources = files.filter((file) => product.includes(folderOf(file.path)));
function folderOf(path: string): string { return path.split('/')[0] ?? ''; }
function resolveImport(from: string, target: string): string { return relative(root, join(root, dirname(from), target)); }

test('a folder imports only what the floor plan allows', () => {
  const wrong: string[] = [];
  for (const file of files) for (const item of file.imports) {
    if (!item.target.startsWith('.')) continue;
    const target = folderOf(resolveImport(file.path, item.target));
    const own = folderOf(file.path);
    if (target !== own && folders.includes(target) && !(mayImport[own] ?? []).includes(target)) wrong.push(`${file.path} imports ${item.target}`);
  }
  expect(wrong).toEqual([]);
});

test('relative imports name an existing file with its suffix', () => {
  const wrong: string[] = [];
  for (const file of files) for (const item of file.imports) {
    if (item.target.startsWith('.') && !existsSync(join(root, resolveImport(file.path, item.target)))) wrong.push(`${file.path} imports ${item.target}`);
  }
  expect(wrong).toEqual([]);
});

test('value imports form no cycle', () => {
  const graph = new Map(files.map((file) => [file.path, file.imports.filter((item) => !item.isTypeOnly && item.target.startsWith('.')).map((item) => resolveImport(file.path, item.target))]));
  const state = new Map<string, 'open' | 'done'>();
  const cycles: string[] = [];
  const visit = (path: string, trail: string[]): void => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') { cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> ')); return; }
    state.set(path, 'open');
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    state.set(path, 'done');
  };
  for (const path of graph.keys()) visit(path, []);
  expect(cycles).toEqual([]);
});

test(`no source file is longer than ${fileLinesMax} lines`, () => {
  expect(sources.filter((file) => file.lines > fileLinesMax).map((file) => `${file.path}: ${file.lines}`)).toEqual([]);
});

test(`no function is longer than ${functionLinesMax} lines`, () => {
  const long = sources.flatMap((file) => file.functions.filter((item) => item.length > functionLinesMax).map((item) => `${file.path}:${item.line}: ${item.length}`));
  expect(long).toEqual([]);
});

test('every source file opens with a comment that says its job', () => {
  expect(files.filter((file) => !/^(#!.*\n)?\/(\/|\*)/.test(file.text)).map((file) => file.path)).toEqual([]);
});

test('a third-party package comes in by its one door', () => {
  const wrong: string[] = [];
  for (const file of sources) for (const item of file.imports) {
    if (item.target.startsWith('.') || item.target.startsWith('node:') || item.isTypeOnly) continue;
    if (builtinModules.includes(item.target)) { wrong.push(`${file.path}: write node:${item.target}`); continue; }
    const name = item.target.startsWith('@') ? item.target.split('/').slice(0, 2).join('/') : item.target.split('/')[0] ?? '';
    const door = doors[name];
    if (door === undefined) wrong.push(`${file.path} imports ${name}, which has no door`);
    else if (!door.test(file.path)) wrong.push(`${file.path} imports ${name} past its door`);
  }
  expect(wrong).toEqual([]);
});

test('only the clock touches machine time and only log and cli write to the terminal', () => {
  const wrong: string[] = [];
  for (const file of sources) {
    const code = file.text.replace(/\/\/.*$/gm, '').replace(/\/\*[\s\S]*?\*\//g, '');
    if (file.path !== 'api/clock.ts' && file.path !== 'api/log.ts' && /\b(Date\.now|performance\.now|setTimeout|setInterval)\(/.test(code)) wrong.push(`${file.path}: machine time`);
    if (file.path !== 'api/log.ts' && folderOf(file.path) !== 'cli' && /\b(console\.\w+\(|process\.std(out|err)\b)/.test(code)) wrong.push(`${file.path}: terminal`);
  }
  expect(wrong).toEqual([]);
});

test('no test is switched off or singled out, and no source holds unfinished words', () => {
  const weak = files.filter((file) => folderOf(file.path) === 'test' && file.path !== 'test/tidy.test.ts' && /\b(it|test|describe)\.(only|skip|todo|fails)\(/.test(file.text));
  expect(weak.map((file) => file.path)).toEqual([]);
  expect(sources.filter((file) => /\b(TODO|FIXME|XXX|HACK)\b/.test(file.text)).map((file) => file.path)).toEqual([]);
});

test('files have kebab-case names', () => {
  expect(files.filter((file) => !/^[a-z0-9-]+(\.[a-z0-9-]+)*\.ts$/.test(file.path.split('/').at(-1) ?? '')).map((file) => file.path)).toEqual([]);
});

const readme = readFileSync(join(root, 'README.md'), 'utf8');

test('the README names only files that exist and every folder of the floor plan', () => {
  const named = [...readme.matchAll(/`((?:api|control|agent|proxy|dns|ingress|cli|bench|test|examples)\/[\w./-]*)`/g)].map((match) => match[1] ?? '');
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  for (const folder of [...product, 'bench', 'test']) expect(readme).toContain(`\`${folder}/\``);
});

test('the README lists every error code with its status, reason and meaning', () => {
  for (const [code, row] of Object.entries(errorTable)) expect(readme).toContain(`| \`${code}\` | ${row.httpStatus} | ${row.reason} | ${row.retry} | ${row.meaning} |`);
});
