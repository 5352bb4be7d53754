// What a request asks for: host and path out of the start line and Host, in the one form that is both matched and sent
// upstream (I-3, rule 85). Forms: origin-form, absolute-form (its authority replaces Host), `*` with OPTIONS;
// CONNECT is refused. A path that different readers could take for different paths is refused with 400.

import { plainHostBytes } from './fields.ts';
import type { RequestHead } from './request-head.ts';

/** One per connection, used again for each request. */
export class Target {
  /** Lower case, without port; brackets kept for IPv6; '' when a 1.0 request has none. */
  host = '';
  /** As the client sent it (or the authority of an absolute-form target). */
  hostText = '';
  /** What rules match: the target up to '?'. '*' for OPTIONS *. */
  path = '';
  /** '?' and what follows, or ''. */
  query = '';
  /** Not origin-form: the request line must be written anew and Host replaced. */
  isAbsolute = false;
}

/** Fills `target`. Returns 0 or the status to refuse with. */
export function readTarget(head: RequestHead, target: Target, lastHostText: string): number {
  const { text } = head;
  const start = head.methodEnd + 1;
  target.isAbsolute = false;
  if (head.methodEnd === 7 && text.startsWith('CONNECT')) return 405;
  if (text.charCodeAt(start) === 47) {
    const query = text.indexOf('?', start);
    if (query >= 0 && query < head.targetEnd) {
      target.path = text.slice(start, query);
      target.query = text.slice(query, head.targetEnd);
    } else {
      target.path = text.slice(start, head.targetEnd);
      target.query = '';
    }
    if (head.isPathDoubtful && !isPlainPath(target.path)) return 400;
    if (head.isPathDoubtful && target.query.includes('#')) return 400;
  } else {
    const status = readOtherForm(head, target);
    if (status !== 0) return status;
    if (target.isAbsolute) return 0;
  }
  const hostText = head.hostStart < 0 ? '' : text.slice(head.hostStart, head.hostEnd);
  if (hostText === lastHostText && lastHostText !== '') return 0;
  if (hostText === '' && head.minor === 1) return 400;
  return takeHost(target, hostText) ? 0 : 400;
}

function readOtherForm(head: RequestHead, target: Target): number {
  const method = head.method;
  const raw = head.target;
  if (raw === '*') {
    target.path = '*';
    target.query = '';
    return method === 'OPTIONS' ? 0 : 400;
  }
  const match = /^https?:\/\/([^/?#]*)(\/[^?#]*)?(\?[^#]*)?$/i.exec(raw);
  if (match === null || match[1]!.includes('@') || match[1] === '') return 400;
  if (!takeHost(target, match[1]!)) return 400;
  target.isAbsolute = true;
  target.path = match[2] ?? '/';
  target.query = match[3] ?? '';
  if (match[2] === undefined && match[3] === undefined && method === 'OPTIONS') target.path = '*';
  return isPlainPath(target.path) || target.path === '*' ? 0 : 400;
}

/** Takes a Host value apart; false when it is not host [":" port]. */
export function takeHost(target: Target, hostText: string): boolean {
  target.hostText = hostText;
  const length = hostText.length;
  let index = 0;
  while (index < length && plainHostBytes[hostText.charCodeAt(index)] === 1) index++;
  if (index === length) { target.host = trimDot(hostText); return true; }
  if (hostText.charCodeAt(0) === 91) return takeIPv6(target, hostText);
  const match = /^([A-Za-z0-9._~!$&'()*+,;=%-]*)(?::(\d{0,5}))?$/.exec(hostText);
  if (match === null || (match[1] === '' && match[2] !== undefined) || Number(match[2] ?? '0') > 65_535) return false;
  if (/%(?![0-9A-Fa-f]{2})/.test(match[1]!)) return false;
  target.host = trimDot(match[1]!.toLowerCase());
  return true;
}

function takeIPv6(target: Target, hostText: string): boolean {
  const match = /^(\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{0,5}))?$/.exec(hostText);
  if (match === null || !match[1]!.includes(':') || Number(match[2] ?? '0') > 65_535) return false;
  target.host = match[1]!.toLowerCase();
  return true;
}

/** `shop.example.` names the same host as `shop.example`. */
function trimDot(host: string): string { return host.length > 1 && host.endsWith('.') ? host.slice(0, -1) : host; }

/**
 * Whether everyone reads this path alike: no dot segments (raw, encoded, behind an encoded slash, with parameters),
 * no empty inner segment, no backslash, no fragment, no NUL, no broken percent-encoding.
 */
export function isPlainPath(path: string): boolean {
  if (path.includes('#') || path.includes('\\') || path.includes('//')) return false;
  let plain = path;
  if (path.includes('%')) {
    if (/%(?![0-9A-Fa-f]{2})|%00|%5c|%0[ad]/i.test(path)) return false;
    plain = path.replace(/%2e/gi, '.').replace(/%2f/gi, '/');
    if (/%25(2e|2f|5c)/i.test(plain) && /\.\.|%2e/i.test(plain)) return false;
  }
  return !/(^|\/)\.\.?(;[^/]*)?(\/|$)/.test(plain);
}
