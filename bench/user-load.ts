// The load mode of `netloom bench`: turns a URL, svc/NAME or DNS name into a plan, probes the target once, shows live
// progress and prints the result as text or JSON, and as an HTML page on request.

import { lookup } from 'node:dns/promises';
import { readFileSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { cpus, homedir, release } from 'node:os';
import { join } from 'node:path';
import { ApiClient, httpTransport } from '../api/client.ts';
import { transportOptions } from '../api/kubeconfig.ts';
import { resources } from '../api/resources.ts';
import type { Service } from '../api/types.ts';
import { htmlPage } from './lib/html.ts';
import { runLoad } from './lib/load.ts';
import { defaultPlan, type LoadPlan, type LoadResult } from './lib/plan.ts';
import { ms, textReport } from './lib/report.ts';
import type { BenchArgs } from './main.ts';

/** A mistake in the arguments (exit code 2), with what to write instead. */
export class UsageError extends Error {
  readonly isUsage = true;
  readonly hint: string | undefined;
  constructor(message: string, hint?: string) { super(message); this.hint = hint; }
}

interface Instance { kubeconfig: string; dns?: { address: string; port: number } }

export async function runUserLoad(args: BenchArgs): Promise<number> {
  const { values, positionals } = args;
  const plan = await makePlan(values, positionals);
  await probe(plan);
  const abort = new AbortController();
  const onSignal = (): void => abort.abort();
  process.once('SIGINT', onSignal);
  const isLive = process.stderr.isTTY === true && values['output'] !== 'json';
  const result = await runLoad(plan, {
    name: positionals.join(' '), workers: number(values, 'workers', 1, 1, 64), signal: abort.signal,
    onProgress: (point, soFar) => { if (isLive) process.stderr.write(`\r\x1b[K${(point.atMs / 1_000).toFixed(1)} s   ${point.perSecond.toFixed(0)}/s   p50 ${ms(point.p50)}   p99 ${ms(point.p99)}   ${soFar.count} answered   ${soFar.errors} errors`); },
  });
  process.off('SIGINT', onSignal);
  if (isLive) process.stderr.write('\r\x1b[K');
  process.stdout.write(values['output'] === 'json' ? `${JSON.stringify(result)}\n` : `${textReport(result).join('\n')}\n`);
  if (typeof values['html'] === 'string') writeFileSync(values['html'], htmlPage(`netloom bench ${positionals.join(' ')}`, facts(), [{ title: 'result', results: [result] }]));
  return exitCodeOf(result);
}

function exitCodeOf(result: LoadResult): number {
  if (result.isPartial) return 130;
  return result.count === 0 || result.generatorLimit?.startsWith('the generator was late') === true ? 1 : 0;
}

/** Machine, versions and date: printed on every report. */
export function facts(): string[] { return [`${cpus().length} cores`, `${process.platform} ${release()}`, `Node ${process.version}`, new Date().toISOString()]; }

type Values = BenchArgs['values'];

async function makePlan(values: Values, positionals: string[]): Promise<LoadPlan> {
  const target = positionals[0] ?? '';
  const base: LoadPlan = {
    ...defaultPlan, rate: number(values, 'rate', 0, 0, 5_000_000), connections: number(values, 'connections', 32, 1, 100_000), streams: number(values, 'streams', 1, 1, 4_096),
    durationMs: duration(values, 'duration', 10_000), warmupMs: duration(values, 'warmup', 1_000), timeoutMs: duration(values, 'timeout', 10_000),
    requestsPerConnection: values['new-connections'] === true ? 1 : 0, method: string(values, 'method') ?? (values['data'] === undefined ? 'GET' : 'POST'), body: string(values, 'data') ?? '',
    headers: headersOf(values), distributeBy: distribution(string(values, 'by') ?? (target.startsWith('svc/') ? 'body' : 'none')),
  };
  if (target === 'dns') return dnsPlan(base, values, positionals[1]);
  if (target.startsWith('svc/')) return servicePlan(base, values, target.slice(4));
  if (target.startsWith('tcp://')) {
    const match = /^tcp:\/\/(\[[^\]]+\]|[^:/]+):(\d+)\/?$/.exec(target);
    if (match === null) throw new UsageError(`${target} is not tcp://HOST:PORT`);
    return { ...base, protocol: 'tcp', host: await resolveHost((match[1] ?? '').replace(/^\[|\]$/g, '')), port: Number(match[2]), requestsPerConnection: 1 };
  }
  return urlPlan(base, values, target);
}

async function urlPlan(base: LoadPlan, values: Values, target: string): Promise<LoadPlan> {
  let url: URL;
  try { url = new URL(target.includes('://') ? target : `http://${target}`); } catch { throw new UsageError(`"${target}" is not a URL`, 'for example http://127.0.0.1:8080/'); }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new UsageError(`${url.protocol}// is not supported`, 'http://, https://, tcp://, svc/NAME or dns NAME');
  const isTls = url.protocol === 'https:';
  const hostname = url.hostname.replace(/^\[|\]$/g, '');
  return {
    ...base, protocol: values['websocket'] === true ? 'websocket' : values['http2'] === true ? 'http2' : 'http1', isTls,
    host: await resolveHost(hostname), port: url.port === '' ? (isTls ? 443 : 80) : Number(url.port), serverName: string(values, 'host') ?? url.host, path: `${url.pathname}${url.search}`,
  };
}

async function servicePlan(base: LoadPlan, values: Values, name: string): Promise<LoadPlan> {
  const namespace = string(values, 'namespace') ?? 'default';
  const client = new ApiClient(httpTransport(transportOptions(instance(values).kubeconfig)));
  try {
    const service = await client.get<Service>(resources.services, namespace, name.split(':')[0] ?? '');
    const wanted = name.split(':')[1];
    const port = service.spec?.ports?.find((item) => wanted === undefined || item.name === wanted || String(item.port) === wanted);
    const ip = service.spec?.clusterIP;
    if (ip === undefined || ip === '' || ip === 'None' || port === undefined) throw new UsageError(`Service ${namespace}/${name} has no ClusterIP and port to load`);
    if (port.protocol === 'UDP' || port.protocol === 'SCTP') throw new UsageError(`port ${port.port} of ${name} is ${port.protocol}`, 'HTTP and TCP are supported here, UDP by "netloom bench dns"');
    return { ...base, protocol: values['http2'] === true ? 'http2' : 'http1', host: ip, port: port.port, serverName: string(values, 'host') ?? `${service.metadata.name}.${namespace}` };
  } finally { await client.transport.close(); }
}

function dnsPlan(base: LoadPlan, values: Values, name: string | undefined): LoadPlan {
  if (name === undefined) throw new UsageError('no name given', 'netloom bench dns web.shop.svc.cluster.local');
  const types: Record<string, number> = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33, ANY: 255 };
  const type = types[(string(values, 'type') ?? 'A').toUpperCase()];
  if (type === undefined) throw new UsageError(`no query type "${String(values['type'])}"`, Object.keys(types).join(', '));
  const server = string(values, 'server');
  const at = server === undefined ? instance(values).dns : serverOf(server);
  if (at === undefined) throw new UsageError('this netloom runs no DNS', 'give --server IP[:PORT]');
  return { ...base, protocol: values['tcp'] === true ? 'dns-tcp' : 'dns-udp', host: at.address, port: at.port, names: name.split(','), queryType: type, connections: number(values, 'connections', 4, 1, 1_000), streams: number(values, 'streams', 32, 1, 4_096) };
}

function serverOf(text: string): { address: string; port: number } {
  const match = /^(?:\[([^\]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?)$/.exec(text);
  const address = match?.[1] ?? match?.[3] ?? text;
  if (isIP(address) === 0) throw new UsageError(`--server ${text} is not IP[:PORT]`);
  return { address, port: Number(match?.[2] ?? match?.[4] ?? 53) };
}

function instance(values: Values): Instance {
  const dataDir = string(values, 'data-dir') ?? process.env['NETLOOM_HOME'] ?? join(homedir(), '.netloom');
  try { return JSON.parse(readFileSync(join(dataDir, 'netloom.json'), 'utf8')) as Instance; } catch { throw new UsageError(`no netloom runs with data directory ${dataDir}`, 'start one with "netloom up", or name its --data-dir'); }
}

/** One connection before the load, so that an unreachable target is one clear line and not a table of errors. */
async function probe(plan: LoadPlan): Promise<void> {
  const once = { ...plan, connections: 1, streams: 1, rate: 0, warmupMs: 0, durationMs: 1, timeoutMs: Math.min(plan.timeoutMs, 3_000) };
  const result = await runLoad(once);
  if (result.count > 0) return;
  const why = Object.keys(result.errors)[0] ?? 'no answer';
  throw Object.assign(new Error(`${plan.host}:${plan.port} cannot be measured: ${why}`), { hint: 'check the address with curl or dig first' });
}

async function resolveHost(name: string): Promise<string> {
  if (isIP(name) !== 0) return name;
  try { return (await lookup(name)).address; } catch { throw Object.assign(new Error(`cannot resolve ${name}`), { hint: 'give an address, or --host NAME with http://ADDRESS' }); }
}

function headersOf(values: Values): Record<string, string> {
  const result: Record<string, string> = {};
  for (const line of (values['header'] as string[] | undefined) ?? []) {
    const colon = line.indexOf(':');
    if (colon <= 0) throw new UsageError(`-H "${line}" is not "Name: value"`);
    result[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return result;
}

function distribution(text: string): LoadPlan['distributeBy'] {
  if (text === 'none' || text === 'body' || /^header:[\w-]+$/.test(text)) return text as LoadPlan['distributeBy'];
  throw new UsageError(`--by ${text} is not none, body or header:NAME`);
}
function string(values: Values, name: string): string | undefined { const value = values[name]; return typeof value === 'string' ? value : undefined; }
export function number(values: Values, name: string, fallback: number, least: number, most: number): number {
  const text = string(values, name);
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isFinite(value) || value < least || value > most) throw new UsageError(`--${name} ${text} is not a number from ${least} to ${most}`);
  return value;
}
export function duration(values: Values, name: string, fallbackMs: number): number {
  const text = string(values, name);
  if (text === undefined) return fallbackMs;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  if (match === null) throw new UsageError(`--${name} ${text} is not a duration such as 500ms or 10s`);
  return Number(match[1]) * (match[2] === 'ms' ? 1 : match[2] === 'm' ? 60_000 : 1_000);
}
