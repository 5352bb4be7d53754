// Columns of RBAC, certificate, storage, scheduling and extension kinds.
// Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go; apiextensions-apiserver's table convertor.

import { age, none, unknown } from './cells.ts';
import { printer, type CellContext, type Loose, type Printer } from './columns.ts';

const ageOf = (object: Loose, context: CellContext): string => age(object.metadata.creationTimestamp, context.nowMs);
const createdAt = (object: Loose): string | null => object.metadata.creationTimestamp ?? null;
const webhookCells = (item: Loose, context: CellContext): unknown[] => [item.metadata.name, item.webhooks?.length ?? 0, ageOf(item, context)];

export const otherPrinters: Readonly<Record<string, Printer>> = {
  'roles.rbac.authorization.k8s.io': printer('Name, Created At:date', (item) => [item.metadata.name, createdAt(item)]),
  'clusterroles.rbac.authorization.k8s.io': printer('Name, Created At:date', (item) => [item.metadata.name, createdAt(item)]),
  'rolebindings.rbac.authorization.k8s.io': printer('Name, Role, Age, *Users, *Groups, *ServiceAccounts', bindingCells),
  'clusterrolebindings.rbac.authorization.k8s.io': printer('Name, Role, Age, *Users, *Groups, *ServiceAccounts', bindingCells),
  'certificatesigningrequests.certificates.k8s.io': printer('Name, Age, SignerName, Requestor, RequestedDuration, Condition', requestCells),
  'customresourcedefinitions.apiextensions.k8s.io': printer('Name, Created At:date', (item) => [item.metadata.name, createdAt(item)]),
  'storageclasses.storage.k8s.io': printer('Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion:boolean, Age', (item, context) => [
    item.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true' ? `${item.metadata.name} (default)` : item.metadata.name, item.provisioner ?? '', item.reclaimPolicy ?? 'Delete', item.volumeBindingMode ?? 'Immediate', item.allowVolumeExpansion ?? false, ageOf(item, context)]),
  'volumeattachments.storage.k8s.io': printer('Name, Attacher, PV, Node, Attached:boolean, Age', (item, context) => [item.metadata.name, item.spec?.attacher ?? '', item.spec?.source?.persistentVolumeName ?? '', item.spec?.nodeName ?? '', item.status?.attached ?? false, ageOf(item, context)]),
  'csidrivers.storage.k8s.io': printer('Name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests, RequiresRepublish:boolean, Modes, Age', (item, context) => {
    const { spec = {} } = item;
    return [item.metadata.name, spec.attachRequired ?? true, spec.podInfoOnMount ?? false, spec.storageCapacity ?? false, (spec.tokenRequests ?? []).map((request: Loose) => request.audience).join(',') || '<unset>', spec.requiresRepublish ?? false, (spec.volumeLifecycleModes ?? []).join(',') || none, ageOf(item, context)];
  }),
  'csinodes.storage.k8s.io': printer('Name, Drivers:integer, Age', (item, context) => [item.metadata.name, item.spec?.drivers?.length ?? 0, ageOf(item, context)]),
  'csistoragecapacities.storage.k8s.io': printer('Name, StorageClassName, Capacity', (item) => [item.metadata.name, item.storageClassName ?? '', item.capacity ?? unknown]),
  'priorityclasses.scheduling.k8s.io': printer('Name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy', (item, context) => [item.metadata.name, item.value ?? 0, item.globalDefault ?? false, ageOf(item, context), item.preemptionPolicy ?? 'PreemptLowerPriority']),
  'mutatingwebhookconfigurations.admissionregistration.k8s.io': printer('Name, Webhooks:integer, Age', webhookCells),
  'validatingwebhookconfigurations.admissionregistration.k8s.io': printer('Name, Webhooks:integer, Age', webhookCells),
  'validatingadmissionpolicies.admissionregistration.k8s.io': printer('Name, Validations:integer, ParamKind, Age', (item, context) => [item.metadata.name, item.spec?.validations?.length ?? 0, item.spec?.paramKind === undefined ? '<unset>' : `${item.spec.paramKind.apiVersion}/${item.spec.paramKind.kind}`, ageOf(item, context)]),
  'validatingadmissionpolicybindings.admissionregistration.k8s.io': printer('Name, PolicyName, ParamRef, Age', (item, context) => [item.metadata.name, item.spec?.policyName ?? '', item.spec?.paramRef === undefined ? '<unset>' : (item.spec.paramRef.name ?? '*'), ageOf(item, context)]),
};

function bindingCells(item: Loose, context: CellContext): unknown[] {
  const subjects = (kind: string): string => (item.subjects ?? []).filter((subject: Loose) => subject.kind === kind).map((subject: Loose) => (kind === 'ServiceAccount' ? `${subject.namespace ?? ''}/${subject.name}` : subject.name)).join(', ');
  return [item.metadata.name, `${item.roleRef?.kind ?? ''}/${item.roleRef?.name ?? ''}`, ageOf(item, context), subjects('User'), subjects('Group'), subjects('ServiceAccount')];
}

function requestCells(item: Loose, context: CellContext): unknown[] {
  const types = (item.status?.conditions ?? []).map((condition: Loose) => condition.type);
  const words = ['Approved', 'Denied', 'Failed'].filter((type) => types.includes(type));
  const isIssued = typeof item.status?.certificate === 'string' && item.status.certificate !== '';
  const state = [words.length === 0 ? 'Pending' : words.join(','), ...(isIssued ? ['Issued'] : [])].join(',');
  return [item.metadata.name, ageOf(item, context), item.spec?.signerName ?? none, item.spec?.username ?? '', item.spec?.expirationSeconds === undefined ? none : `${item.spec.expirationSeconds}s`, state];
}
