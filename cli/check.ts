// `netloom check`: sections of one-line findings with a stable code and the command that mends it. Exit code 1 when
// something failed (with --strict also on warnings); --wait polls until all is well.

import { readFileSync } from 'node:fs';
import type { ApiClient } from '../api/client.ts';
import { sleep, systemClock } from '../api/clock.ts';
import { resources } from '../api/resources.ts';
import type { EndpointSlice, Ingress, IngressClass, KubeObject, Node, Pod, Secret, Service } from '../api/types.ts';
import { askAdmin } from './admin-client.ts';
import { ExitCode } from './exit.ts';
import { parseDuration } from './flags.ts';
import { clientOf, findInstance, type ReadyInfo } from './instance.ts';
import { describeError, paint, print, type Mark } from './output.ts';
import { findTool, hasNft } from './settings.ts';

export interface Finding { section: string; mark: Mark; text: string; code?: string; fix?: string }

export async function check(flags: Record<string, unknown>): Promise<void> {
  const deadline = systemClock.monotonicMs() + (flags['wait'] === undefined ? 0 : parseDuration(String(flags['wait'])));
  let findings = await collect(String(flags['dataDir']));
  while (countBad(findings, flags) > 0 && systemClock.monotonicMs() < deadline) {
    await sleep(systemClock, 500);
    findings = await collect(String(flags['dataDir']));
  }
  if (flags['output'] === 'json') print(JSON.stringify({ ok: countBad(findings, flags) === 0, findings }));
  else printFindings(findings);
  if (countBad(findings, flags) > 0) throw new ExitCode(1);
}

function countBad(findings: readonly Finding[], flags: Record<string, unknown>): number {
  return findings.filter((finding) => finding.mark === 'xx' || (flags['strict'] === true && finding.mark === '!!')).length;
}

function printFindings(findings: readonly Finding[]): void {
  let section = '';
  for (const finding of findings) {
    if (finding.section !== section) { section = finding.section; print(section); }
    print(`  ${paint(finding.mark)}  ${finding.text}${finding.code === undefined ? '' : `   ${finding.code}`}`);
    if (finding.fix !== undefined) print(`        fix: ${finding.fix}`);
  }
  const count = (mark: Mark): number => findings.filter((finding) => finding.mark === mark).length;
  print(`${count('xx')} failed, ${count('!!')} warnings, ${count('ok')} passed.`);
}

async function collect(dataDir: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  checkHost(findings);
  const info = findInstance(dataDir);
  if (info === undefined) {
    findings.push({ section: 'control plane', mark: 'xx', text: `no netloom runs with data directory ${dataDir}`, code: 'NL-NOT-RUNNING', fix: 'netloom up' });
    return findings;
  }
  await checkProcess(findings, info);
  if (info.kubeconfig !== '') {
    const client = clientOf(info);
    try { await checkObjects(findings, client, info); } catch (error) { findings.push({ section: 'control plane', mark: 'xx', text: describeError(error).message, code: 'NL-API-DOWN', fix: 'netloom status' }); } finally { await client.transport.close(); }
  }
  return findings;
}

function checkHost(findings: Finding[]): void {
  const section = 'host';
  const isRoot = process.getuid?.() === 0;
  if (process.platform !== 'linux') findings.push({ section, mark: '!!', text: 'not Linux: userspace engine only', code: 'NL-NOT-LINUX' });
  else if (!hasNft()) findings.push({ section, mark: isRoot ? '!!' : 'ok', text: 'nft is not installed: userspace engine', ...(isRoot ? { code: 'NL-NFT-MISSING', fix: 'apt-get install nftables' } : {}) });
  else findings.push({ section, mark: 'ok', text: isRoot ? 'nftables is there' : 'nftables is there, but not root: userspace engine' });
  for (const tool of ['ip', 'kubectl', 'curl', 'dig']) if (findTool(tool) === undefined) findings.push({ section, mark: '!!', text: `${tool} is not installed`, code: 'NL-TOOL-MISSING', fix: `apt-get install ${{ ip: 'iproute2', dig: 'bind9-dnsutils', kubectl: 'kubernetes-client', curl: 'curl' }[tool]}` });
  const limit = Number(/Max open files\s+(\d+)/.exec(readText('/proc/self/limits') ?? '')?.[1] ?? 0);
  if (limit > 0) findings.push(limit < 4_096 ? { section, mark: '!!', text: `file limit ${limit}`, code: 'NL-FD-LIMIT', fix: 'ulimit -n 65536' } : { section, mark: 'ok', text: `file limit ${limit}` });
  const count = Number(readText('/proc/sys/net/netfilter/nf_conntrack_count') ?? Number.NaN);
  const most = Number(readText('/proc/sys/net/netfilter/nf_conntrack_max') ?? Number.NaN);
  if (most > 0 && count / most > 0.8) findings.push({ section, mark: '!!', text: `conntrack table ${Math.round((count / most) * 100)} % full (${count} of ${most})`, code: 'NL-CT-FULL', fix: `sysctl net.netfilter.nf_conntrack_max=${most * 2}` });
}

function readText(path: string): string | undefined { try { return readFileSync(path, 'utf8'); } catch { return undefined; } }

async function checkProcess(findings: Finding[], info: ReadyInfo): Promise<void> {
  const section = 'process';
  try {
    const status = await askAdmin<{ ready: boolean; health: Record<string, { ok: boolean; detail?: string }> }>(info, '/status');
    for (const [name, health] of Object.entries(status.health)) {
      findings.push(health.ok ? { section, mark: 'ok', text: `${name}${health.detail === undefined ? '' : `: ${health.detail}`}` } : { section, mark: 'xx', text: `${name}: ${health.detail ?? 'unhealthy'}`, code: 'NL-PART-DOWN', fix: 'netloom status' });
    }
    if (!status.ready) findings.push({ section, mark: '!!', text: 'still starting', code: 'NL-STARTING' });
  } catch (error) { findings.push({ section, mark: 'xx', text: describeError(error).message, code: 'NL-ADMIN-DOWN' }); }
}

async function checkObjects(findings: Finding[], client: ApiClient, info: ReadyInfo): Promise<void> {
  const started = systemClock.monotonicMs();
  const items = async <T extends KubeObject>(resource: Parameters<ApiClient['list']>[0]): Promise<T[]> => (await client.list<T>(resource)).items;
  const services = await items<Service>(resources.services);
  findings.push({ section: 'control plane', mark: 'ok', text: `API answers in ${(systemClock.monotonicMs() - started).toFixed(1)} ms` });
  const [slices, pods, nodes, ingresses, classes, secrets] = [await items<EndpointSlice>(resources.endpointslices), await items<Pod>(resources.pods), await items<Node>(resources.nodes), await items<Ingress>(resources.ingresses), await items<IngressClass>(resources.ingressclasses), await items<Secret>(resources.secrets)];
  for (const node of nodes) {
    const isReady = node.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false;
    findings.push(isReady ? { section: 'nodes', mark: 'ok', text: `${node.metadata.name} is ready` } : { section: 'nodes', mark: 'xx', text: `${node.metadata.name} is not ready`, code: 'NL-NODE-NOT-READY', fix: `kubectl describe node ${node.metadata.name}` });
  }
  checkServices(findings, services, slices, pods);
  checkIngresses(findings, ingresses, classes, services, secrets);
  void info;
}

function checkServices(findings: Finding[], services: Service[], slices: EndpointSlice[], pods: Pod[]): void {
  const section = 'services';
  let goodCount = 0;
  for (const service of services) {
    const key = `${service.metadata.namespace}/${service.metadata.name}`;
    if (service.spec?.type === 'ExternalName') { goodCount += 1; continue; }
    const own = slices.filter((slice) => slice.metadata.namespace === service.metadata.namespace && slice.metadata.labels?.['kubernetes.io/service-name'] === service.metadata.name);
    const ready = own.flatMap((slice) => slice.endpoints ?? []).filter((endpoint) => endpoint.conditions?.ready !== false).length;
    if (ready > 0) { goodCount += 1; continue; }
    const selector = service.spec?.selector;
    const inNamespace = pods.filter((pod) => pod.metadata.namespace === service.metadata.namespace);
    const selected = selector === undefined ? [] : inNamespace.filter((pod) => Object.entries(selector).every(([name, value]) => pod.metadata.labels?.[name] === value));
    if (selector !== undefined && selected.length === 0) {
      const close = inNamespace.find((pod) => Object.keys(selector).some((name) => pod.metadata.labels?.[name] !== undefined));
      findings.push({ section, mark: 'xx', text: `${key} selects no process: selector ${Object.entries(selector).map(([name, value]) => `${name}=${value}`).join(',')}`, code: 'NL-SVC-NO-MATCH', fix: close === undefined ? `kubectl get pods -n ${service.metadata.namespace} --show-labels` : `a Pod has ${Object.keys(selector).map((name) => `${name}=${close.metadata.labels?.[name] ?? ''}`).join(',')}: kubectl edit svc -n ${service.metadata.namespace} ${service.metadata.name}` });
    } else findings.push({ section, mark: 'xx', text: `${key} has no ready endpoint${selected.length === 0 ? '' : ` (0 of ${selected.length} Pods ready)`}`, code: 'NL-SVC-NO-ENDPOINTS', fix: `netloom explain svc ${service.metadata.name} -n ${service.metadata.namespace}` });
  }
  if (goodCount > 0) findings.push({ section, mark: 'ok', text: `${goodCount} Services have something to answer` });
}

function checkIngresses(findings: Finding[], ingresses: Ingress[], classes: IngressClass[], services: Service[], secrets: Secret[]): void {
  const section = 'ingress';
  for (const ingress of ingresses) {
    const key = `${ingress.metadata.namespace}/${ingress.metadata.name}`;
    const problems: Finding[] = [];
    const className = ingress.spec?.ingressClassName;
    if (className !== undefined && !classes.some((item) => item.metadata.name === className)) problems.push({ section, mark: 'xx', text: `${key} names class "${className}", which does not exist`, code: 'NL-ING-NO-CLASS', fix: 'kubectl get ingressclasses' });
    const backends = [ingress.spec?.defaultBackend, ...(ingress.spec?.rules ?? []).flatMap((rule) => rule.http?.paths.map((path) => path.backend) ?? [])];
    for (const name of new Set(backends.flatMap((backend) => backend?.service?.name ?? []))) {
      if (!services.some((service) => service.metadata.namespace === ingress.metadata.namespace && service.metadata.name === name)) problems.push({ section, mark: 'xx', text: `${key} sends to Service ${name}, which does not exist`, code: 'NL-ING-NO-SERVICE', fix: `kubectl get svc -n ${ingress.metadata.namespace}` });
    }
    for (const name of new Set((ingress.spec?.tls ?? []).flatMap((item) => item.secretName ?? []))) {
      if (!secrets.some((secret) => secret.metadata.namespace === ingress.metadata.namespace && secret.metadata.name === name)) problems.push({ section, mark: '!!', text: `${key} names TLS Secret ${name}, which does not exist: the default certificate is served`, code: 'NL-TLS-NO-SECRET', fix: `kubectl create secret tls ${name} -n ${ingress.metadata.namespace} --cert=FILE --key=FILE` });
    }
    findings.push(...(problems.length > 0 ? problems : [{ section, mark: 'ok' as const, text: key }]));
  }
}
