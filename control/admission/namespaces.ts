// Admission step of namespaces: nothing is created in a namespace that is missing or on its way out, and the ones that
// the control plane itself needs cannot be deleted.
// Source: kubernetes/apiserver pkg/admission/plugin/namespace/lifecycle.

import { NetloomError } from '../../api/errors.ts';
import type { Namespace } from '../../api/types.ts';
import type { AdmissionContext, AdmissionRequest, AdmissionStep } from './types.ts';

export const protectedNamespaces: readonly string[] = Object.freeze(['default', 'kube-system', 'kube-public']);

/** Access reviews name a namespace but store nothing in it. */
const storesNothing = new Set(['localsubjectaccessreviews', 'subjectaccessreviews', 'selfsubjectaccessreviews', 'selfsubjectrulesreviews', 'selfsubjectreviews', 'tokenreviews']);

export function namespaceLifecycleStep(context: AdmissionContext): AdmissionStep {
  return {
    name: 'NamespaceLifecycle',
    admit(request: AdmissionRequest): void {
      const { resource } = request;
      if (resource.group === '' && resource.resource === 'namespaces') {
        if (request.operation === 'delete' && protectedNamespaces.includes(request.object.metadata.name)) throw forbidden(resource.resource, request.object.metadata.name, 'this namespace may not be deleted');
        return;
      }
      if (!resource.isNamespaced || request.operation !== 'create' || request.subresource !== '' || storesNothing.has(resource.resource)) return;
      const name = request.object.metadata.namespace ?? '';
      const namespace = context.storage.get('namespaces', name)?.object as Namespace | undefined;
      if (namespace === undefined) throw new NetloomError('NotFound', `namespaces "${name}" not found`, { source: 'downstream', details: { name, kind: 'namespaces' } });
      if (namespace.metadata.deletionTimestamp === undefined && namespace.status?.phase !== 'Terminating') return;
      const qualified = resource.group === '' ? resource.resource : `${resource.resource}.${resource.group}`;
      throw forbidden(qualified, request.object.metadata.name, `unable to create new content in namespace ${name} because it is being terminated`, [
        { reason: 'NamespaceTerminating', message: `namespace ${name} is being terminated`, field: 'metadata.namespace' },
      ]);
    },
  };
}

function forbidden(resource: string, name: string, why: string, causes?: { reason: string; message: string; field: string }[]): NetloomError {
  return new NetloomError('Forbidden', `${resource} "${name}" is forbidden: ${why}`, { source: 'downstream', details: { name, kind: resource, ...(causes === undefined ? {} : { causes }) } });
}
