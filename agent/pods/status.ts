// Pure: what a Pod's status says, from the state of its containers. Source: core/v1 PodStatus and the phase rules of
// the Pod life cycle ("Pod phase", "Container states", "Pod conditions").

import type { Condition, ContainerStatus, Pod, PodStatus } from '../../api/types.ts';
import type { ContainerView } from './container.ts';

export interface StatusInput {
  pod: Pod; initContainers: readonly ContainerView[]; containers: readonly ContainerView[];
  podIP: string; hostIP: string; startTime: string; now: string; isInitialized: boolean;
  /** Set while the node stops: the Pod takes no more traffic. */
  isDraining: boolean;
  failure?: { reason: string; message: string } | undefined;
}

/** Conditions keep their lastTransitionTime as long as their status stays the same. */
export function buildStatus(input: StatusInput, previous: PodStatus | undefined): PodStatus {
  const containersReady = input.isInitialized && input.containers.length > 0 && input.containers.every((view) => view.isReady);
  const gates = (input.pod.spec?.readinessGates ?? []).map((gate) => gate.conditionType);
  const gatesOpen = gates.every((type) => (input.pod.status?.conditions ?? []).some((each) => each.type === type && each.status === 'True'));
  const phase = phaseOf(input);
  const unready = input.containers.filter((view) => !view.isReady).map((view) => view.spec.name);
  const whyNot = phase === 'Succeeded' ? { reason: 'PodCompleted' } : input.isDraining ? { reason: 'NodeStopping', message: 'the node agent is stopping' }
    : { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` };
  const isReady = containersReady && gatesOpen && !input.isDraining;
  const conditions = [
    condition('PodReadyToStartContainers', input.podIP !== '' || input.pod.spec?.hostNetwork === true, input, previous),
    condition('Initialized', input.isInitialized, input, previous, { reason: 'ContainersNotInitialized' }),
    condition('Ready', isReady, input, previous, containersReady && !gatesOpen ? { reason: 'ReadinessGatesNotReady' } : whyNot),
    condition('ContainersReady', containersReady && !input.isDraining, input, previous, whyNot),
    condition('PodScheduled', true, input, previous),
    ...foreignConditions(input.pod),
  ];
  const podIP = input.pod.spec?.hostNetwork === true ? input.hostIP : input.podIP;
  const status: PodStatus = {
    phase, conditions, hostIP: input.hostIP, hostIPs: [{ ip: input.hostIP }], startTime: input.startTime, qosClass: 'BestEffort',
    ...(podIP === '' ? {} : { podIP, podIPs: [{ ip: podIP }] }),
    containerStatuses: input.containers.map(containerStatus),
    ...(input.initContainers.length === 0 ? {} : { initContainerStatuses: input.initContainers.map(containerStatus) }),
  };
  if (input.failure !== undefined) Object.assign(status, input.failure);
  return status;
}

function phaseOf(input: StatusInput): NonNullable<PodStatus['phase']> {
  if (input.failure !== undefined) return 'Failed';
  if (!input.isInitialized) {
    const failed = input.pod.spec?.restartPolicy === 'Never' && input.initContainers.some((view) => (view.state.terminated?.exitCode ?? 0) !== 0);
    return failed ? 'Failed' : 'Pending';
  }
  const policy = input.pod.spec?.restartPolicy ?? 'Always';
  let hasStarted = false;
  let isOver = input.containers.length > 0;
  let hasFailed = false;
  for (const { state, lastState } of input.containers) {
    if (state.running !== undefined || state.terminated !== undefined || lastState !== undefined) hasStarted = true;
    if (state.terminated === undefined) isOver = false;
    else if (state.terminated.exitCode !== 0) hasFailed = true;
  }
  if (isOver && policy !== 'Always' && !(policy === 'OnFailure' && hasFailed)) return hasFailed ? 'Failed' : 'Succeeded';
  return hasStarted ? 'Running' : 'Pending';
}

const ownTypes = new Set(['PodReadyToStartContainers', 'Initialized', 'Ready', 'ContainersReady', 'PodScheduled']);

function foreignConditions(pod: Pod): Condition[] {
  return (pod.status?.conditions ?? []).filter((each) => !ownTypes.has(each.type));
}

function condition(type: string, isTrue: boolean, input: StatusInput, previous: PodStatus | undefined, whenFalse: { reason?: string; message?: string } = {}): Condition {
  const status = isTrue ? 'True' : 'False';
  const old = previous?.conditions?.find((each) => each.type === type);
  const lastTransitionTime = old?.status === status && old.lastTransitionTime !== undefined ? old.lastTransitionTime : input.now;
  return { type, status, lastProbeTime: null, lastTransitionTime, ...(isTrue ? {} : whenFalse) };
}

function containerStatus(view: ContainerView): ContainerStatus {
  return {
    name: view.spec.name, image: view.spec.image ?? '', imageID: '', ready: view.isReady, started: view.isStarted, restartCount: view.restartCount,
    state: view.state, ...(view.lastState === undefined ? {} : { lastState: view.lastState }),
    ...(view.state.running === undefined && view.state.terminated === undefined ? {} : { containerID: view.containerId }),
  };
}
