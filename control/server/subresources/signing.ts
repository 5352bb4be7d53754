// CertificateSigningRequests: the requester's identity is written down at creation, a certificate is issued when the
// request is approved. Signers: client certificates for users and nodes, serving certificates for nodes.
// Source: kubernetes.io "Certificates and Certificate Signing Requests"; kubernetes pkg/controller/certificates/signer.

import type { KubeObject, StatusCause } from '../../../api/types.ts';
import type { Certificates } from '../../certificates.ts';
import type { UserInfo } from '../auth/user.ts';
import type { ServerParts } from '../context.ts';

export const requestStorage = 'certificatesigningrequests.certificates.k8s.io';
const userSigner = 'kubernetes.io/kube-apiserver-client';
const nodeSigner = 'kubernetes.io/kube-apiserver-client-kubelet';
const servingSigner = 'kubernetes.io/kubelet-serving';
const secondsMax = 365 * 86_400;

export interface SigningRequest extends KubeObject {
  spec: { request: string; signerName: string; usages?: string[]; expirationSeconds?: number; username?: string; uid?: string; groups?: string[]; extra?: object };
  status?: { conditions?: { type: string; status?: string; reason?: string; message?: string }[]; certificate?: string };
}

/** Writes the caller into a new request; what the client said about itself is dropped. */
export function stampRequester(object: KubeObject, user: UserInfo): void {
  const spec = (object as SigningRequest).spec as SigningRequest['spec'] | undefined;
  if (spec === undefined) return;
  delete spec.uid;
  delete spec.extra;
  spec.username = user.username;
  spec.groups = [...user.groups];
  if (user.uid !== undefined) spec.uid = user.uid;
}

/** What is wrong with a new request. */
export function requestProblems(object: KubeObject): StatusCause[] {
  const { spec } = object as SigningRequest;
  const causes: StatusCause[] = [];
  if ((spec?.request ?? '') === '' || !/-----BEGIN (NEW )?CERTIFICATE REQUEST-----/.test(Buffer.from(spec?.request ?? '', 'base64').toString('latin1'))) causes.push({ reason: 'FieldValueInvalid', message: 'Invalid value: PEM block type must be CERTIFICATE REQUEST', field: 'spec.request' });
  if ((spec?.signerName ?? '') === '') causes.push({ reason: 'FieldValueRequired', message: 'Required value', field: 'spec.signerName' });
  if ((spec?.usages ?? []).length === 0) causes.push({ reason: 'FieldValueRequired', message: 'Required value: usages must be provided', field: 'spec.usages' });
  if (spec?.expirationSeconds !== undefined && spec.expirationSeconds < 600) causes.push({ reason: 'FieldValueInvalid', message: `Invalid value: ${spec.expirationSeconds}: may not specify a duration less than 600 seconds (10 minutes)`, field: 'spec.expirationSeconds' });
  return causes;
}

function has(request: SigningRequest, type: string): boolean { return request.status?.conditions?.some((condition) => condition.type === type) ?? false; }

/** Issues the certificate of an approved request and writes it into its status, or the reason why not. */
export async function signApproved(parts: ServerParts, certificates: Certificates, name: string): Promise<void> {
  const stored = parts.storage.get(requestStorage, name);
  const request = stored?.object as SigningRequest | undefined;
  if (stored === undefined || request === undefined || !has(request, 'Approved') || has(request, 'Denied') || (request.status?.certificate ?? '') !== '') return;
  const { signerName, request: encoded, expirationSeconds } = request.spec;
  if (signerName !== userSigner && signerName !== nodeSigner && signerName !== servingSigner) return;
  const status: NonNullable<SigningRequest['status']> = { ...request.status };
  try {
    const pem = Buffer.from(encoded, 'base64').toString('latin1');
    const lifeMs = Math.min(expirationSeconds ?? secondsMax, secondsMax) * 1000;
    const certificate = await certificates.signRequest(pem, { isServing: signerName === servingSigner, lifeMs, check: (subject) => checkSubject(signerName, subject, request) });
    status.certificate = Buffer.from(certificate).toString('base64');
  } catch (error) {
    status.conditions = [...(status.conditions ?? []), { type: 'Failed', status: 'True', reason: 'SignerValidationFailure', message: (error as Error).message.slice(0, 500) }];
  }
  await parts.storage.update(requestStorage, name, { ...request, status } as KubeObject, stored.revision);
}

/** Nobody gets a certificate of the masters, or of a node that they are not. */
function checkSubject(signer: string, subject: { commonName: string; organizations: readonly string[] }, request: SigningRequest): void {
  if (subject.organizations.includes('system:masters')) throw new Error('the group system:masters is not signed');
  if (signer === userSigner) return;
  if (!subject.commonName.startsWith('system:node:') || subject.organizations.length !== 1 || subject.organizations[0] !== 'system:nodes') throw new Error('the subject must be that of a node: CN system:node:NAME, O system:nodes');
  const requester = request.spec.username ?? '';
  if (signer === servingSigner && requester !== subject.commonName) throw new Error('a node may ask for its own serving certificate only');
  if (requester.startsWith('system:node:') && requester !== subject.commonName) throw new Error('a node may ask for its own name only');
}
