// What the write verbs ask of the rest of the control plane: schemas, defaults, admission, validation, ownership of
// fields. One seam, so that the verbs read the same for built-in and custom kinds.

import { parseCIDR } from '../../../api/address.ts';
import { formatTime, type Clock } from '../../../api/clock.ts';
import type { KubeObject, Service, StatusCause } from '../../../api/types.ts';
import type { Admission } from '../../admission/chain.ts';
import { isTrusted, type AdmissionRequest, type AdmissionResult } from '../../admission/types.ts';
import { applyDefaults } from '../../defaults/defaults.ts';
import { serverSideApply, trackUpdate } from '../../patch/apply/managers.ts';
import { groupVersion, type ResourceInfo } from '../../resources.ts';
import type { CompiledCrd } from '../../schema/crd.ts';
import { schemaFor } from '../../schema/load.ts';
import type { Schema } from '../../schema/schema.ts';
import { validateCreate, validateUpdate } from '../../validation/validate.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import { restrictNode } from '../auth/node-rules.ts';
import type { UserInfo } from '../auth/user.ts';
import type { Registry } from '../registry.ts';
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
  /** Notes what a Service of another server holds, before its event arrives. */
  noteHolder(service: Service): void;
  /** Rules about the writer and the object together: nodes keep to their own, nobody grants more than they have. Throws Forbidden. */
  checkWriter(user: UserInfo, resource: ResourceInfo, object: KubeObject, old: KubeObject | undefined): void;
  validateCreate(object: KubeObject, resource: ResourceInfo, user: UserInfo): StatusCause[];
  validateUpdate(object: KubeObject, old: KubeObject, resource: ResourceInfo, user: UserInfo, subresource: string): StatusCause[];
}

export interface HooksOptions { registry: Registry; authorizer: Authorizer; admission: Admission; serviceCIDRs: readonly string[]; podCIDR: string; clock: Clock }

/** The hooks of a running control plane. */
export function makeHooks(options: HooksOptions): WriteHooks {
  const { registry } = options;
  const families = options.serviceCIDRs.flatMap((text) => parseCIDR(text)?.family ?? []);
  const podRange = parseCIDR(options.podCIDR);
  const ordinary = { families, isPodAddress: (ip: string): boolean => podRange?.contains(ip) === true };
  // The API server publishes its own address, which is loopback unless it was bound to another one.
  const own = { families, isPodAddress: (): boolean => true };
  const contextOf = (user: UserInfo): typeof ordinary => (isTrusted(user) ? own : ordinary);
  const schemaOfObject = (object: KubeObject, resource: ResourceInfo): Schema | undefined => registry.compiled(resource)?.schema ?? schemaFor(object.apiVersion ?? '', object.kind ?? '');
  const customOf = (resource: ResourceInfo): { custom?: CompiledCrd } => {
    const custom = registry.compiled(resource);
    return custom === undefined ? {} : { custom };
  };
  return {
    schemaOf: (resource) => registry.compiled(resource)?.schema ?? schemaFor(groupVersion(resource), resource.kind),
    applyDefaults: (object, resource) => {
      const compiled = registry.compiled(resource);
      if (compiled === undefined) return applyDefaults(object);
      compiled.applyDefaults(object);
      return object;
    },
    trackUpdate: ({ live, updated, resource, options: { fieldManager }, subresource }) => trackUpdate({
      live, updated, schema: schemaOfObject(updated, resource), manager: fieldManager, subresource, now: formatTime(options.clock.nowMs()), ignore: ignoredFields(resource, subresource),
    }),
    apply: ({ live, applied, resource, options: { fieldManager, force }, subresource }) => serverSideApply({
      live, applied, schema: schemaOfObject(applied, resource), manager: fieldManager, force: force === true, subresource, now: formatTime(options.clock.nowMs()), ignore: ignoredFields(resource, subresource),
    }).object,
    checkWriter: (user, resource, object, old) => {
      restrictNode(user, resource, object, old);
      if (object !== old) options.authorizer.checkGrant(user, resource, object);
    },
    admit: (request) => options.admission.admit(request),
    noteHolder: (service) => { options.admission.allocator.reserve(service); },
    validateCreate: (object, resource, user) => validateCreate(object, { ...contextOf(user), ...customOf(resource) }),
    validateUpdate: (object, old, resource, user, subresource) => validateUpdate(object, old, { ...contextOf(user), subresource, ...customOf(resource) }),
  };
}

/** Top-level fields that an endpoint resets and so nobody owns through it. */
function ignoredFields(resource: ResourceInfo, subresource: string): readonly string[] {
  if (subresource === 'status') return ['spec'];
  return resource.hasStatus ? ['status'] : [];
}
