// `netloom explain svc|ingress|dns`: the decision path in the order in which it is taken, from the live snapshots of
// the running process; exit code 4 when the thing does not exist, 5 when it does not work.

import { askAdmin } from './admin-client.ts';
import { ExitCode } from './exit.ts';
import { requireInstance } from './instance.ts';
import { NetloomError } from '../api/errors.ts';
import { print } from './output.ts';

interface ExplainedEndpoint { ip: string; port: number; ready: boolean; serving: boolean; terminating: boolean; nodeName?: string; podKey?: string }
interface ExplainedService {
  error?: string; similar?: string[]; service: string; type?: string; externalName?: string; clusterIPs: string[]; selector?: Record<string, string>; isProxied: boolean;
  internalTrafficPolicy: string; externalTrafficPolicy: string; affinityTimeoutSeconds: number;
  ports: { name: string; protocol: string; port: number; nodePort: number; targetPort?: number | string; endpoints: ExplainedEndpoint[] }[];
  pods: { name: string; phase?: string; ip?: string; ready: boolean; reason: string }[]; similarPods: string[];
}

export async function explain(what: string, name: string, flags: Record<string, unknown>): Promise<void> {
  const kinds: Record<string, string> = { svc: 'svc', service: 'svc', services: 'svc', ingress: 'ingress', ing: 'ingress', dns: 'dns' };
  const kind = kinds[what];
  if (kind === undefined) throw new NetloomError('ConfigInvalid', `cannot explain "${what}"`, { source: 'config', context: { exitCode: 2 }, hint: 'netloom explain svc NAME | ingress URL | dns NAME' });
  const info = requireInstance(String(flags['dataDir']));
  const [namespace, plain] = kind === 'svc' && name.includes('/') ? (name.split('/') as [string, string]) : [String(flags['namespace']), name];
  const query = new URLSearchParams({ name: plain, namespace, ...(flags['from'] === undefined ? {} : { from: String(flags['from']) }) });
  const answer = await askAdmin<Record<string, unknown>>(info, `/explain/${kind}?${query}`);
  if (flags['output'] === 'json') print(JSON.stringify(answer));
  if (answer['error'] !== undefined) {
    const similar = (answer['similar'] as string[] | undefined) ?? [];
    if (flags['output'] !== 'json') print(`${String(answer['error'])}${similar.length === 0 ? '' : `; closest: ${similar.join(', ')}`}`);
    throw new ExitCode(4);
  }
  const works = kind === 'svc' ? explainService(answer as unknown as ExplainedService, flags['output'] === 'json') : explainOther(answer, flags['output'] === 'json');
  if (!works) throw new ExitCode(5);
}

/** Prints one fact a line; whether a connection would work. */
function explainService(answer: ExplainedService, isQuiet: boolean): boolean {
  const lines: string[] = [];
  if (answer.type === 'ExternalName') {
    if (!isQuiet) print(`service    ${answer.service}  ExternalName\nresult     DNS answers CNAME ${answer.externalName ?? ''}; no proxy is involved`);
    return true;
  }
  lines.push(`service    ${answer.service}  ${answer.type ?? 'ClusterIP'} ${answer.clusterIPs.join(', ') || (answer.isProxied ? '' : '(no ClusterIP: left alone by the proxy)')}`);
  lines.push(`policy     internal ${answer.internalTrafficPolicy}, external ${answer.externalTrafficPolicy}, affinity ${answer.affinityTimeoutSeconds === 0 ? 'none' : `ClientIP ${answer.affinityTimeoutSeconds} s`}`);
  let works = answer.ports.length > 0;
  for (const port of answer.ports) {
    const ready = port.endpoints.filter((endpoint) => endpoint.ready);
    if (ready.length === 0 && !port.endpoints.some((endpoint) => endpoint.serving && endpoint.terminating)) works = false;
    lines.push(`port       ${port.name === '' ? '' : `${port.name} `}${port.port}/${port.protocol}${port.nodePort === 0 ? '' : ` nodePort ${port.nodePort}`} -> ${port.targetPort ?? port.port}: ${ready.length} of ${port.endpoints.length} endpoints ready`);
    for (const endpoint of port.endpoints) lines.push(`             ${endpoint.ip}:${endpoint.port}  ${endpoint.ready ? 'ready' : endpoint.terminating ? 'terminating' : 'not ready'}${endpoint.podKey === undefined ? '' : `  ${endpoint.podKey}`}${endpoint.nodeName === undefined ? '' : `  on ${endpoint.nodeName}`}`);
  }
  for (const pod of answer.pods.filter((item) => !item.ready)) lines.push(`pod        ${pod.name}  ${pod.phase ?? 'Pending'}, not ready${pod.reason === '' ? '' : `: ${pod.reason}`}`);
  if (answer.selector !== undefined && answer.pods.length === 0) {
    lines.push(`selector   ${Object.entries(answer.selector).map(([key, value]) => `${key}=${value}`).join(',')} selects no Pod`);
    for (const line of answer.similarPods) lines.push(`             closest: ${line}`);
  }
  lines.push(works ? 'result     connections are served' : 'result     connection refused: nothing to choose from');
  if (!isQuiet) for (const line of lines) print(line);
  return works;
}

function explainOther(answer: Record<string, unknown>, isQuiet: boolean): boolean {
  const endpoints = answer['endpoints'] as unknown[] | undefined;
  const works = answer['works'] !== false && (endpoints === undefined || endpoints.length > 0);
  if (isQuiet) return works;
  const { lines, steps } = answer as { lines?: string[]; steps?: { step: string; result: string }[] };
  if (Array.isArray(lines)) for (const line of lines) print(line);
  else if (Array.isArray(steps)) {
    for (const { step, result } of steps) print(`${step.padEnd(10)} ${result}`);
    const reason = String(answer['reason'] ?? 'no-endpoints');
    print(`${'result'.padEnd(10)} ${works ? 'requests are served' : `HTTP ${/^no-(host|path)-rule$/.test(reason) ? 404 : 503}, netloom-reason: ${reason}`}`);
  } else for (const [key, value] of Object.entries(answer)) if (key !== 'works') print(`${key.padEnd(10)} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return works;
}
