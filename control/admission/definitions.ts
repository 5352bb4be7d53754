// Admission of CustomResourceDefinitions: a name that another definition of the group holds is not accepted, and the kind
// is not served until it is free; rules in CEL that this server cannot evaluate are named in warnings.
// Source: apiextensions-apiserver pkg/controller/status/naming_controller.go.

import { formatTime } from '../../api/clock.ts';
import type { Condition, KubeObject } from '../../api/types.ts';
import { crdSchema, type CrdObject } from '../schema/crd.ts';
import type { AdmissionContext, AdmissionStep } from './types.ts';

interface Names { plural?: string; singular?: string; kind?: string; listKind?: string; shortNames?: string[]; categories?: string[] }
interface Definition extends KubeObject { spec?: { group?: string; names?: Names }; status?: { conditions?: Condition[]; acceptedNames?: Names; storedVersions?: string[] } }
interface Conflict { reason: string; name: string }

const storageName = 'customresourcedefinitions.apiextensions.k8s.io';
/** Warnings about rules sent with one answer. */
const ruleWarningsMax = 10;

/** The step for one API server. */
export function definitionsStep({ storage, clock }: Pick<AdmissionContext, 'storage' | 'clock'>): AdmissionStep {
  return {
    name: 'definitions',
    admit(request) {
      if (request.resource.resource !== 'customresourcedefinitions' || request.operation === 'delete' || request.subresource !== '') return undefined;
      const crd = request.object as Definition;
      const others = storage.list(storageName).items.map((stored) => stored.object as Definition).filter((other) => other.metadata.name !== crd.metadata.name && other.spec?.group === crd.spec?.group);
      const conflict = conflictsOf(crd.spec?.names ?? {}, others.map((other) => other.status?.acceptedNames ?? {})).at(-1);
      if (conflict !== undefined) request.object = { ...crd, status: refused(crd, request.old as Definition | undefined, conflict, formatTime(clock.nowMs())) } as KubeObject;
      return { warnings: ruleWarnings(crd) };
    },
  };
}

/** Resource names share one space of words, kinds another. Of several complaints the last one is shown, as in Kubernetes. */
function conflictsOf(names: Names, accepted: readonly Names[]): Conflict[] {
  const words = new Set(accepted.flatMap(({ plural, singular, shortNames }) => [plural, singular, ...(shortNames ?? [])]));
  const kinds = new Set(accepted.flatMap(({ kind, listKind }) => [kind, listKind]));
  const found: Conflict[] = [];
  const look = (reason: string, name: string | undefined, taken: ReadonlySet<string | undefined>): void => { if (name !== undefined && name !== '' && taken.has(name)) found.push({ reason, name }); };
  look('PluralConflict', names.plural, words);
  look('SingularConflict', names.singular, words);
  for (const name of names.shortNames ?? []) look('ShortNamesConflict', name, words);
  look('KindConflict', names.kind, kinds);
  look('ListKindConflict', names.listKind, kinds);
  return found;
}

/** What was served before stays served under the names it had. */
function refused(crd: Definition, old: Definition | undefined, { reason, name }: Conflict, now: string): object {
  const before = new Map((old?.status?.conditions ?? []).map((condition) => [condition.type, condition]));
  const established = before.get('Established');
  const rejected = before.get('NamesAccepted');
  return {
    ...crd.status,
    conditions: [
      rejected?.status === 'False' && rejected.reason === reason ? rejected : { type: 'NamesAccepted', status: 'False', lastTransitionTime: now, reason, message: `${JSON.stringify(name)} is already in use` },
      established ?? { type: 'Established', status: 'False', lastTransitionTime: now, reason: 'NotAccepted', message: 'not all names are accepted' },
    ],
    acceptedNames: old?.status?.acceptedNames ?? { plural: '', kind: '' },
  };
}

function ruleWarnings(crd: Definition): string[] {
  const { versions } = (crd as unknown as CrdObject).spec ?? {};
  if (!Array.isArray(versions)) return [];
  const found = versions.flatMap((version, index) => unenforced({ ...crd } as unknown as CrdObject, version.name).map((rule) => `spec.versions[${index}].schema.openAPIV3Schema: a rule is stored but not enforced: ${rule}`));
  return found.length <= ruleWarningsMax ? found : [...found.slice(0, ruleWarningsMax), `${found.length - ruleWarningsMax} more rules are stored but not enforced`];
}

/** A definition that cannot be compiled is for validation to refuse. */
function unenforced(crd: CrdObject, version: string): readonly string[] {
  try { return crdSchema(crd, version)?.unenforced ?? []; } catch { return []; }
}
