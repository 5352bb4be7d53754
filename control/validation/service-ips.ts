// Rules of a Service's clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, apart because the allocator runs them first: their errors
// come alone. Called by `service` and by the allocator.
// Source: kubernetes pkg/apis/core/validation ValidateServiceClusterIPsRelatedFields, validateUpgradeDowngradeClusterIPs, …IPFamilies.

import { familyOf } from '../../api/address.ts';
import type { Fields } from './fields.ts';
import { text, texts } from './fields.ts';
import { checkIP } from './names.ts';
import type { Problems } from './problems.ts';

/** `families` of the cluster, first the primary one; undefined = not checked. */
export interface ServiceIPOptions { readonly families?: readonly string[] }

const families = ['IPv4', 'IPv6'];
const policies = ['SingleStack', 'PreferDualStack', 'RequireDualStack'];

/** Checks the four fields of a Service's spec by themselves and against each other. */
export function validateServiceIPs(spec: Fields, options: ServiceIPOptions, problems: Problems): void {
  if (spec['type'] === 'ExternalName') return;
  const countBefore = problems.count;
  const ips = texts(spec, 'clusterIPs');
  const ip = text(spec, 'clusterIP');
  let isBroken = false;
  if (ip !== '' && ips.length === 0) problems.required('spec.clusterIPs');
  if (ip === '' && ips.length > 0) { isBroken = true; problems.invalid('spec.clusterIPs', ips, 'must be empty when `clusterIP` is not specified'); }
  if (ip !== '' && ips.length > 0 && ips[0] !== ip) { isBroken = true; problems.invalid('spec.clusterIPs', ips, 'first value must match `clusterIP`'); }
  validateFamilies(spec, options, problems);
  ips.forEach((entry, index) => {
    if (index === 0 && entry === 'None') {
      if (ips.length > 1) { isBroken = true; problems.invalid('spec.clusterIPs', ips, "'None' must be the first and only value"); }
      return;
    }
    const complaints = checkIP(entry);
    if (complaints.length > 0) isBroken = true;
    problems.invalidEach(`spec.clusterIPs[${index}]`, entry, complaints);
  });
  if (ips.length > 2) problems.invalid('spec.clusterIPs', ips, 'may only hold up to 2 values');
  if (isBroken) return;
  if (ips.length > 1 && familyOf(ips[0] ?? '') === familyOf(ips[1] ?? '')) problems.invalid('spec.clusterIPs', ips, 'may specify no more than one IP for each IP family');
  if (ip === 'None' || problems.count > countBefore) return;
  const wanted = texts(spec, 'ipFamilies');
  ips.forEach((entry, index) => {
    const family = wanted[index];
    if (family !== undefined && familyOf(entry) !== family) problems.invalid(`spec.clusterIPs[${index}]`, entry, `expected an ${family} value as indicated by \`ipFamilies[${index}]\``);
  });
}

function validateFamilies(spec: Fields, options: ServiceIPOptions, problems: Problems): void {
  const seen = new Set<string>();
  texts(spec, 'ipFamilies').forEach((family, index) => {
    if (!families.includes(family)) problems.notSupported(`spec.ipFamilies[${index}]`, family, families);
    if (seen.has(family)) problems.duplicate(`spec.ipFamilies[${index}]`, family);
    seen.add(family);
  });
  const policy = text(spec, 'ipFamilyPolicy');
  if (policy !== '' && !policies.includes(policy)) problems.notSupported('spec.ipFamilyPolicy', policy, policies);
  if (options.families === undefined) return;
  const isHeadlessAlone = spec['clusterIP'] === 'None' && Object.keys(spec['selector'] ?? {}).length === 0;
  if (policy === 'RequireDualStack' && options.families.length < 2 && !isHeadlessAlone) problems.invalid('spec.ipFamilyPolicy', policy, 'this cluster is not configured for dual-stack services');
  texts(spec, 'ipFamilies').forEach((family, index) => {
    if (families.includes(family) && options.families?.includes(family) === false && !isHeadlessAlone && !hasWrongFamily(spec, index)) problems.invalid(`spec.ipFamilies[${index}]`, family, 'not configured on this cluster');
  });
}

/** A clusterIP of another family than asked for is the more helpful complaint. */
function hasWrongFamily(spec: Fields, index: number): boolean {
  const ip = texts(spec, 'clusterIPs')[index];
  return ip !== undefined && ip !== 'None' && checkIP(ip).length === 0 && familyOf(ip) !== texts(spec, 'ipFamilies')[index];
}

/** The primary address and family never change; a secondary one may come and go with the policy. */
export function validateServiceIPsUpdate(spec: Fields, before: Fields, problems: Problems): void {
  if (spec['type'] === 'ExternalName' || before['type'] === 'ExternalName') return;
  const policy = text(spec, 'ipFamilyPolicy');
  const check = (field: 'clusterIPs' | 'ipFamilies', primaryWord: string, secondaryWord: string): void => {
    const now = texts(spec, field);
    const then = texts(before, field);
    if (then.length === 0) return;
    if (now.length === 0) { problems.invalid(`spec.${field}[0]`, now, `${primaryWord} can not be unset`); return; }
    if (now[0] !== then[0]) problems.invalid(`spec.${field}[0]`, now, 'may not change once set');
    if (then.length === 2 && now.length === 2 && now[1] !== then[1]) problems.invalid(`spec.${field}[1]`, now, 'may not change once set');
    if (then.length === 2 && now.length === 1 && policy !== 'SingleStack') problems.invalid('spec.ipFamilyPolicy', policy, `must be set to 'SingleStack' when releasing the secondary ${secondaryWord}`);
  };
  check('clusterIPs', 'primary clusterIP', 'clusterIP');
  check('ipFamilies', 'primary ipFamily', 'ipFamily');
}
