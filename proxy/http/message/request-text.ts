// Writes the head that goes upstream: the client's own lines in their order, without what belongs to the hop, plus what
// the proxy says about the connection (rules 97–102, P-6, P-7). Strip first, then add. One string, built by slices.

import type { Exchange } from '../exchange.ts';
import { bodyUnknown } from './framing.ts';
import type { RequestHead } from './request-head.ts';

/** The whole head of the request for the upstream, with the empty line. Costs a few string slices. */
export function buildRequest(exchange: Exchange): string {
  const { head, target, engine, peer } = exchange;
  let text: string;
  if (head.isVersionExact && !target.isAbsolute && !exchange.isTargetChanged && exchange.upstreamHost === undefined) text = keptLines(head, 0);
  else {
    const host = exchange.upstreamHost ?? (target.isAbsolute ? target.hostText : undefined);
    const lines = keptLines(head, head.lineEnd + 2);
    text = `${head.method} ${target.path}${target.query} HTTP/1.1\r\n${host === undefined ? lines : `Host: ${host}\r\n${withoutHost(lines)}`}`;
  }
  if (head.hostStart < 0 && !target.isAbsolute && exchange.upstreamHost === undefined) text += 'Host: \r\n';
  exchange.requestID = head.requestIDStart < 0 ? engine.nextRequestID() : head.text.slice(head.requestIDStart, head.requestIDEnd);
  text += head.isPeerTrusted ? trustedFields(exchange) : `${peer.forwardedFields}X-Forwarded-Host: ${target.hostText}\r\n`;
  if (peer.forwardedElement !== '') text += forwardedField(exchange);
  if (head.requestIDStart < 0) text += `X-Request-ID: ${exchange.requestID}\r\n`;
  if (head.expectsContinue && exchange.bodyKind !== 0 && !exchange.isRequestWhole) text += 'Expect: 100-continue\r\n';
  if (exchange.bodyKind === bodyUnknown) text += 'Transfer-Encoding: chunked\r\n';
  if (head.upgradeStart >= 0) text += upgradeFields(exchange);
  else if (head.hasTrailersOption) text += 'TE: trailers\r\nConnection: TE\r\n';
  return `${text}\r\n`;
}

/** The head's text from `from` on without the cut spans. */
function keptLines(head: RequestHead, from: number): string {
  const { text, cuts, cutCount } = head;
  let result = '';
  let position = from;
  for (let index = 0; index < cutCount; index += 2) {
    const start = cuts[index]!;
    if (start > position) result += text.slice(position, start);
    position = cuts[index + 1]!;
  }
  return position === 0 ? text : result + text.slice(position);
}

function withoutHost(lines: string): string { return lines.replace(/(^|\n)host:[^\r]*\r\n/i, '$1'); }

/** What a trusted proxy in front said, with its own address appended. */
function trustedFields(exchange: Exchange): string {
  const { head, target, peer } = exchange;
  const { text } = head;
  const chain = head.forwardedForStart < 0 ? '' : text.slice(head.forwardedForStart, head.forwardedForEnd);
  const proto = head.forwardedProtoStart < 0 ? peer.scheme : text.slice(head.forwardedProtoStart, head.forwardedProtoEnd);
  const host = head.forwardedHostStart < 0 ? target.hostText : text.slice(head.forwardedHostStart, head.forwardedHostEnd);
  const port = head.forwardedPortStart < 0 ? String(exchange.down.localPort) : text.slice(head.forwardedPortStart, head.forwardedPortEnd);
  const client = chain === '' ? peer.ip : chain.split(',')[0]!.trim();
  return `X-Forwarded-For: ${chain === '' ? peer.ip : `${chain}, ${peer.ip}`}\r\nX-Forwarded-Proto: ${proto}\r\nX-Forwarded-Port: ${port}\r\nX-Real-IP: ${client}\r\nVia: ${viaValue}\r\nX-Forwarded-Host: ${host}\r\n`;
}

/** RFC 7239; behind a trusted proxy the element is one more line of the same list. */
function forwardedField({ peer, target }: Exchange): string {
  return `Forwarded: ${peer.forwardedElement}${target.hostText === '' ? '' : `;host="${target.hostText}"`}\r\n`;
}

export const viaValue = '1.1 netloom';

function upgradeFields(exchange: Exchange): string {
  const { head } = exchange;
  if (head.upgradeEnd < 0 || !head.hasUpgradeOption || exchange.bodyKind !== 0) return '';
  const protocol = head.text.slice(head.upgradeStart, head.upgradeEnd);
  if (protocol.toLowerCase() !== 'websocket') return '';
  exchange.isUpgrade = true;
  return `Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`;
}
