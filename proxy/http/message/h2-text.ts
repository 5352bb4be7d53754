// Between HTTP/2 header lists and the text of an HTTP/1.1 head, the language of the engine. What comes in from HTTP/2 is
// checked before it becomes text, so that no value can turn into another line (rule 115, h2→h1 downgrade smuggling);
// then the strict parser reads it like any other head.

import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { isToken } from './fields.ts';

// eslint-disable-next-line no-control-regex
const unsafe = /[\0\r\n]|[^\0-\xff]/;
const connectionFields = /^(connection|keep-alive|proxy-connection|transfer-encoding|upgrade|http2-settings)$/;

/**
 * The HTTP/1.1 head of an HTTP/2 request, or undefined when it must be refused: connection fields, upper case, bad
 * pseudo-header fields, :authority against Host. Cookie crumbs are joined (RFC 9113 §8.2.3). Extended CONNECT becomes an Upgrade.
 */
export function requestToText(raw: readonly string[]): string | undefined {
  let method: string | undefined, path: string | undefined, authority: string | undefined, protocol: string | undefined, host: string | undefined;
  let cookie = '';
  let lines = '';
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!;
    const value = raw[index + 1]!;
    if (unsafe.test(value)) return undefined;
    if (name.startsWith(':')) {
      if (lines !== '' && name !== ':protocol') return undefined;
      if (name === ':method') method = value;
      else if (name === ':path') path = value;
      else if (name === ':authority') authority = value;
      else if (name === ':protocol') protocol = value;
      else if (name !== ':scheme') return undefined;
      continue;
    }
    if (!isToken(name) || name !== name.toLowerCase() || connectionFields.test(name)) return undefined;
    if (name === 'te' && value !== 'trailers') return undefined;
    if (name === 'host') { if (host !== undefined) return undefined; host = value; }
    else if (name === 'cookie') cookie = cookie === '' ? value : `${cookie}; ${value}`;
    else if (name === 'te') lines += 'TE: trailers\r\nConnection: TE\r\n';
    else lines += `${name}: ${value}\r\n`;
  }
  const target = authority ?? host;
  if (method === undefined || target === undefined || (host !== undefined && authority !== undefined && host.toLowerCase() !== authority.toLowerCase())) return undefined;
  if (!isToken(method) || /\s/.test(target)) return undefined;
  if (method === 'CONNECT') {
    if (protocol !== 'websocket' || path === undefined || /\s/.test(path)) return undefined;
    lines += 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
    method = 'GET';
  } else if (path === undefined || protocol !== undefined || /\s/.test(path)) return undefined;
  return `${method} ${path} HTTP/1.1\r\nHost: ${target}\r\n${lines}${cookie === '' ? '' : `cookie: ${cookie}\r\n`}\r\n`;
}

/** The header object of an answer's text: status line and field lines. */
export function responseToHeaders(text: string): OutgoingHttpHeaders {
  const headers = linesToHeaders(text, text.indexOf('\r\n') + 2);
  headers[':status'] = Number(text.slice(9, 12));
  return headers;
}

/** The header object of a request's text for an HTTP/2 endpoint; hop-by-hop fields are left out, Host becomes :authority. */
export function requestToHeaders(text: string, scheme: string): OutgoingHttpHeaders {
  const firstSpace = text.indexOf(' ');
  const secondSpace = text.indexOf(' ', firstSpace + 1);
  const headers = linesToHeaders(text, text.indexOf('\r\n') + 2);
  const { host } = headers;
  delete headers['host'];
  delete headers['expect'];
  return { ':method': text.slice(0, firstSpace), ':path': text.slice(firstSpace + 1, secondSpace), ':authority': String(host ?? ''), ':scheme': scheme, ...headers };
}

/** Field lines from `start` as a header object; repeated fields become arrays. */
export function linesToHeaders(text: string, start: number): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = Object.create(null) as OutgoingHttpHeaders;
  let position = start;
  while (position < text.length) {
    let end = text.indexOf('\r\n', position);
    if (end < 0) end = text.length;
    const colon = text.indexOf(':', position);
    if (end === position || colon < 0 || colon > end) break;
    const name = text.slice(position, colon).toLowerCase();
    const value = text.slice(colon + 1, end).trim();
    if (!connectionFields.test(name)) {
      const present = headers[name];
      headers[name] = present === undefined ? value : Array.isArray(present) ? [...present, value] : [String(present), value];
    }
    position = end + 2;
  }
  return headers;
}

/** Field lines of a raw header list without pseudo-header fields; values with CR, LF or NUL are left out. */
export function headersToLines(raw: readonly string[]): string {
  let lines = '';
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!;
    if (name.startsWith(':') || connectionFields.test(name) || unsafe.test(raw[index + 1]!)) continue;
    lines += `${name}: ${raw[index + 1]!}\r\n`;
  }
  return lines;
}

export function statusOf(headers: IncomingHttpHeaders & { ':status'?: number }): number { return headers[':status'] ?? 0; }
