// Questions about identity and rights that are answered at once and never stored: whoami, can-i, token reviews.
// Source: Kubernetes authentication.k8s.io/v1, authorization.k8s.io/v1.

import type { KubeObject } from '../../../api/types.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import type { Attributes, Authorizer, PolicyRule } from '../auth/authorizer.ts';
import type { UserInfo } from '../auth/user.ts';
import type { RequestContext } from '../context.ts';
import { badRequest, methodNotAllowed } from '../errors.ts';
import { sendObject } from '../http/respond.ts';
import { readObject } from '../verbs/body.ts';
import { throwCauses } from '../verbs/write.ts';

interface ResourceAttributes { namespace?: string; verb?: string; group?: string; version?: string; resource?: string; subresource?: string; name?: string }
interface AccessSpec { resourceAttributes?: ResourceAttributes; nonResourceAttributes?: { path?: string; verb?: string }; user?: string; groups?: string[]; uid?: string }
interface Review extends KubeObject { spec?: AccessSpec & { namespace?: string; token?: string; audiences?: string[] }; status?: unknown }
type Answer = (context: RequestContext, review: Review, authorizer: Authorizer, authenticator: Authenticator) => object | Promise<object>;

const answers: Readonly<Record<string, Answer>> = {
  selfsubjectaccessreviews: (context, review, authorizer) => access(context, review, authorizer, context.user),
  subjectaccessreviews: (context, review, authorizer) => access(context, review, authorizer, subject(context, review)),
  localsubjectaccessreviews: (context, review, authorizer) => {
    if (review.spec?.resourceAttributes?.namespace !== context.info.namespace) throwCauses(context.resource, review, [{ reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(review.spec?.resourceAttributes?.namespace ?? '')}: must match metadata.namespace`, field: 'spec.resourceAttributes.namespace' }]);
    return access(context, review, authorizer, subject(context, review));
  },
  selfsubjectrulesreviews: (context, review, authorizer) => rules(context, review, authorizer),
  selfsubjectreviews: ({ user }) => ({ userInfo: { username: user.username, ...(user.uid === undefined ? {} : { uid: user.uid }), groups: user.groups, ...(user.extra === undefined ? {} : { extra: user.extra }) } }),
  tokenreviews: (_context, review, _authorizer, authenticator) => tokenReview(review, authenticator),
};

/** Answers a review; undefined when the request is none. */
export function serveReview(context: RequestContext, authorizer: Authorizer, authenticator: Authenticator): Promise<void> | undefined {
  const { resource } = context;
  const answer = resource.group === 'authentication.k8s.io' || resource.group === 'authorization.k8s.io' ? answers[resource.resource] : undefined;
  return answer === undefined ? undefined : serve(context, answer, authorizer, authenticator);
}

async function serve(context: RequestContext, answer: Answer, authorizer: Authorizer, authenticator: Authenticator): Promise<void> {
  if (context.info.verb !== 'create' || context.info.name !== '') throw methodNotAllowed(context.info);
  const review = await readObject(context, { fieldValidation: 'Ignore' }) as Review;
  const status = await answer(context, review, authorizer, authenticator);
  await sendObject({ exchange: context.exchange, warnings: context.warnings, mediaType: context.negotiated.mediaType }, 201, { ...review, metadata: { creationTimestamp: null, ...review.metadata }, status });
}

function subject(context: RequestContext, review: Review): UserInfo {
  const { user = '', groups = [], uid } = review.spec ?? {};
  if (user === '' && groups.length === 0) throwCauses(context.resource, review, [{ reason: 'FieldValueInvalid', message: 'Invalid value: "": at least one of user or group must be specified', field: 'spec.user' }]);
  return { username: user, groups, uid, method: 'token' };
}

function access(context: RequestContext, review: Review, authorizer: Authorizer, user: UserInfo): object {
  const { resourceAttributes: resource, nonResourceAttributes: path } = review.spec ?? {};
  if ((resource === undefined) === (path === undefined)) throwCauses(context.resource, review, [{ reason: 'FieldValueInvalid', message: 'Invalid value: "": exactly one of nonResourceAttributes or resourceAttributes must be specified', field: 'spec.resourceAttributes' }]);
  const attributes: Attributes = resource === undefined
    ? { isResource: false, path: path?.path ?? '', verb: path?.verb ?? '', group: '', resource: '', subresource: '', namespace: '', name: '' }
    : { isResource: true, path: '', verb: resource.verb ?? '', group: resource.group ?? '', resource: resource.resource ?? '', subresource: resource.subresource ?? '', namespace: resource.namespace ?? '', name: resource.name ?? '' };
  const isAllowed = authorizer.isAllowed(user, attributes);
  return { allowed: isAllowed, ...(isAllowed ? {} : { reason: '' }) };
}

function rules(context: RequestContext, review: Review, authorizer: Authorizer): object {
  const namespace = review.spec?.namespace ?? '';
  if (namespace === '') throw badRequest('no namespace on request');
  const all = authorizer.rulesFor(context.user, namespace);
  const resourceRules = all.filter((rule) => (rule.nonResourceURLs?.length ?? 0) === 0).map(({ verbs, apiGroups, resources, resourceNames }: PolicyRule) => ({ verbs, apiGroups: apiGroups ?? [], resources: resources ?? [], ...(resourceNames === undefined ? {} : { resourceNames }) }));
  const nonResourceRules = all.filter((rule) => (rule.nonResourceURLs?.length ?? 0) > 0).map(({ verbs, nonResourceURLs }: PolicyRule) => ({ verbs, nonResourceURLs }));
  return { resourceRules, nonResourceRules, incomplete: false };
}

async function tokenReview(review: Review, authenticator: Authenticator): Promise<object> {
  const { token = '', audiences = [] } = review.spec ?? {};
  const user = token === '' ? undefined : await authenticator.byToken(token, audiences);
  if (user === undefined) return { authenticated: false, user: {}, error: 'invalid bearer token' };
  return { authenticated: true, user: { username: user.username, ...(user.uid === undefined ? {} : { uid: user.uid }), groups: user.groups, ...(user.extra === undefined ? {} : { extra: user.extra }) }, ...(audiences.length === 0 ? {} : { audiences }) };
}
