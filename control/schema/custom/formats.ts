// String formats of custom resource schemas. Unknown formats hold for every value, as in Kubernetes. Called by `values`. Pure.
// Source: kube-openapi pkg/validation/strfmt, apiextensions-apiserver supported formats.

import { parseCIDR, parseIP } from '../../../api/address.ts';
import { canonicalTime, isBase64 } from '../body/scalars.ts';

const uuid = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;

const checks: Readonly<Record<string, (text: string) => boolean>> = {
  'date-time': (text) => canonicalTime(text, 0) !== undefined,
  datetime: (text) => canonicalTime(text, 0) !== undefined,
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text) && canonicalTime(`${text}T00:00:00Z`, 0) !== undefined,
  duration: (text) => /^[+-]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+$/.test(text) || text === '0',
  ipv4: (text) => parseIP(text)?.family === 'IPv4',
  ipv6: (text) => parseIP(text)?.family === 'IPv6',
  cidr: (text) => parseCIDR(text) !== undefined,
  byte: isBase64,
  hostname: (text) => text.length <= 255 && /^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$/.test(text),
  email: (text) => /^[^\s@<>]+@[^\s@<>]+$/.test(text),
  uri: (text) => URL.canParse(text),
  mac: (text) => /^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$/.test(text),
  uuid: (text) => uuid.test(text),
  uuid3: (text) => uuid.test(text) && text.replaceAll('-', '')[12] === '3',
  uuid4: (text) => uuid.test(text) && text.replaceAll('-', '')[12] === '4',
  uuid5: (text) => uuid.test(text) && text.replaceAll('-', '')[12] === '5',
  hexcolor: (text) => /^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$/.test(text),
};

/** True when the text is of the format, or the format is not one that is checked. */
export function hasFormat(text: string, format: string): boolean { return checks[format]?.(text) ?? true; }
