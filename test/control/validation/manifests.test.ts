// Bad and good manifests against the answers of a Kubernetes API server: HTTP code, reason, field paths and words. Decoding, defaults,
// patches and validation run as the API server runs them, without storage; allocation and routing cases are tested elsewhere.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { invalid, NetloomError, toStatus } from '../../../api/errors.ts';
import type { KubeObject, Status, StatusCause } from '../../../api/types.ts';
import { applyDefaults } from '../../../control/defaults/defaults.ts';
import { normalizeClusterIPs } from '../../../control/defaults/service.ts';
import { jsonPatch } from '../../../control/patch/json-patch.ts';
import { mergePatch } from '../../../control/patch/merge-patch.ts';
import type { FieldValidation } from '../../../control/schema/decode.ts';
import { decodeBody, decodeValue, parsePatch } from '../../../control/schema/decode.ts';
import { validateCreate, validateUpdate } from '../../../control/validation/validate.ts';

interface Expect { code: number[]; reason?: string[]; causes?: { reason: string[]; field: string[] }[]; message_has?: string[]; warning_has?: string[] }
interface Case { title: string; method: string; path: string; type: string; query?: string; body: string; given?: string[]; expect: Expect; or?: Expect[] }
interface Answer { status: Status | undefined; warnings: readonly string[] }

const cases = JSON.parse(readFileSync(new URL('manifests.cases.json', import.meta.url), 'utf8')) as Case[];
const context = { families: ['IPv4'] };
const kinds: Record<string, string> = { services: 'Service', endpointslices: 'EndpointSlice', endpoints: 'Endpoints', ingresses: 'Ingress', ingressclasses: 'IngressClass' };

function expectedKind(path: string): { apiVersion: string; kind: string; namespace: string } {
  const parts = path.split('/').slice(1);
  const apiVersion = parts[0] === 'api' ? parts[1] ?? '' : `${parts[1]}/${parts[2]}`;
  const rest = parts.slice(parts[0] === 'api' ? 2 : 3);
  const namespace = rest[0] === 'namespaces' ? rest[1] ?? '' : '';
  return { apiVersion, kind: kinds[rest[namespace === '' ? 0 : 2] ?? ''] ?? '', namespace };
}

function prepare(object: KubeObject, namespace: string, old?: KubeObject): KubeObject {
  if (namespace !== '') object.metadata.namespace ??= namespace;
  applyDefaults(object);
  if (object.kind === 'Service') normalizeClusterIPs(object as unknown as Record<string, unknown>, old as unknown as Record<string, unknown> | undefined);
  return object;
}

function refuse(object: KubeObject, causes: StatusCause[]): void {
  if (causes.length > 0) throw invalid(object.kind ?? '', '', object.metadata.name, causes);
}

function run(entry: Case): Answer {
  const { apiVersion, kind, namespace } = expectedKind(entry.path);
  const expectType = { apiVersion, kind };
  const strict = (new URLSearchParams(entry.query).get('fieldValidation') ?? 'Warn') as FieldValidation;
  try {
    if (entry.method === 'POST') {
      const { object, warnings } = decodeBody(Buffer.from(entry.body), entry.type, { expect: expectType, strict });
      prepare(object, namespace);
      refuse(object, validateCreate(object, context));
      return { status: undefined, warnings };
    }
    const old = prepare(decodeBody(Buffer.from(entry.given?.[0] ?? ''), 'application/json').object, namespace);
    const patch = parsePatch(Buffer.from(entry.body), entry.type).value;
    const patched = entry.type.includes('json-patch') ? jsonPatch(old, patch) : mergePatch(old, patch);
    const { object, warnings } = decodeValue(patched, { expect: expectType });
    prepare(object, namespace, old);
    refuse(object, validateUpdate(object, old, context));
    return { status: undefined, warnings };
  } catch (error) {
    if (!(error instanceof NetloomError)) throw error;
    return { status: toStatus(error), warnings: [] };
  }
}

function complaints(answer: Answer, want: Expect): string[] {
  const code = answer.status?.code ?? 201;
  const out: string[] = [];
  if (!want.code.includes(code)) out.push(`code ${code}, not ${want.code.join(' or ')}`);
  if (want.reason !== undefined && !want.reason.includes(answer.status?.reason ?? '')) out.push(`reason ${answer.status?.reason}`);
  for (const cause of want.causes ?? []) {
    const isThere = answer.status?.details?.causes?.some((found) => cause.reason.includes(found.reason ?? '') && cause.field.includes(found.field ?? '')) ?? false;
    if (!isThere) out.push(`no cause ${JSON.stringify(cause)}`);
  }
  for (const word of want.message_has ?? []) if (answer.status?.message?.includes(word) !== true) out.push(`message lacks ${word}`);
  for (const word of want.warning_has ?? []) if (!answer.warnings.some((warning) => warning.includes(word))) out.push(`no warning ${word}`);
  return out;
}

describe('manifests answered as by a Kubernetes API server', () => {
  test.each(cases.map((entry) => [entry.title, entry] as const))('%s', (_title, entry) => {
    const answer = run(entry);
    const wrong = [entry.expect, ...(entry.or ?? [])].map((want) => complaints(answer, want));
    expect(wrong.some((list) => list.length === 0), `${JSON.stringify(wrong)} ${JSON.stringify(answer)}`).toBe(true);
  });
});
