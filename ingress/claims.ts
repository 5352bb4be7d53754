// Where the claims of all Ingresses meet: per host the routes of every object, oldest first; the loser of two equal
// claims gets a fault and takes over when the winner goes (rule 35). Also the rows of the counters. Main thread only;
// work per change is proportional to the hosts that changed, not to the number of objects.

import type { CanarySpec } from '../proxy/http/policy/spec.ts';
import type { Claim, IngressPlan, PlanFault } from './plan.ts';
import type { HostSpec, RouteSpec } from './protocol.ts';

/** 'shared': hosts merge across namespaces (ingress-nginx). 'namespace': the first namespace keeps a host (I-4). */
export type HostOwnership = 'shared' | 'namespace';

const rowCountMax = 2_047;

export class Claims {
  readonly #plans = new Map<string, IngressPlan>();
  readonly #byHost = new Map<string, Set<string>>();
  readonly #fallbacks = new Set<string>();
  readonly #rows = new Map<string, { row: number; users: number }>();
  readonly #freeRows: number[] = [];
  readonly #ownership: HostOwnership;
  #nextRow = 1;

  constructor(ownership: HostOwnership) { this.#ownership = ownership; }

  get size(): number { return this.#plans.size; }
  plan(key: string): IngressPlan | undefined { return this.#plans.get(key); }
  plans(): IterableIterator<IngressPlan> { return this.#plans.values(); }
  hosts(): IterableIterator<string> { return this.#byHost.keys(); }

  /** Label sets of the counter rows: row → [namespace/ingress, service]. */
  *rows(): Iterable<{ row: number; object: string; service: string }> {
    for (const [label, { row }] of this.#rows) {
      const [object = '', service = ''] = label.split(' ');
      yield { row, object, service };
    }
  }

  /** Replaces the plan of one object (undefined = gone). Returns the hosts whose routes must be built again. */
  set(key: string, plan: IngressPlan | undefined): Set<string> {
    const dirty = new Set<string>();
    const old = this.#plans.get(key);
    if (old !== undefined) {
      for (const claim of old.claims) { dirty.add(claim.host); this.#byHost.get(claim.host)?.delete(key); }
      this.#fallbacks.delete(key);
    }
    if (plan === undefined) this.#plans.delete(key);
    else {
      this.#plans.set(key, plan);
      for (const claim of plan.claims) {
        dirty.add(claim.host);
        const users = this.#byHost.get(claim.host);
        if (users === undefined) this.#byHost.set(claim.host, new Set([key])); else users.add(key);
      }
      if (plan.fallback !== undefined) this.#fallbacks.add(key);
    }
    this.#countRows(old, plan);
    for (const host of dirty) if (this.#byHost.get(host)?.size === 0) this.#byHost.delete(host);
    return dirty;
  }

  #countRows(old: IngressPlan | undefined, plan: IngressPlan | undefined): void {
    for (const service of servicesOf(plan)) {
      const label = `${plan!.key} ${service}`;
      const present = this.#rows.get(label);
      if (present !== undefined) present.users += 1;
      else {
        const row = this.#freeRows.pop() ?? (this.#nextRow <= rowCountMax ? this.#nextRow++ : 0);
        if (row !== 0) this.#rows.set(label, { row, users: 1 });
      }
    }
    for (const service of servicesOf(old)) {
      const label = `${old!.key} ${service}`;
      const present = this.#rows.get(label);
      if (present === undefined || --present.users > 0) continue;
      this.#rows.delete(label);
      this.#freeRows.push(present.row);
    }
  }

  row(object: string, service: string): number { return this.#rows.get(`${object} ${service}`)?.row ?? 0; }

  /** All routes of one host, oldest object first, or null when nobody claims it; faults of losers go to `onFault`. */
  host(host: string, onFault: (key: string, fault: PlanFault) => void): HostSpec | null {
    const keys = this.#byHost.get(host);
    if (keys === undefined) return null;
    const plans = [...keys].map((key) => this.#plans.get(key)!).sort(byOrder);
    const first = plans[0]!;
    const taken = new Map<string, string>();
    const routes: RouteSpec[] = [];
    for (const plan of plans) {
      if (this.#ownership === 'namespace' && plan.namespace !== first.namespace && host !== '') {
        onFault(plan.key, { reason: 'HostTaken', field: 'spec.rules', message: `host ${host} belongs to namespace ${first.namespace} (Ingress ${first.key}): its rules here are not served` });
        continue;
      }
      if (plan.isCanary) continue;
      for (const claim of plan.claims) {
        if (claim.host !== host) continue;
        const id = `${claim.route.type} ${claim.route.path}`;
        const winner = taken.get(id);
        if (winner !== undefined) {
          if (winner !== plan.key) onFault(plan.key, { reason: 'PathTaken', field: 'spec.rules', message: `${claim.route.rule} is already served by the older Ingress ${winner}` });
          continue;
        }
        taken.set(id, plan.key);
        const canaries = this.#canaries(plans, plan, claim);
        const route: RouteSpec = { ...claim.route, row: this.row(claim.route.object, claim.service) };
        routes.push(canaries.length === 0 ? route : { ...route, policy: { ...route.policy, canaries } });
      }
    }
    const fallbackPlan = plans.find((plan) => plan.fallback !== undefined);
    return { routes, object: first.key, ...(fallbackPlan === undefined ? {} : { fallback: this.#fallbackRoute(fallbackPlan) }) };
  }

  /** The canary objects of the same namespace that add to one route. */
  #canaries(plans: readonly IngressPlan[], main: IngressPlan, claim: Claim): CanarySpec[] {
    return plans.flatMap((plan) => {
      const rules = plan.annotations.canary;
      if (rules === undefined || plan.namespace !== main.namespace) return [];
      const same = plan.claims.find((item) => item.host === claim.host && item.route.path === claim.route.path && item.route.type === claim.route.type);
      return same?.route.backend === undefined ? [] : [{ ...rules, backend: same.route.backend, row: this.row(plan.key, same.service) }];
    });
  }

  /** The default backend for what no rule takes: that of the oldest object that has one. */
  fallback(): RouteSpec | null {
    const plans = [...this.#fallbacks].map((key) => this.#plans.get(key)!).sort(byOrder);
    return plans[0] === undefined ? null : this.#fallbackRoute(plans[0]);
  }

  #fallbackRoute(plan: IngressPlan): RouteSpec {
    const claim = plan.fallback!;
    return { ...claim.route, row: this.row(plan.key, claim.service) };
  }
}

function byOrder(a: IngressPlan, b: IngressPlan): number { return a.order < b.order ? -1 : a.order > b.order ? 1 : 0; }

function servicesOf(plan: IngressPlan | undefined): Set<string> {
  const services = new Set<string>();
  for (const claim of plan?.claims ?? []) services.add(claim.service);
  if (plan?.fallback !== undefined) services.add(plan.fallback.service);
  return services;
}
