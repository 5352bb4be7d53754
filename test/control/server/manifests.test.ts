// Bad and odd manifests: each case of data/manifests.json names a request and the code, reason, causes and words that
// the answer must have. The cases were written from the Kubernetes API server's own rules.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startWorld, type Answer, type World } from './harness.ts';

interface Cause { reason: string[]; field: string[] }
interface Expectation { code: number[]; reason?: string[]; causes?: Cause[]; message_has?: string[]; warning_has?: string[]; or?: Expectation[] }
interface Request { method: string; path: string; content_type?: string; body?: unknown; body_text?: string; body_gen?: { prefix: string; open: string; close: string; n: number; suffix: string }; query?: Record<string, string> | string }
interface Case { id: string; cls: string; title: string; request: Request; expect: Expectation; given?: Given[] }
/** `repeat` and `then_delete`: made and deleted so many times. */
interface Given { path: string; body: unknown; repeat?: number; then_delete?: boolean }

const { cases } = JSON.parse(readFileSync(join(import.meta.dirname, 'data/manifests.json'), 'utf8')) as { cases: Case[] };
let world: World;
beforeAll(async () => { world = await startWorld({ serviceCIDRs: ['10.96.0.0/16'], storageLimits: { historyAgeMs: 0, historyCountMin: 100, historyCountMax: 200 } }); });
afterAll(() => world.stop());

function mismatches(answer: Answer, wanted: Expectation): string[] {
  const found: string[] = [];
  const json = answer.json as { kind?: string; code?: number; reason?: string; message?: string; details?: { causes?: { reason: string; field: string }[] } } | undefined;
  if (!wanted.code.includes(answer.status)) found.push(`code ${answer.status}, not ${wanted.code.join('|')}`);
  if (wanted.reason !== undefined && !wanted.reason.includes(json?.reason ?? '')) found.push(`reason ${json?.reason}, not ${wanted.reason.join('|')}`);
  if (answer.status >= 400 && (json?.kind !== 'Status' || json.code !== answer.status)) found.push('the body is no Status of this code');
  for (const cause of wanted.causes ?? []) {
    if (json?.details?.causes?.some((item) => cause.reason.includes(item.reason) && cause.field.includes(item.field)) !== true) found.push(`no cause ${cause.reason.join('|')} at ${cause.field.join('|')}`);
  }
  for (const text of wanted.message_has ?? []) if (!(json?.message ?? '').includes(text)) found.push(`message lacks ${JSON.stringify(text)}`);
  for (const text of wanted.warning_has ?? []) if (!(answer.headers['warning'] ?? '').includes(text)) found.push(`warning lacks ${JSON.stringify(text)}`);
  return found;
}

async function prepare({ path, body, repeat = 1, then_delete: isDeleted = false }: Given): Promise<void> {
  for (let index = 0; index < repeat; index++) {
    expect((await world.call('POST', path, { body })).status).toBe(201);
    if (isDeleted) await world.call('DELETE', `${path}/${(body as { metadata: { name: string } }).metadata.name}`);
  }
}

/** A watch tells of its end by an ERROR event whose object is the Status. */
function unwrapEvent(answer: Answer): Answer {
  const event = answer.json as { type?: string; object?: { code: number } } | undefined;
  return event?.type === 'ERROR' && event.object !== undefined ? { ...answer, status: event.object.code, json: event.object } : answer;
}

function send(request: Request): Promise<Answer> {
  const { body_gen: gen } = request;
  const body = request.body_text ?? (gen === undefined ? request.body : gen.prefix + gen.open.repeat(gen.n) + gen.close.repeat(gen.n) + gen.suffix);
  const query = typeof request.query === 'string' ? request.query : new URLSearchParams(request.query).toString();
  return world.call(request.method, request.path, { ...(body === undefined ? {} : { body }), contentType: request.content_type ?? 'application/json', query });
}

for (const item of cases) {
  test(`${item.id} ${item.cls}: ${item.title}`, async () => {
    for (const given of item.given ?? []) await prepare(given);
    const answer = unwrapEvent(await send(item.request));
    const problems = [item.expect, ...(item.expect.or ?? [])].map((wanted) => mismatches(answer, wanted));
    const best = problems.every((list) => list.length > 0) ? `${problems.map((list) => list.join('; ')).join(' OR ')}\n${answer.text.slice(0, 1500)}` : '';
    await clean(item);
    expect(best).toBe('');
  });
}

async function clean(item: Case): Promise<void> {
  for (const { path, body } of item.given ?? []) await world.call('DELETE', `${path}/${(body as { metadata: { name: string } }).metadata.name}`);
  const name = (item.request.body as { metadata?: { name?: string } } | undefined)?.metadata?.name;
  if (item.request.method === 'POST' && typeof name === 'string') await world.call('DELETE', `${item.request.path}/${encodeURIComponent(name)}`);
}
