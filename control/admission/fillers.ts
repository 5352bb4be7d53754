// Admission steps that fill in what the client left to the cluster: the default IngressClass, a Pod's ServiceAccount and
// its tolerations of lost nodes, a Job's selector.
// Source: kubernetes plugin/pkg/admission/{network/defaultingressclass,serviceaccount,defaulttolerationseconds}.

import { NetloomError } from '../../api/errors.ts';
import { annotations } from '../../api/meta.ts';
import type { Ingress, IngressClass, KubeObject, LabelSelector, Pod } from '../../api/types.ts';
import type { AdmissionContext, AdmissionRequest, AdmissionStep } from './types.ts';

/** Pods tolerate a lost node this long before they are evicted. */
const tolerationSeconds = 300;
const lostNodeTaints = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** The newest class marked as default, for Ingresses that name none. */
export function defaultIngressClassStep(context: AdmissionContext): AdmissionStep {
  return {
    name: 'DefaultIngressClass',
    admit(request: AdmissionRequest): void {
      const { group, resource } = request.resource;
      if (request.operation !== 'create' || request.subresource !== '' || group !== 'networking.k8s.io' || resource !== 'ingresses') return;
      const ingress = request.object as Ingress;
      if (ingress.spec?.ingressClassName !== undefined || ingress.metadata.annotations?.[annotations.ingressClass] !== undefined) return;
      const defaults = context.storage.list('ingressclasses.networking.k8s.io').items.map((item) => item.object as IngressClass)
        .filter((each) => each.metadata.annotations?.[annotations.defaultIngressClass] === 'true');
      const time = (each: IngressClass): number => Date.parse(each.metadata.creationTimestamp ?? '') || 0;
      defaults.sort((a, b) => time(b) - time(a) || (a.metadata.name < b.metadata.name ? -1 : 1));
      const name = defaults[0]?.metadata.name;
      if (name !== undefined) request.object = { ...ingress, spec: { ...ingress.spec, ingressClassName: name } } as Ingress;
    },
  };
}

/** ServiceAccount `default` unless another one is named, which must exist. */
export function podStep(context: AdmissionContext): AdmissionStep {
  return {
    name: 'PodDefaults',
    admit(request: AdmissionRequest): void {
      const { group, resource } = request.resource;
      if (request.operation !== 'create' || request.subresource !== '' || group !== '' || resource !== 'pods') return;
      const pod = request.object as Pod & { spec: { serviceAccount?: string } };
      const account = firstSet(pod.spec?.serviceAccountName, pod.spec?.serviceAccount) ?? 'default';
      const namespace = pod.metadata.namespace ?? '';
      if (account !== 'default' && context.storage.get('serviceaccounts', `${namespace}/${account}`) === undefined) {
        // The prefix of a generated name, as Kubernetes says it: conditions that quote this must not differ with every try.
        const shown = pod.metadata.generateName !== undefined && pod.metadata.name.startsWith(pod.metadata.generateName) ? pod.metadata.generateName : pod.metadata.name;
        throw new NetloomError('Forbidden', `pods "${shown}" is forbidden: error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`, { source: 'downstream', details: { name: shown, kind: 'pods' } });
      }
      const tolerations = [...(pod.spec.tolerations ?? [])];
      for (const key of lostNodeTaints) {
        const isTolerated = tolerations.some((each) => (each.key === key || each.key === undefined || each.key === '') && (each.effect === 'NoExecute' || each.effect === undefined || each.effect === ''));
        if (!isTolerated) tolerations.push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds });
      }
      request.object = { ...pod, spec: { ...pod.spec, serviceAccountName: account, serviceAccount: account, tolerations } } as Pod;
    },
  };
}

function firstSet(...values: (string | undefined)[]): string | undefined { return values.find((value) => value !== undefined && value !== ''); }

interface JobObject extends KubeObject { spec?: { manualSelector?: boolean; selector?: LabelSelector; template?: { metadata?: { labels?: Record<string, string> } } } }

/** A Job selects its Pods by its own uid, so that two Jobs never share any. */
export function jobStep(): AdmissionStep {
  return {
    name: 'JobSelector',
    admit(request: AdmissionRequest): void {
      const { group, resource } = request.resource;
      if (request.operation !== 'create' || request.subresource !== '' || group !== 'batch' || resource !== 'jobs') return;
      const job = request.object as JobObject;
      if (job.spec?.manualSelector === true || job.spec?.selector !== undefined) return;
      const { uid = '', name } = job.metadata;
      const own = { 'batch.kubernetes.io/controller-uid': uid, 'controller-uid': uid, 'batch.kubernetes.io/job-name': name, 'job-name': name };
      const template = { ...job.spec?.template, metadata: { ...job.spec?.template?.metadata, labels: { ...job.spec?.template?.metadata?.labels, ...own } } };
      request.object = { ...job, spec: { ...job.spec, selector: { matchLabels: { 'batch.kubernetes.io/controller-uid': uid } }, template } } as JobObject;
    },
  };
}
