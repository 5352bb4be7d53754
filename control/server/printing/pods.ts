// Columns of Pods: the status word is the one place where kubectl's users look first.
// Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go printPod.

import { age, none } from './cells.ts';
import { printer, type CellContext, type Loose, type Printer } from './columns.ts';

export const podPrinters: Readonly<Record<string, Printer>> = {
  pods: printer('Name, Ready, Status, Restarts, Age, *IP, *Node, *Nominated Node, *Readiness Gates', podCells, podConditions),
};

const finished: Record<string, object[]> = {
  Succeeded: [{ type: 'Completed', status: 'True', reason: 'Succeeded', message: 'The pod has completed successfully.' }],
  Failed: [{ type: 'Completed', status: 'True', reason: 'Failed', message: 'The pod failed.' }],
};
function podConditions(pod: Loose): object[] | undefined { return finished[pod.status?.phase ?? '']; }

function podCells(pod: Loose, context: CellContext): unknown[] {
  const { spec = {}, status = {} } = pod;
  const summary = summarize(pod);
  const total = (spec.containers?.length ?? 0) + (spec.initContainers ?? []).filter(isSidecar).length;
  let restarts = String(summary.restarts);
  if (summary.restarts !== 0 && summary.lastRestart !== undefined) restarts = `${summary.restarts} (${age(summary.lastRestart, context.nowMs)} ago)`;
  const gates = spec.readinessGates ?? [];
  const passed = gates.filter((gate: Loose) => status.conditions?.some((condition: Loose) => condition.type === gate.conditionType && condition.status === 'True')).length;
  return [
    pod.metadata.name, `${summary.ready}/${total}`, summary.reason, restarts, age(pod.metadata.creationTimestamp, context.nowMs),
    status.podIPs?.[0]?.ip ?? status.podIP ?? none, spec.nodeName || none, status.nominatedNodeName || none, gates.length === 0 ? none : `${passed}/${gates.length}`,
  ];
}

interface Summary { reason: string; ready: number; restarts: number; lastRestart: string | undefined }

function isSidecar(container: Loose): boolean { return container.restartPolicy === 'Always'; }

function later(a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined ? b : b === undefined || Date.parse(a) > Date.parse(b) ? a : b;
}

function summarize(pod: Loose): Summary {
  const { status = {} } = pod;
  const summary: Summary = { reason: status.reason || status.phase || 'Unknown', ready: 0, restarts: 0, lastRestart: undefined };
  for (const condition of status.conditions ?? []) if (condition.type === 'PodScheduled' && condition.reason === 'SchedulingGated') summary.reason = 'SchedulingGated';
  const isInitializing = summarizeInit(pod, summary);
  if (!isInitializing || isInitialized(status)) summarizeContainers(pod, summary);
  if (pod.metadata.deletionTimestamp !== undefined) {
    if (status.reason === 'NodeLost') summary.reason = 'Unknown';
    else if (status.phase !== 'Succeeded' && status.phase !== 'Failed') summary.reason = 'Terminating';
  }
  return summary;
}

function isInitialized(status: Loose): boolean { return (status.conditions ?? []).some((condition: Loose) => condition.type === 'Initialized' && condition.status === 'True'); }

function summarizeInit(pod: Loose, summary: Summary): boolean {
  const { spec = {}, status = {} } = pod;
  const containers = new Map<string, Loose>((spec.initContainers ?? []).map((container: Loose) => [container.name, container]));
  for (const [index, item] of (status.initContainerStatuses ?? []).entries()) {
    summary.restarts += item.restartCount ?? 0;
    summary.lastRestart = later(summary.lastRestart, item.lastState?.terminated?.finishedAt);
    const state = item.state ?? {};
    const sidecar = isSidecar(containers.get(item.name) ?? {});
    if (sidecar && item.started === true) {
      if (item.ready === true) summary.ready += 1;
      continue;
    }
    if (state.terminated?.exitCode === 0) continue;
    if (state.terminated !== undefined) summary.reason = `Init:${terminatedWord(state.terminated)}`;
    else if (state.waiting?.reason !== undefined && state.waiting.reason !== '' && state.waiting.reason !== 'PodInitializing') summary.reason = `Init:${state.waiting.reason}`;
    else summary.reason = `Init:${index}/${spec.initContainers?.length ?? 0}`;
    return true;
  }
  return false;
}

function terminatedWord(terminated: Loose): string {
  if (terminated.reason !== undefined && terminated.reason !== '') return terminated.reason;
  return terminated.signal > 0 ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

function summarizeContainers(pod: Loose, summary: Summary): void {
  const { status = {} } = pod;
  summary.restarts = (status.initContainerStatuses ?? []).filter((item: Loose) => item.started === true).reduce((sum: number, item: Loose) => sum + (item.restartCount ?? 0), 0);
  let hasRunning = false;
  for (const item of [...(status.containerStatuses ?? [])].reverse()) {
    summary.restarts += item.restartCount ?? 0;
    summary.lastRestart = later(summary.lastRestart, item.lastState?.terminated?.finishedAt);
    const state = item.state ?? {};
    if (state.waiting?.reason !== undefined && state.waiting.reason !== '') summary.reason = state.waiting.reason;
    else if (state.terminated !== undefined) summary.reason = terminatedWord(state.terminated);
    else if (item.ready === true && state.running !== undefined) { hasRunning = true; summary.ready += 1; }
  }
  if (summary.reason === 'Completed' && hasRunning) summary.reason = (status.conditions ?? []).some((condition: Loose) => condition.type === 'Ready' && condition.status === 'True') ? 'Running' : 'NotReady';
}
