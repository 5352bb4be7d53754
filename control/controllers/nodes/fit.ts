// Whether a Pod may run on a node. Pure.
// Source: kubernetes pkg/scheduler/framework/plugins (nodeunschedulable, tainttoleration, nodeaffinity, nodeports), component-helpers/scheduling/corev1.

import type { Node, Pod } from '../../../api/types.ts';
import { conditionOf } from '../endpoints/pod-endpoint.ts';

type Taint = NonNullable<NonNullable<Node['spec']>['taints']>[number];
type Toleration = NonNullable<NonNullable<Pod['spec']>['tolerations']>[number];
interface NodeRequirement { key: string; operator: string; values?: string[] }
interface NodeTerm { matchExpressions?: NodeRequirement[]; matchFields?: NodeRequirement[] }
interface Affinity { nodeAffinity?: { requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms?: NodeTerm[] } } }

/** Why the Pod cannot run there, worded for a count of nodes before it; undefined when it can. */
export function whyNot(pod: Pod, node: Node, podsOnNode: Iterable<Pod>): string | undefined {
  const spec = pod.spec;
  if (node.metadata.deletionTimestamp !== undefined) return 'node(s) were being deleted';
  if (node.spec?.unschedulable === true && !toleratesUnschedulable(spec?.tolerations ?? [])) return 'node(s) were unschedulable';
  const taint = (node.spec?.taints ?? []).find((each) => (each.effect === 'NoSchedule' || each.effect === 'NoExecute') && !isTolerated(each, spec?.tolerations ?? []));
  if (taint !== undefined) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`;
  if (conditionOf(node, 'Ready')?.status !== 'True') return 'node(s) were not ready';
  for (const [key, value] of Object.entries(spec?.nodeSelector ?? {})) if (node.metadata.labels?.[key] !== value) return "node(s) didn't match Pod's node affinity/selector";
  if (!matchesAffinity((spec as { affinity?: Affinity } | undefined)?.affinity, node)) return "node(s) didn't match Pod's node affinity/selector";
  if (hasPortConflict(pod, podsOnNode)) return "node(s) didn't have free ports for the requested pod ports";
  return undefined;
}

/** Whether one of the tolerations covers the taint. */
export function isTolerated(taint: Taint, tolerations: readonly Toleration[]): boolean {
  return tolerations.some((each) => tolerates(each, taint));
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect !== undefined && toleration.effect !== '' && toleration.effect !== taint.effect) return false;
  if (toleration.key !== undefined && toleration.key !== '' && toleration.key !== taint.key) return false;
  if ((toleration.key === undefined || toleration.key === '') && toleration.operator !== 'Exists') return false;
  return toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? '');
}

function toleratesUnschedulable(tolerations: readonly Toleration[]): boolean {
  return isTolerated({ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }, tolerations);
}

/** Required node affinity: one of the terms must hold. */
export function matchesAffinity(affinity: Affinity | undefined, node: Node): boolean {
  const terms = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return terms === undefined || terms.some((term) => {
    const expressions = term.matchExpressions ?? [];
    const fields = term.matchFields ?? [];
    if (expressions.length + fields.length === 0) return false;
    return expressions.every((each) => isMet(each, node.metadata.labels?.[each.key])) && fields.every((each) => each.key === 'metadata.name' && isMet(each, node.metadata.name));
  });
}

function isMet({ operator, values = [] }: NodeRequirement, value: string | undefined): boolean {
  switch (operator) {
    case 'In': return value !== undefined && values.includes(value);
    case 'NotIn': return value === undefined || !values.includes(value);
    case 'Exists': return value !== undefined;
    case 'DoesNotExist': return value === undefined;
    case 'Gt': return value !== undefined && Number(value) > Number(values[0]);
    case 'Lt': return value !== undefined && Number(value) < Number(values[0]);
    default: return false;
  }
}

interface HostPort { ip: string; port: number; protocol: string }

function hostPortsOf(pod: Pod): HostPort[] {
  const ports: HostPort[] = [];
  for (const container of pod.spec?.containers ?? []) for (const port of container.ports ?? []) {
    if ((port.hostPort ?? 0) !== 0) ports.push({ ip: port.hostIP ?? '0.0.0.0', port: port.hostPort as number, protocol: port.protocol ?? 'TCP' });
  }
  return ports;
}

function hasPortConflict(pod: Pod, others: Iterable<Pod>): boolean {
  const wanted = hostPortsOf(pod);
  if (wanted.length === 0) return false;
  const isAny = (ip: string): boolean => ip === '' || ip === '0.0.0.0';
  for (const other of others) for (const taken of hostPortsOf(other)) for (const each of wanted) {
    if (each.port === taken.port && each.protocol === taken.protocol && (isAny(each.ip) || isAny(taken.ip) || each.ip === taken.ip)) return true;
  }
  return false;
}
