// Columns of the core kinds other than Pods and Services.
// Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go.


import { age, none, unknown } from './cells.ts';
import { printer, type CellContext, type Loose, type Printer } from './columns.ts';

const count = (map: object | undefined): number => Object.keys(map ?? {}).length;
const name = (object: Loose): string => object.metadata.name;
const ageOf = (object: Loose, context: CellContext): string => age(object.metadata.creationTimestamp, context.nowMs);

export const corePrinters: Readonly<Record<string, Printer>> = {
  namespaces: printer('Name, Status, Age', (ns, context) => [name(ns), ns.status?.phase ?? '', ageOf(ns, context)]),
  nodes: printer('Name, Status, Roles, Age, Version, *Internal-IP, *External-IP, *OS-Image, *Kernel-Version, *Container-Runtime', nodeCells),
  secrets: printer('Name, Type, Data:integer, Age', (secret, context) => [name(secret), secret.type ?? '', count(secret.data), ageOf(secret, context)]),
  configmaps: printer('Name, Data:integer, Age', (map, context) => [name(map), count(map.data) + count(map.binaryData), ageOf(map, context)]),
  serviceaccounts: printer('Name, Secrets:integer, Age', (account, context) => [name(account), account.secrets?.length ?? 0, ageOf(account, context)]),
  events: printer('Last Seen, Type, Reason, Object, *Subobject, *Source, Message, *First Seen, *Count, *Name', eventCells),
  limitranges: printer('Name, Created At:date', (item) => [name(item), item.metadata.creationTimestamp]),
  resourcequotas: printer('Name, Request, Limit, Age', quotaCells),
  persistentvolumes: printer('Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, *VolumeMode', volumeCells),
  persistentvolumeclaims: printer('Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, *VolumeMode', claimCells),
  podtemplates: printer('Name, Containers, Images, Pod Labels', (item) => [name(item), containers(item.template, 'name'), containers(item.template, 'image'), Object.entries(item.template?.metadata?.labels ?? {}).map(([key, value]) => `${key}=${String(value)}`).join(',') || none]),
};

function containers(template: Loose, field: 'name' | 'image'): string { return (template?.spec?.containers ?? []).map((item: Loose) => item[field] ?? '').join(','); }

function nodeCells(node: Loose, context: CellContext): unknown[] {
  const ready = node.status?.conditions?.find((condition: Loose) => condition.type === 'Ready');
  const states = [ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady'];
  if (node.spec?.unschedulable === true) states.push('SchedulingDisabled');
  const roles = new Set<string>();
  for (const [key, value] of Object.entries(node.metadata.labels ?? {})) {
    if (key.startsWith('node-role.kubernetes.io/') && key.length > 24) roles.add(key.slice(24));
    else if (key === 'kubernetes.io/role' && value !== '') roles.add(String(value));
  }
  const address = (type: string): string => node.status?.addresses?.find((item: Loose) => item.type === type)?.address ?? none;
  const info = node.status?.nodeInfo ?? {};
  return [name(node), states.join(','), roles.size === 0 ? none : [...roles].sort().join(','), ageOf(node, context), info.kubeletVersion ?? '', address('InternalIP'), address('ExternalIP'), info.osImage || unknown, info.kernelVersion || unknown, info.containerRuntimeVersion || unknown];
}

function eventCells(event: Loose, context: CellContext): unknown[] {
  const first = event.firstTimestamp ?? event.eventTime ?? undefined;
  const last = event.series?.lastObservedTime ?? event.lastTimestamp ?? first;
  const times = event.series?.count ?? event.count ?? 0;
  const lastSeen = age(last, context.nowMs);
  const target = event.involvedObject ?? {};
  const subject = target.name ? `${String(target.kind ?? '').toLowerCase()}/${target.name}` : String(target.kind ?? '').toLowerCase();
  const source = [event.source?.component || event.reportingComponent, event.source?.host || event.reportingInstance].filter((part: unknown) => part !== undefined && part !== '').join(', ');
  return [lastSeen, event.type ?? '', event.reason ?? '', subject, target.fieldPath ?? '', source, String(event.message ?? '').trim(), age(first, context.nowMs), times === 0 ? 1 : times, name(event)];
}

function quotaCells(quota: Loose, context: CellContext): unknown[] {
  const parts = (isLimit: boolean): string => Object.keys(quota.status?.hard ?? quota.spec?.hard ?? {}).sort().filter((key) => key.startsWith('limits.') === isLimit)
    .map((key) => `${key}: ${quota.status?.used?.[key] ?? '0'}/${quota.status?.hard?.[key] ?? quota.spec?.hard?.[key]}`).join(', ');
  return [name(quota), parts(false), parts(true), ageOf(quota, context)];
}

const modeNames: Record<string, string> = { ReadWriteOnce: 'RWO', ReadOnlyMany: 'ROX', ReadWriteMany: 'RWX', ReadWriteOncePod: 'RWOP' };
const modes = (list: string[] | undefined): string => (list ?? []).map((mode) => modeNames[mode] ?? mode).join(',');

function volumeCells(volume: Loose, context: CellContext): unknown[] {
  const { spec = {}, status = {} } = volume;
  const phase = volume.metadata.deletionTimestamp === undefined ? (status.phase ?? '') : 'Terminating';
  const claim = spec.claimRef === undefined ? '' : `${spec.claimRef.namespace}/${spec.claimRef.name}`;
  return [name(volume), spec.capacity?.storage ?? '', modes(spec.accessModes), spec.persistentVolumeReclaimPolicy ?? '', phase, claim, spec.storageClassName ?? '', spec.volumeAttributesClassName ?? '<unset>', status.reason ?? '', ageOf(volume, context), spec.volumeMode ?? '<unset>'];
}

function claimCells(claim: Loose, context: CellContext): unknown[] {
  const { spec = {}, status = {} } = claim;
  const phase = claim.metadata.deletionTimestamp === undefined ? (status.phase ?? '') : 'Terminating';
  const isBound = spec.volumeName !== undefined && spec.volumeName !== '';
  return [name(claim), phase, spec.volumeName ?? '', isBound ? (status.capacity?.storage ?? '') : '', isBound ? modes(status.accessModes) : '', spec.storageClassName ?? claim.metadata.annotations?.['volume.beta.kubernetes.io/storage-class'] ?? '', spec.volumeAttributesClassName ?? '<unset>', ageOf(claim, context), spec.volumeMode ?? '<unset>'];
}

