// Hostile and unusual requests, byte for byte through a real engine to an origin that records: requests.cases.json lists
// the allowed outcomes of each. After every case the engine must still answer, and nothing hidden may have got through.

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expand, Origin, startRelay, talk, type RawPart, type RawResult, type Relay, type SeenRequest } from './raw.ts';

interface Outcome {
  kind: 'reject' | 'drop' | 'forward' | 'wait' | 'reset' | 'route' | 'local'; status?: number[]; upstream?: number; upstream_max?: number; accept?: string[];
  upstream_body?: string; upstream_paths?: string[]; upstream_host?: string; upstream_absent?: string[]; upstream_headers_absent?: string[]; upstream_present?: string[];
  upstream_containing?: string; upstream_not_containing?: string; allow_1xx?: boolean;
}
interface Case { id: string; cls: string; title: string; raw: string | RawPart[]; segments?: number; max_upstream?: number; outcomes: Outcome[] }
const { cases } = JSON.parse(readFileSync(new URL('./requests.cases.json', import.meta.url), 'utf8')) as { cases: Case[] };

const origin = new Origin();
const publicOrigin = new Origin();
let relay: Relay;
beforeAll(async () => {
  const port = await origin.listen();
  const publicPort = await publicOrigin.listen();
  relay = await startRelay([['a.test', '/pub', [publicPort]], ['a.test', '/', [port]], ['b.test', '/', [port]]], { headMs: 250, bodyIdleMs: 250, keepAliveMs: 2_000 });
});
afterAll(async () => { await relay.close(); origin.close(); publicOrigin.close(); });

const field = (request: SeenRequest, name: string): string | undefined => request.lines.find((line) => line.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1).trim();

function fits(outcome: Outcome, result: RawResult, seen: readonly SeenRequest[], isPublic: boolean): boolean {
  const statuses = result.answers.map((answer) => answer.status);
  const last = result.answers.at(-1);
  switch (outcome.kind) {
    case 'reject': return seen.length === 0 && outcome.status!.includes(statuses[0] ?? 0) && result.isClosed && last?.isWhole === true;
    case 'local': return seen.length === 0 && outcome.status!.includes(statuses[0] ?? 0) && last?.isWhole === true;
    case 'drop': return seen.length === 0 && statuses.length === 0 && result.isClosed;
    case 'reset': return result.isClosed && seen.length <= (outcome.upstream_max ?? 1);
    case 'wait': return statuses.length === 0 || result.isClosed;
    case 'route': {
      const where = seen.length === 0 ? String(statuses[0]) : isPublic ? 'P' : 'D';
      return outcome.accept!.includes(where);
    }
    case 'forward': return seen.length === outcome.upstream && isList(statuses, outcome.status!) && result.answers.every((answer) => answer.isWhole) && sent(outcome, seen);
    default: return false;
  }
}

function isList(a: readonly unknown[], b: readonly unknown[]): boolean { return a.length === b.length && a.every((item, index) => item === b[index]); }

function sent(outcome: Outcome, seen: readonly SeenRequest[]): boolean {
  const first = seen[0];
  if (first === undefined) return outcome.upstream === 0;
  if (outcome.upstream_body !== undefined && first.body !== outcome.upstream_body) return false;
  if (outcome.upstream_host !== undefined && field(first, 'host') !== outcome.upstream_host) return false;
  if (outcome.upstream_paths !== undefined && !isList(seen.map((request) => request.path), outcome.upstream_paths)) return false;
  for (const name of [...(outcome.upstream_absent ?? []), ...(outcome.upstream_headers_absent ?? [])]) if (field(first, name) !== undefined) return false;
  for (const name of outcome.upstream_present ?? []) if (field(first, name) === undefined) return false;
  if (outcome.upstream_containing !== undefined && !first.raw.includes(outcome.upstream_containing)) return false;
  return outcome.upstream_not_containing === undefined || !first.raw.includes(outcome.upstream_not_containing);
}

describe.each(Object.entries(Object.groupBy(cases, (item) => item.cls)))('%s', (_cls, group) => {
  test.each(group!.map((item) => [`${item.id} ${item.title}`, item] as const))('%s', async (_name, item) => {
    origin.seen.length = 0;
    publicOrigin.seen.length = 0;
    const bytes = expand(item.raw);
    const answersWanted = Math.max(1, ...item.outcomes.map((outcome) => outcome.status?.length ?? 1).filter((count) => count < 20));
    const forwards = item.outcomes.filter((outcome) => outcome.kind === 'forward');
    const count = forwards.length > 0 ? Math.max(...forwards.map((outcome) => outcome.status!.length)) : answersWanted;
    const methods = item.title.startsWith('HEAD') ? ['HEAD'] : [];
    const result = await talk(relay.port, bytes, { segment: item.segments, quietMs: 1_500, methods, isDone: ({ answers }) => forwards.length > 0 && answers.length >= count && answers.at(-1)!.isWhole && answers.at(-1)!.status < 400 });
    const seen = [...origin.seen, ...publicOrigin.seen];
    const context = JSON.stringify({ answers: result.answers, isClosed: result.isClosed, isReset: result.isReset, seen: seen.map((request) => request.raw.slice(0, 600)) });
    expect(item.outcomes.some((outcome) => fits(outcome, result, seen, publicOrigin.seen.length > 0)), context).toBe(true);
    for (const request of seen) {
      expect(request.faults, context).toEqual([]);
      expect(request.raw.startsWith('GET /smuggled'), context).toBe(false);
    }
    expect(seen.length).toBeLessThanOrEqual(item.max_upstream ?? 1);
    const after = await talk(relay.port, Buffer.from('GET /canary HTTP/1.1\r\nHost: a.test\r\n\r\n'), { isDone: ({ answers }) => answers[0]?.isWhole === true });
    expect(after.answers[0]?.status).toBe(200);
  });
});
