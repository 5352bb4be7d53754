// What the write verbs ask of the rest of the control plane: schemas, defaults, admission, validation, ownership of
// fields. One seam, so that the verbs read the same for built-in and custom kinds.

import { parseCIDR } from '../../../api/address.ts';
import type { KubeObject, StatusCause } from '../../../api/types.ts';
import type { Admission } from '../../admission/chain.ts';
import type { AdmissionRequest, AdmissionResult } from '../../admission/types.ts';
import { applyDefaults } from '../../defaults/defaults.ts';
import { mergePatch } from '../../patch/merge-patch.ts';
import { groupVersion, type ResourceInfo } from '../../resources.ts';
import { schemaFor } from '../../schema/load.ts';
import type { Schema } from '../../schema/schema.ts';
import { validateCreate, validateUpdate } from '../../validation/validate.ts';
import type { WriteOptions } from './write-options.ts';

export interface OwnershipRequest { resource: ResourceInfo; options: WriteOptions; subresource: string }

export interface WriteHooks {
  schemaOf(resource: ResourceInfo): Schema | undefined;
  applyDefaults(object: KubeObject, resource: ResourceInfo): KubeObject;
  /** The object with its managedFields as after a create, update or patch by this manager. */
  trackUpdate(request: OwnershipRequest & { live: KubeObject | undefined; updated: KubeObject }): KubeObject;
  /** Server-side apply. Throws Conflict with causes. */
  apply(request: OwnershipRequest & { live: KubeObject | undefined; applied: KubeObject }): KubeObject;
  admit(request: AdmissionRequest): Promise<AdmissionResult>;
  validateCreate(object: KubeObject, resource: ResourceInfo): StatusCause[];
  validateUpdate(object: KubeObject, old: KubeObject, resource: ResourceInfo, subresource: string): StatusCause[];
}

export interface HooksOptions { admission: Admission; serviceCIDRs: readonly string[]; podCIDR: string }

/** The hooks of a running control plane. */
export function makeHooks(options: HooksOptions): WriteHooks {
  const families = options.serviceCIDRs.flatMap((text) => parseCIDR(text)?.family ?? []);
  const podRange = parseCIDR(options.podCIDR);
  const context = { families, isPodAddress: (ip: string): boolean => podRange?.contains(ip) === true };
  return {
    schemaOf: (resource) => schemaFor(groupVersion(resource), resource.kind),
    applyDefaults: (object) => applyDefaults(object),
    trackUpdate: ({ updated }) => updated,
    apply: ({ live, applied }) => mergePatch(live ?? {}, applied) as KubeObject,
    admit: (request) => options.admission.admit(request),
    validateCreate: (object) => validateCreate(object, context),
    validateUpdate: (object, old, _resource, subresource) => validateUpdate(object, old, { ...context, subresource }),
  };
}
