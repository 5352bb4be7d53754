// Checks of names, labels, ports and addresses: each returns the API server's complaints about a text, none when it is right.
// Called by all validation files. Pure.
// Source: apimachinery pkg/util/validation/validation.go, pkg/api/validation/generic.go, pkg/apis/core/validation.

import { isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR, parseIP, parseIPv4 } from '../../api/address.ts';

const labelForm = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const subdomainForm = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const labelText = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const subdomainText = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const label1035Text = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const wildcardText = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const qualifiedText = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const labelValueText = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/** A check returns complaints; a name check also takes whether the text is only a prefix (generateName). */
export type NameCheck = (text: string, isPrefix?: boolean) => string[];

function checkForm(text: string, form: RegExp, lengthMax: number, complaint: string): string[] {
  const out: string[] = [];
  if (text.length > lengthMax) out.push(`must be no more than ${lengthMax} characters`);
  if (!form.test(text)) out.push(complaint);
  return out;
}

/** A generated name ends in letters, so a prefix may end with a hyphen. */
function unmasked(text: string, isPrefix: boolean): string { return isPrefix && text.length > 1 && text.endsWith('-') ? `${text.slice(0, -2)}a` : text; }

export const checkDnsLabel: NameCheck = (text, isPrefix = false) => checkForm(unmasked(text, isPrefix), labelForm, 63, labelText);
export const checkDns1035Label: NameCheck = (text, isPrefix = false) => checkForm(unmasked(text, isPrefix), /^[a-z]([-a-z0-9]*[a-z0-9])?$/, 63, label1035Text);
export const checkSubdomain: NameCheck = (text, isPrefix = false) => checkForm(unmasked(text, isPrefix), subdomainForm, 253, subdomainText);

/** RBAC names: anything that can stand in one URL path segment. */
export const checkPathSegment: NameCheck = (text, isPrefix = false) => {
  if (!isPrefix && (text === '.' || text === '..')) return [`may not be '${text}'`];
  return ['/', '%'].filter((part) => text.includes(part)).map((part) => `may not contain '${part}'`);
};

/** `*.example.com`. */
export function checkWildcard(text: string): string[] {
  return checkForm(text, /^\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/, 253, wildcardText);
}

/** `[prefix/]name`, as label keys have it. */
export function checkQualifiedName(text: string): string[] {
  const parts = text.split('/');
  if (parts.length > 2) return [`a qualified name ${qualifiedText} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`];
  const out: string[] = [];
  const name = parts.at(-1) ?? '';
  if (parts.length === 2) {
    if (parts[0] === '') out.push('prefix part must be non-empty');
    else out.push(...checkSubdomain(parts[0] ?? '').map((complaint) => `prefix part ${complaint}`));
  }
  if (name === '') out.push('name part must be non-empty');
  else if (name.length > 63) out.push('name part must be no more than 63 characters');
  if (!/^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/.test(name)) out.push(`name part ${qualifiedText}`);
  return out;
}

export function checkLabelValue(text: string): string[] {
  const out: string[] = [];
  if (text.length > 63) out.push('must be no more than 63 characters');
  if (!/^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/.test(text)) out.push(labelValueText);
  return out;
}

export function checkPortNumber(port: number): string[] { return port >= 1 && port <= 65535 ? [] : ['must be between 1 and 65535, inclusive']; }

/** IANA service names: container port names and named target ports. */
export function checkPortName(text: string): string[] {
  const out: string[] = [];
  if (text.length > 15) out.push('must be no more than 15 characters');
  if (!/^[-a-z0-9]+$/.test(text)) out.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  if (!/[a-z]/.test(text)) out.push('must contain at least one letter (a-z)');
  if (text.includes('--')) out.push('must not contain consecutive hyphens');
  if (text.startsWith('-') || text.endsWith('-')) out.push('must not begin or end with a hyphen');
  return out;
}

/** Strict address text: no leading zeros, no IPv4 inside IPv6 (other parsers read those differently). */
export function checkIP(text: string): string[] {
  if (parseIPv4(text) !== undefined) return [];
  return isPlainIPv6(parseIP(text)?.bytes) ? [] : ['must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'];
}

/** False for IPv4-mapped addresses in any spelling: `::ffff:7f00:1` would be loopback. */
function isPlainIPv6(bytes: Uint8Array | undefined): boolean {
  if (bytes?.length !== 16) return false;
  return !(bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0));
}

export function checkCidr(text: string): string[] { return parseCIDR(text) === undefined ? ['must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'] : []; }

/** Addresses that must not be endpoints or external IPs. The text must be an address. */
export function checkNonSpecialIP(text: string): string[] {
  const ipv4 = parseIPv4(text);
  if (ipv4 !== undefined && ipv4 !== 0 && ipv4 >>> 24 !== 127 && ipv4 >>> 16 !== 0xa9fe && ipv4 >>> 28 !== 0xe) return [];
  const ip = text.toLowerCase();
  if (isUnspecified(ip)) return [`may not be unspecified (${text})`];
  if (isLoopback(ip)) return ['may not be in the loopback range (127.0.0.0/8, ::1/128)'];
  if (isLinkLocal(ip)) return ['may not be in the link-local range (169.254.0.0/16, fe80::/10)'];
  if (/^224\.0\.0\./.test(ip) || /^ff02:/.test(ip)) return ['may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)'];
  if (isMulticast(ip)) return ['may not be in the multicast range (224.0.0.0/4, ff00::/8)'];
  return [];
}

/** Keys of ConfigMaps and Secrets. `__proto__` is refused though Kubernetes takes it: it must not become a property name. */
export function checkConfigKey(text: string): string[] {
  const out: string[] = [];
  if (text.length > 253) out.push('must be no more than 253 characters');
  if (!/^[-._a-zA-Z0-9]+$/.test(text) || text === '__proto__') out.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
  if (text === '.' || text === '..') out.push(`must not be '${text}'`);
  else if (text.startsWith('..')) out.push("must not start with '..'");
  return out;
}

/** `acme.io/foo`: a domain and a path. */
export function checkDomainPath(text: string): string[] {
  const slash = text.indexOf('/');
  if (slash <= 0 || slash === text.length - 1) return ['must be a domain-prefixed path (such as "acme.io/foo")'];
  const out = checkSubdomain(text.slice(0, slash));
  if (!/^[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/.test(text.slice(slash + 1))) out.push(`Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')`);
  return out;
}

/** Environment variable names, relaxed as since 1.32: any printable ASCII without `=`. */
export function checkEnvName(text: string): string[] {
  if (text !== '' && /^[ -<>-~]+$/.test(text)) return [];
  return ["a valid environment variable name must consist only of printable ASCII characters other than '='"];
}
