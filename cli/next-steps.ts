// What a person can do next, printed when `up` is ready: kubeconfig, and curl, dig and kubectl lines that work pasted.

import { readFileSync } from 'node:fs';
import type { Ingress, Service } from '../api/types.ts';
import type { ReadyInfo } from './instance.ts';
import type { AppliedObject } from './manifests.ts';
import { print } from './output.ts';
import type { Stack } from './stack.ts';

const linesMax = 4;

export async function printNext(info: ReadyInfo, stack: Stack, justApplied: readonly AppliedObject[]): Promise<void> {
  const applied = justApplied.length > 0 ? justApplied : objectsFromBefore(stack);
  const lines: string[] = [];
  const services = applied.filter((item) => item.object.kind === 'Service').map((item) => item.object as Service);
  if (stack.proxier !== undefined) addServiceLines(lines, info, services);
  if (stack.ingress !== undefined) addIngressLines(lines, info, applied);
  if (stack.dns !== undefined && info.dns !== undefined) addDnsLines(lines, info, services);
  print();
  if (info.kubeconfig !== '') print(`  export KUBECONFIG=${info.kubeconfig}`);
  for (const line of lines) print(`  ${line}`);
  if (stack.control !== undefined) print(`  kubectl --kubeconfig ${info.kubeconfig} get pods,services,ingresses -A`);
  print();
  print(`  metrics and health   http://127.0.0.1:${info.admin?.port}/metrics   Ctrl-C stops everything`);
}

/** What the store held already at start, but for netloom's own. */
function objectsFromBefore(stack: Stack): AppliedObject[] {
  const { informers } = stack;
  if (informers === undefined) return [];
  const own = (object: { metadata: { name: string; namespace?: string } }): boolean => object.metadata.namespace === 'kube-system' || (object.metadata.namespace === 'default' && object.metadata.name === 'kubernetes');
  const of = <T extends { metadata: { name: string; namespace?: string } }>(kind: string, all: Iterable<T>): AppliedObject[] => [...all].filter((object) => !own(object)).map((object) => ({ object: { ...object, kind }, where: '' }) as AppliedObject);
  return [...of('Service', informers.services.store.values()), ...(stack.ingress === undefined ? [] : of('Ingress', informers.ingresses.store.values()))];
}

function addServiceLines(lines: string[], info: ReadyInfo, services: readonly Service[]): void {
  let count = 0;
  for (const service of services) {
    const ip = service.spec?.clusterIP;
    const port = service.spec?.ports?.find((item) => (item.protocol ?? 'TCP') === 'TCP');
    if (ip === undefined || ip === 'None' || ip === '' || port === undefined || count++ >= linesMax) continue;
    if (info.proxyMode === 'userspace' && !mayBind(port.port)) lines.push(`# ${service.metadata.namespace}/${service.metadata.name}: port ${port.port} needs root, or sysctl net.ipv4.ip_unprivileged_port_start=${port.port}`);
    else lines.push(comment(`curl http://${host(ip, port.port)}/`, `ClusterIP of ${service.metadata.namespace}/${service.metadata.name}`));
    if (port.nodePort !== undefined && port.nodePort !== 0) lines.push(comment(`curl http://${host(nodeAddress(info), port.nodePort)}/`, `NodePort of ${service.metadata.namespace}/${service.metadata.name}`));
  }
}

/** Whether this user may listen on the port; the kernel's border is 1024 unless it was moved. */
function mayBind(port: number): boolean {
  if (process.getuid?.() === 0) return true;
  let border = 1_024;
  try { border = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8')); } catch { /* not Linux: 1024 */ }
  return port >= border;
}

function nodeAddress(info: ReadyInfo): string {
  const bind = info.http?.address ?? info.api?.address ?? '127.0.0.1';
  return bind === '0.0.0.0' || bind === '::' ? '127.0.0.1' : bind;
}

function addIngressLines(lines: string[], info: ReadyInfo, applied: readonly AppliedObject[]): void {
  const { http } = info;
  if (http === undefined) return;
  const address = http.address === '0.0.0.0' ? '127.0.0.1' : http.address;
  for (const item of applied.filter((one) => one.object.kind === 'Ingress').slice(0, linesMax)) {
    for (const rule of (item.object as Ingress).spec?.rules?.slice(0, linesMax) ?? []) {
      const path = rule.http?.paths[0]?.path ?? '/';
      lines.push(comment(`curl ${rule.host === undefined ? '' : `-H 'Host: ${rule.host.replace('*', 'www')}' `}http://${host(address, http.port)}${path}`, `Ingress ${item.object.metadata.namespace}/${item.object.metadata.name}`));
    }
  }
}

function addDnsLines(lines: string[], info: ReadyInfo, services: readonly Service[]): void {
  const { dns } = info;
  if (dns === undefined) return;
  const at = `@${dns.address === '0.0.0.0' ? '127.0.0.1' : dns.address}${dns.port === 53 ? '' : ` -p ${dns.port}`}`;
  const domain = info.clusterDomain ?? 'cluster.local';
  const plain = services.find((service) => service.spec?.type !== 'ExternalName' && service.spec?.clusterIP !== 'None');
  const headless = services.find((service) => service.spec?.clusterIP === 'None');
  const named = services.find((service) => service.spec?.ports?.[0]?.name !== undefined && service.spec.type !== 'ExternalName');
  const name = (service: Service): string => `${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`;
  lines.push(comment(`dig +short ${at} ${plain === undefined ? `kubernetes.default.svc.${domain}` : name(plain)}`, 'name to ClusterIP'));
  if (headless !== undefined) lines.push(comment(`dig +short ${at} ${name(headless)}`, 'headless: the processes themselves'));
  if (named !== undefined) lines.push(comment(`dig +short ${at} _${named.spec?.ports?.[0]?.name}._tcp.${name(named)} SRV`, 'port by name'));
}

function host(ip: string, port: number): string { return `${ip.includes(':') ? `[${ip}]` : ip}${port === 80 ? '' : `:${port}`}`; }
function comment(line: string, note: string): string { return `${line.padEnd(66)} # ${note}`; }
