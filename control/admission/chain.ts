// The admission chain: every write passes these steps in this order, after defaults and before validation. Later steps
// see what earlier ones changed; when one refuses, what earlier ones had reserved is given back at once.
// Called by the write verbs of the API server.

import type { KubeObject } from '../../api/types.ts';
import { ServiceAllocator } from './service-allocation.ts';
import type { AllocationConflict } from './service-allocation.ts';
import { ServiceSync } from './service-sync.ts';
import { endpointAddressesStep } from './endpoints.ts';
import { definitionsStep } from './definitions.ts';
import { defaultIngressClassStep, jobStep, podStep } from './fillers.ts';
import { namespaceLifecycleStep } from './namespaces.ts';
import { externalIPsStep, loadBalancerStatusStep, selectorWarningStep, serviceAllocationStep } from './services.ts';
import type { AdmissionContext, AdmissionRequest, AdmissionResult, AdmissionStep, Reservation } from './types.ts';

/** A running chain: `start` reads the stored Services and must come before the first `admit`. */
export interface Admission {
  readonly allocator: ServiceAllocator;
  readonly sync: ServiceSync;
  start(): void;
  stop(): void;
  /** Throws NetloomError when a step refuses. */
  admit(request: AdmissionRequest): Promise<AdmissionResult>;
  /** Tells who holds addresses twice, after each repair pass. */
  onConflicts(listener: (conflicts: AllocationConflict[]) => void): void;
}

/** Builds the chain of one API server. */
export function admissionChain(context: AdmissionContext): Admission {
  const random = context.random ?? (context.storage.stats().kind === 'etcd' ? ownPart() : Math.random);
  const allocator = new ServiceAllocator({ serviceCIDRs: context.config.serviceCIDRs, nodePortRange: context.config.nodePortRange, random });
  const listeners: ((conflicts: AllocationConflict[]) => void)[] = [];
  const sync = new ServiceSync({ storage: context.storage, allocator, clock: context.clock, log: context.log, onConflicts: (conflicts) => { for (const listener of listeners) listener(conflicts); } });
  const steps: readonly AdmissionStep[] = [
    namespaceLifecycleStep(context),
    podStep(context),
    jobStep(),
    definitionsStep(context),
    defaultIngressClassStep(context),
    endpointAddressesStep(context),
    loadBalancerStatusStep(context),
    externalIPsStep(context),
    selectorWarningStep(context),
    serviceAllocationStep(context, allocator),
  ];
  return {
    allocator, sync,
    start: () => sync.start(),
    stop: () => sync.stop(),
    onConflicts: (listener) => { listeners.push(listener); },
    admit: (request) => runSteps(steps, request),
  };
}

/** Parts into which the servers of one store divide a range. */
const partCount = 32;

/**
 * Of several servers on one store each picks from a part of its own, chosen at start: a number that one gives out takes
 * a moment to reach the others. When it happens all the same, or both are asked for one number, the store decides
 * (../server/verbs/claims.ts).
 */
function ownPart(): () => number {
  const part = Math.floor(Math.random() * partCount);
  return () => (part + Math.random()) / partCount;
}

async function runSteps(steps: readonly AdmissionStep[], request: AdmissionRequest): Promise<AdmissionResult> {
  const warnings: string[] = [];
  const reservations: Reservation[] = [];
  let isSettled = false;
  const settle = (verb: 'commit' | 'release'): void => {
    if (isSettled) return;
    isSettled = true;
    for (const reservation of reservations) reservation[verb]();
  };
  const own: AdmissionRequest = { ...request };
  try {
    for (const step of steps) {
      const outcome = step.admit(own);
      const settled = outcome instanceof Promise ? await outcome : outcome;
      if (settled === undefined) continue;
      if (settled.warnings !== undefined) warnings.push(...settled.warnings);
      if (settled.reservation !== undefined) reservations.push(settled.reservation);
    }
  } catch (error) {
    settle('release');
    throw error;
  }
  const object: KubeObject = own.object;
  return { object, warnings, onCommitted: () => settle('commit'), onFailed: () => settle('release') };
}
