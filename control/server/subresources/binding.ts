// Binding a Pod to a node (what a scheduler does) and evicting one (a deletion that keeps to disruption budgets).
// Source: kubernetes pkg/registry/core/pod/storage/{storage,eviction}.go.

import { NetloomError } from '../../../api/errors.ts';
import { selectorFromLabelSelector } from '../../../api/meta.ts';
import type { Condition, KubeObject, LabelSelector, Pod } from '../../../api/types.ts';
import { formatTime } from '../../../api/clock.ts';
import type { RequestContext } from '../context.ts';
import { sendObject } from '../http/respond.ts';
import { readObject } from '../verbs/body.ts';
import { deleteByKey } from '../verbs/delete.ts';
import { getStored, keyOf } from '../verbs/read.ts';
import { throwCauses, updateFrom } from '../verbs/write.ts';
import { readWriteOptions } from '../verbs/write-options.ts';
import { cloneJson } from '../../schema/schema.ts';

interface Binding extends KubeObject { target?: { kind?: string; name?: string } }
interface Eviction extends KubeObject { deleteOptions?: { gracePeriodSeconds?: number; dryRun?: string[]; preconditions?: { uid?: string; resourceVersion?: string } } }
interface Budget extends KubeObject { spec?: { selector?: LabelSelector }; status?: { disruptionsAllowed?: number; observedGeneration?: number } }

const success = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };

/** POST pods/NAME/binding, or the older POST bindings. */
export async function createBinding(given: RequestContext): Promise<void> {
  const options = readWriteOptions(given.exchange, 'CreateOptions');
  const binding = await readObject(given, options, { apiVersion: 'v1', kind: 'Binding' }) as Binding;
  const pods = given.server.registry.find('', 'v1', 'pods');
  const name = given.info.name === '' ? binding.metadata.name : given.info.name;
  if (pods === undefined || name === undefined) throw new NetloomError('BadRequest', 'name is required', { source: 'downstream' });
  const context: RequestContext = { ...given, resource: pods, info: { ...given.info, resource: 'pods', subresource: 'binding', name } };
  const node = binding.target?.name ?? '';
  if (node === '') throwCauses({ ...context.resource, kind: 'Binding' }, binding, [{ reason: 'FieldValueRequired', message: 'Required value', field: 'target.name' }]);
  await updateFrom(context, options, 'other', false, (live) => bind(context, live as Pod, node, binding));
  await sendObject({ exchange: context.exchange, warnings: context.warnings }, 201, success);
}

function bind(context: RequestContext, live: Pod, node: string, binding: Binding): Pod {
  const conflict = (text: string): NetloomError => new NetloomError('Conflict', `Operation cannot be fulfilled on pods/binding "${live.metadata.name}": ${text}`, { source: 'downstream', details: { name: live.metadata.name, group: '', kind: 'pods/binding' } });
  if (live.metadata.deletionTimestamp !== undefined) throw conflict(`pod ${live.metadata.name} is being deleted, cannot be assigned to a host`);
  if ((live.spec?.nodeName ?? '') !== '') throw conflict(`pod ${live.metadata.name} is already assigned to node ${JSON.stringify(live.spec?.nodeName)}`);
  if (binding.metadata.uid !== undefined && binding.metadata.uid !== live.metadata.uid) throw conflict('Precondition failed: UID in precondition');
  const pod = cloneJson(live);
  pod.spec = { ...pod.spec, nodeName: node } as NonNullable<Pod['spec']>;
  pod.metadata.annotations = { ...pod.metadata.annotations, ...binding.metadata.annotations };
  if (Object.keys(pod.metadata.annotations).length === 0) delete pod.metadata.annotations;
  const scheduled: Condition = { type: 'PodScheduled', status: 'True', lastProbeTime: null, lastTransitionTime: formatTime(context.server.clock.nowMs()) };
  pod.status = { ...pod.status, conditions: [...(pod.status?.conditions ?? []).filter((condition) => condition.type !== 'PodScheduled'), scheduled] };
  return pod;
}

/** POST pods/NAME/eviction. Throws TooManyRequests with cause DisruptionBudget when a budget forbids it now. */
export async function createEviction(context: RequestContext): Promise<void> {
  const { resource, info, exchange } = context;
  const options = readWriteOptions(exchange, 'CreateOptions');
  const eviction = await readObject(context, options, { apiVersion: 'policy/v1', kind: 'Eviction' }) as Eviction;
  const pod = getStored(context).object as Pod;
  const isFinished = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed' || pod.status?.phase === 'Pending' || pod.metadata.deletionTimestamp !== undefined;
  if (!isFinished) checkBudgets(context, pod);
  const { gracePeriodSeconds, preconditions, dryRun } = eviction.deleteOptions ?? {};
  await deleteByKey(context, keyOf(resource, info.namespace, info.name), info.name, {
    gracePeriodSeconds, propagationPolicy: undefined, uid: preconditions?.uid, resourceVersion: preconditions?.resourceVersion, isDryRun: options.isDryRun || (dryRun?.length ?? 0) > 0,
  });
  await sendObject({ exchange, warnings: context.warnings }, 201, success);
}

function checkBudgets(context: RequestContext, pod: Pod): void {
  for (const { object } of context.server.storage.list('poddisruptionbudgets.policy', { prefix: `${context.info.namespace}/` }).items) {
    const budget = object as Budget;
    if (budget.spec?.selector === undefined || !selectorFromLabelSelector(budget.spec.selector).matches(pod.metadata.labels)) continue;
    if ((budget.status?.disruptionsAllowed ?? 0) > 0) continue;
    const message = 'Cannot evict pod as it would violate the pod\'s disruption budget.';
    throw new NetloomError('TooManyRequests', message, {
      source: 'api', details: { causes: [{ reason: 'DisruptionBudget', message: `The disruption budget ${budget.metadata.name} needs more healthy pods` }], retryAfterSeconds: 10 },
    });
  }
}
