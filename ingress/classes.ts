// Which Ingresses are ours (rules 9–13): ingressClassName → IngressClass → spec.controller; the legacy annotation when
// the field is absent; without either only if a class of ours is the default. Pure; called by controller.ts and check.ts.

import { annotations } from '../api/meta.ts';
import type { Ingress, IngressClass } from '../api/types.ts';

export interface ClassRules {
  readonly controllerName: string;
  /** The name that the legacy annotation must carry even when no IngressClass object of that name exists. */
  readonly className: string;
  /** Serves Ingresses without any class even when no default class exists. */
  readonly mayServeClassless: boolean;
}

/** Whether this controller serves the object. */
export function isOurs(ingress: Ingress, classOf: (name: string) => IngressClass | undefined, classes: () => Iterable<IngressClass>, rules: ClassRules): boolean {
  const name = ingress.spec?.ingressClassName;
  if (name !== undefined) return classOf(name)?.spec?.controller === rules.controllerName;
  const legacy = ingress.metadata.annotations?.[annotations.ingressClass];
  if (legacy !== undefined) {
    const named = classOf(legacy);
    return named === undefined ? legacy === rules.className : named.spec?.controller === rules.controllerName;
  }
  const newest = defaultClass(classes());
  return newest === undefined ? rules.mayServeClassless : newest.spec?.controller === rules.controllerName;
}

/** The default class: the newest one marked so, then by name (DefaultIngressClass admission). */
export function defaultClass(classes: Iterable<IngressClass>): IngressClass | undefined {
  let best: IngressClass | undefined;
  for (const item of classes) {
    if (item.metadata.annotations?.[annotations.defaultIngressClass] !== 'true') continue;
    if (best === undefined || compareAge(item, best) < 0) best = item;
  }
  return best;
}

function compareAge(a: IngressClass, b: IngressClass): number {
  const timeA = a.metadata.creationTimestamp ?? '';
  const timeB = b.metadata.creationTimestamp ?? '';
  if (timeA !== timeB) return timeA > timeB ? -1 : 1;
  return a.metadata.name < b.metadata.name ? -1 : 1;
}
