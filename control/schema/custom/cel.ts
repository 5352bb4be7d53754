// Evaluates x-kubernetes-validations (CEL) of custom resources. Called by `values`; the one door of the CEL library, which is
// loaded when the first rule is compiled, so a server without such CRDs never pays for it.
// A rule that the library cannot compile is reported by `celProblem` and not enforced: Kubernetes' own functions that are missing here
// (url, ip and cidr objects, quantity arithmetic, format) are few, and refusing the whole CRD would help nobody.
// Values reach CEL by their schema: integers as int, numbers as double, property names escaped as Kubernetes does (`a-b` → `a__dash__b`).

import { createRequire } from 'node:module';
import type * as CelModule from '@marcbachmann/cel-js';
import { parseCIDR, parseIP } from '../../../api/address.ts';
import { quantityNanos } from '../body/scalars.ts';
import type { CelRule, Schema } from '../schema.ts';
import { isRecord, setKey } from '../schema.ts';

/** Longest rule text and deepest syntax tree that are compiled. */
const ruleLengthMax = 16_384;
type Program = (context: Record<string, unknown>) => unknown;
type Compiled = { readonly run: Program } | { readonly problem: string };

let environment: CelModule.Environment | undefined;
const compiled = new Map<string, Compiled>();
/** Compiled rules that are kept; Gateway API's standard channel has about 90 distinct ones. */
const compiledMax = 5000;

/** Why a rule is not enforced; undefined when it compiles. */
export function celProblem(rule: string): string | undefined {
  const made = compileRule(rule);
  return 'problem' in made ? made.problem : undefined;
}

/** True when the rule speaks of the old value: then it is checked on updates only. */
export function isTransitionRule(rule: CelRule): boolean { return /\boldSelf\b/.test(rule.rule) && rule.optionalOldSelf !== true; }

/** The complaint of a rule about a value, undefined when it holds (or cannot be compiled). A rule that fails to evaluate is a complaint. */
export function checkRule(rule: CelRule, self: unknown, oldSelf: unknown, schema: Schema): string | undefined {
  const made = compileRule(rule.rule);
  if ('problem' in made) return undefined;
  const context = { self: toCel(self, schema), ...(oldSelf === undefined ? {} : { oldSelf: toCel(oldSelf, schema) }) };
  try {
    if (made.run(context) === true) return undefined;
  } catch (error) {
    return `${complaintOf(rule, context)}: evaluation failed: ${(error as Error).message.split('\n')[0]}`;
  }
  return complaintOf(rule, context);
}

function complaintOf(rule: CelRule, context: Record<string, unknown>): string {
  if (rule.messageExpression !== undefined) {
    const made = compileRule(rule.messageExpression);
    try {
      const text = 'run' in made ? made.run(context) : undefined;
      if (typeof text === 'string' && text.trim() !== '' && !text.includes('\n')) return text;
    } catch {
      // The fixed message below says enough.
    }
  }
  return rule.message ?? `failed rule: ${rule.rule.trim()}`;
}

function compileRule(rule: string): Compiled {
  let made = compiled.get(rule);
  if (made !== undefined) return made;
  if (rule.length > ruleLengthMax) made = { problem: 'the rule is too long' };
  else {
    try {
      const program = makeEnvironment().parse(withoutIndexedHas(rule));
      const checked = program.check();
      made = checked.valid ? { run: (context) => program(context) } : { problem: checked.error?.message.split('\n')[0] ?? 'does not type-check' };
    } catch (error) {
      made = { problem: (error as Error).message.split('\n')[0] ?? 'cannot be compiled' };
    }
  }
  if (compiled.size >= compiledMax) compiled.clear();
  compiled.set(rule, made);
  return made;
}

/** The library's `has` takes no index inside (`has(self[0].x)`): such a test is written as membership of the key. */
function withoutIndexedHas(rule: string): string {
  return rule.replaceAll(/\bhas\(((?:[\w.]+\[[^\][()]+\])+(?:\.\w+)*)\.(\w+)\)/g, '("$2" in $1)');
}

function makeEnvironment(): CelModule.Environment {
  if (environment !== undefined) return environment;
  const { Environment } = createRequire(import.meta.url)('@marcbachmann/cel-js') as typeof CelModule;
  const made = new Environment({ enableOptionalTypes: true, homogeneousAggregateLiterals: false, limits: { maxAstNodes: 5000, maxDepth: 100 } });
  made.registerVariable('self', 'dyn').registerVariable('oldSelf', 'dyn');
  const sum = (list: unknown[]): unknown => list.reduce((total, item) => (typeof total === 'bigint' && typeof item === 'bigint' ? total + item : Number(total) + Number(item)), list.length === 0 || typeof list[0] === 'bigint' ? 0n : 0);
  const extreme = (sign: number) => (list: unknown[]): unknown => list.reduce((best, item) => (compare(item, best) * sign > 0 ? item : best), list[0]);
  made.registerFunction('list.sum(): dyn', sum);
  made.registerFunction('list.min(): dyn', extreme(-1));
  made.registerFunction('list.max(): dyn', extreme(1));
  made.registerFunction('list.isSorted(): bool', (list: unknown[]) => list.every((item, index) => index === 0 || compare(list[index - 1], item) <= 0));
  made.registerFunction('list.indexOf(dyn): int', (list: unknown[], item: unknown) => BigInt(list.indexOf(item)));
  made.registerFunction('list.lastIndexOf(dyn): int', (list: unknown[], item: unknown) => BigInt(list.lastIndexOf(item)));
  made.registerFunction('string.replace(string, string): string', (text: string, from: string, to: string) => text.replaceAll(from, () => to));
  made.registerFunction('string.charAt(int): string', (text: string, index: bigint) => text.charAt(Number(index)));
  made.registerFunction('string.find(string): string', (text: string, pattern: string) => new RegExp(pattern, 'u').exec(text)?.[0] ?? '');
  made.registerFunction('string.findAll(string): list', (text: string, pattern: string) => [...text.matchAll(new RegExp(pattern, 'gu'))].map((match) => match[0]));
  made.registerFunction('isURL(string): bool', (text: string) => URL.canParse(text));
  made.registerFunction('isIP(string): bool', (text: string) => parseIP(text) !== undefined);
  made.registerFunction('isCIDR(string): bool', (text: string) => parseCIDR(text) !== undefined);
  made.registerFunction('isQuantity(string): bool', (text: string) => quantityNanos(text) !== undefined);
  return environment = made;
}

function compare(a: unknown, b: unknown): number { return (a as number) < (b as number) ? -1 : (a as number) > (b as number) ? 1 : 0; }

const reserved = new Set(['true', 'false', 'null', 'in', 'as', 'break', 'const', 'continue', 'else', 'for', 'function', 'if', 'import', 'let', 'loop', 'package', 'namespace', 'return', 'var', 'void', 'while']);

function escapeName(name: string): string {
  if (reserved.has(name)) return `__${name}__`;
  return name.replaceAll('__', '__underscores__').replaceAll('.', '__dot__').replaceAll('-', '__dash__').replaceAll('/', '__slash__');
}

/** A JSON value as CEL sees it. */
export function toCel(value: unknown, schema: Schema | undefined): unknown {
  if (typeof value === 'number') return schema?.type !== 'double' && Number.isInteger(value) ? BigInt(value) : value;
  if (Array.isArray(value)) return value.map((item) => toCel(item, schema?.items));
  if (!isRecord(value)) return value;
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    const child = schema?.type === 'map' ? schema.items : schema?.properties?.get(key);
    setKey(out, schema?.type === 'map' ? key : escapeName(key), toCel(value[key], child));
  }
  return out;
}
