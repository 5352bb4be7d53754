// POST serviceaccounts/NAME/token: a bound token for the account (kubectl create token; what Pods get).
// Source: Kubernetes authentication.k8s.io/v1 TokenRequest; kubernetes pkg/registry/core/serviceaccount/storage/token.go.

import { formatTime } from '../../../api/clock.ts';
import type { KubeObject } from '../../../api/types.ts';
import type { ServiceAccountTokens } from '../auth/service-account-tokens.ts';
import type { RequestContext } from '../context.ts';
import { badRequest } from '../errors.ts';
import { sendObject } from '../http/respond.ts';
import { readObject } from '../verbs/body.ts';
import { getStored, keyOf } from '../verbs/read.ts';
import { throwCauses } from '../verbs/write.ts';

interface Request extends KubeObject { spec?: { audiences?: string[]; expirationSeconds?: number; boundObjectRef?: { kind?: string; apiVersion?: string; name?: string; uid?: string } | null } }

const lifeSecondsDefault = 3_600;
const lifeSecondsMin = 600;
const lifeSecondsMax = 48 * 3_600;

/** The handler of token requests. */
export function tokenHandler(tokens: ServiceAccountTokens): (context: RequestContext) => Promise<void> {
  return async (context) => {
    const { info, exchange, warnings, resource } = context;
    const request = await readObject(context, { fieldValidation: 'Warn' }, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' }) as Request;
    const account = getStored(context).object;
    const asked = request.spec?.expirationSeconds ?? lifeSecondsDefault;
    if (asked < lifeSecondsMin || asked > 2 ** 32) {
      throwCauses({ ...resource, kind: 'TokenRequest', group: 'authentication.k8s.io' }, request, [{ reason: 'FieldValueInvalid', message: `Invalid value: ${asked}: may not specify a duration ${asked < lifeSecondsMin ? 'less than 10 minutes' : 'larger than 2^32 seconds'}`, field: 'spec.expirationSeconds' }]);
    }
    const lifeSeconds = Math.min(asked, lifeSecondsMax);
    const bound = readBound(context, request);
    const { token, expiresMs } = tokens.issue({ namespace: info.namespace, name: info.name, uid: account.metadata.uid ?? '', audiences: request.spec?.audiences ?? [], lifeSeconds, bound });
    await sendObject({ exchange, warnings }, 201, {
      kind: 'TokenRequest', apiVersion: 'authentication.k8s.io/v1', metadata: { name: info.name, namespace: info.namespace, creationTimestamp: formatTime(context.server.clock.nowMs()) },
      spec: { ...request.spec, audiences: request.spec?.audiences ?? [], expirationSeconds: lifeSeconds }, status: { token, expirationTimestamp: formatTime(expiresMs) },
    });
  };
}

function readBound(context: RequestContext, request: Request): { kind: 'Pod' | 'Secret' | 'Node'; name: string; uid: string } | undefined {
  const reference = request.spec?.boundObjectRef;
  if (reference === undefined || reference === null) return undefined;
  const { kind, name = '' } = reference;
  if (kind !== 'Pod' && kind !== 'Secret' && kind !== 'Node') throw badRequest(`cannot bind token for serviceaccount "${context.info.name}" to object of type ${String(kind)}`);
  const resource = context.server.registry.find('', 'v1', `${kind.toLowerCase()}s`);
  const found = resource === undefined ? undefined : context.server.storage.get(resource.storage, keyOf(resource, context.info.namespace, name))?.object;
  if (found === undefined || resource === undefined) throw badRequest(`${kind.toLowerCase()}s "${name}" not found`);
  if (reference.uid !== undefined && reference.uid !== found.metadata.uid) throw badRequest(`the UID in the bound object reference (${reference.uid}) does not match the UID in record. The object might have been deleted and then recreated`);
  return { kind, name, uid: found.metadata.uid ?? '' };
}
