// Who may pass: client addresses, client certificates, Basic credentials, an external auth service. Every doubt closes
// (I-11). Called by run.ts in the order in which ingress-nginx's phases run.

import type { Cidr } from '../../../api/address.ts';
import type { Exchange } from '../exchange.ts';
import { fieldOf, isFieldValue, withFields, withoutField } from '../message/field-text.ts';
import type { RoutePolicy } from './compile.ts';
import { buildRequest } from '../message/request-text.ts';
import { subrequest, type SubAnswer } from './subrequest.ts';

/** The address of the client: the peer, or behind trusted proxies the last address in X-Forwarded-For that is not theirs. */
export function clientIP(exchange: Exchange): string {
  const { head, peer, engine } = exchange;
  if (!peer.isTrusted || head.forwardedForStart < 0) return peer.ip;
  const chain = head.text.slice(head.forwardedForStart, head.forwardedForEnd).split(',').map((item) => item.trim());
  for (let index = chain.length - 1; index >= 0; index--) if (!engine.isTrusted(chain[index]!)) return chain[index]!;
  return chain[0] ?? peer.ip;
}

function isIn(ip: string, cidrs: readonly Cidr[]): boolean { return cidrs.some((cidr) => cidr.contains(ip)); }

/** Address rules. True = allowed. */
export function isAddressAllowed(exchange: Exchange, policy: RoutePolicy): boolean {
  const ip = clientIP(exchange);
  if (policy.deny !== undefined && isIn(ip, policy.deny)) return false;
  return policy.allow === undefined || isIn(ip, policy.allow);
}

/** Client certificates (auth-tls-*). True = go on; adds what the backend may know. */
export function checkClientCertificate(exchange: Exchange, policy: RoutePolicy): boolean {
  const auth = policy.spec.clientAuth!;
  const { peer, engine, target } = exchange;
  if (peer.scheme !== 'https') { engine.answers.send(exchange, 403, 'client-certificate-required', 'this host is served with client certificates only: use https'); return false; }
  if (peer.serverName !== target.host) { engine.answers.send(exchange, 421, 'misdirected', 'the TLS name and the Host must agree'); return false; }
  const certificate = peer.clientCertificate;
  const isGiven = certificate !== undefined && certificate.pem !== '';
  const isGood = isGiven && (certificate.isVerified || auth.mode === 'optional_no_ca');
  const isRefused = auth.mode === 'on' ? !isGood : isGiven && !isGood;
  if (isRefused || (auth.commonName !== '' && isGiven && !isNameMatch(certificate.subject, auth.commonName))) {
    if (auth.errorPage !== '') engine.answers.redirect(exchange, 302, auth.errorPage);
    else engine.answers.send(exchange, 400, 'client-certificate-refused', isGiven ? 'the client certificate was not accepted' : 'a client certificate is required');
    return false;
  }
  exchange.requestFields += `ssl-client-verify: ${isGiven ? (certificate.isVerified ? 'SUCCESS' : 'FAILED') : 'NONE'}\r\n`;
  exchange.removedFields = [...exchange.removedFields, 'ssl-client-verify', 'ssl-client-subject-dn', 'ssl-client-issuer-dn', 'ssl-client-cert'];
  if (!isGiven) return true;
  for (const [name, value] of [['ssl-client-subject-dn', certificate.subject], ['ssl-client-issuer-dn', certificate.issuer]] as const) if (isFieldValue(value)) exchange.requestFields += `${name}: ${value}\r\n`;
  if (auth.passesCertificate) exchange.requestFields += `ssl-client-cert: ${encodeURIComponent(certificate.pem)}\r\n`;
  return true;
}

function isNameMatch(subject: string, want: string): boolean {
  const name = /(?:^|,)CN=([^,]*)/.exec(subject)?.[1] ?? '';
  return want.startsWith('CN=') ? name === want.slice(3) : name === want;
}

/** Basic credentials. True = go on. */
export function checkBasic(exchange: Exchange, policy: RoutePolicy): boolean {
  const { realm } = policy.spec.basicAuth!;
  if (policy.passwords!.check(fieldOf(exchange.head.text, 'authorization')) !== undefined) return true;
  exchange.engine.answers.send(exchange, 401, 'credentials-required', 'credentials are required', `WWW-Authenticate: Basic realm="${realm}"\r\n`);
  return false;
}

/** Fields of the client that an auth service gets to see. */
const copiedToAuth = /^(authorization|cookie|user-agent|accept|accept-language|origin|referer|content-type|x-[-a-z0-9]+|sec-[-a-z0-9]+|traceparent|tracestate)$/;

/** Asks the auth service; goes on with `onAllowed` or answers. */
export function askAuthService(exchange: Exchange, policy: RoutePolicy, onAllowed: () => void): void {
  const auth = policy.spec.externalAuth!;
  const { engine, peer, target, head } = exchange;
  const backend = policy.authBackend;
  if (backend === undefined) { engine.answers.send(exchange, 503, 'auth-unavailable', 'the auth service is not there'); return; }
  const url = `${peer.scheme}://${target.hostText}${target.path}${target.query}`;
  let text = `${auth.method} ${auth.path} HTTP/1.1\r\nHost: ${auth.host}\r\n`;
  for (const line of head.text.split('\r\n').slice(1)) {
    const name = line.slice(0, Math.max(0, line.indexOf(':'))).toLowerCase();
    if (copiedToAuth.test(name) && !/^x-(original-|auth-request-redirect|forwarded|real-ip|sent-from)/.test(name)) text += `${line}\r\n`;
  }
  text += `X-Original-URL: ${url}\r\nX-Original-Method: ${head.method}\r\nX-Auth-Request-Redirect: ${target.path}${target.query}\r\nX-Sent-From: netloom-ingress\r\n\r\n`;
  // The sub-request strips X-Original-URL of clients like any request; here it is ours, so it is added behind the parser.
  subrequest(exchange, backend, text, undefined, exchange.route?.timeouts, (answer) => {
    if (!exchange.isActive) return;
    if (answer.status >= 200 && answer.status < 300) {
      takeAuthFields(exchange, auth.responseHeaders, answer);
      onAllowed();
    } else refuse(exchange, policy, answer, url);
  });
}

function takeAuthFields(exchange: Exchange, names: readonly string[], answer: SubAnswer): void {
  for (const name of names) {
    exchange.removedFields = [...exchange.removedFields, name];
    const value = fieldOf(answer.text, name.toLowerCase());
    if (value !== undefined && isFieldValue(value)) exchange.requestFields += `${name}: ${value}\r\n`;
  }
  for (const line of answer.text.split('\r\n')) if (/^set-cookie:/i.test(line)) exchange.responseFields += `${line}\r\n`;
}

function refuse(exchange: Exchange, policy: RoutePolicy, answer: SubAnswer, url: string): void {
  const { engine } = exchange;
  const auth = policy.spec.externalAuth!;
  if (answer.status === 401 && auth.signin !== '') {
    const separator = auth.signin.includes('?') ? '&' : '?';
    const hasTarget = new RegExp(`[?&]${auth.signinRedirectParam}=`).test(auth.signin);
    engine.answers.redirect(exchange, 302, hasTarget ? auth.signin : `${auth.signin}${separator}${auth.signinRedirectParam}=${encodeURIComponent(url)}`);
    return;
  }
  const challenge = fieldOf(answer.text, 'www-authenticate');
  if (answer.status === 401 || answer.status === 403) engine.answers.send(exchange, answer.status, 'auth-refused', 'the auth service refused', challenge !== undefined && isFieldValue(challenge) ? `WWW-Authenticate: ${challenge}\r\n` : '');
  else engine.answers.send(exchange, 500, 'auth-failed', 'the auth service did not decide');
}

/** The request text with the fields that policies add or take away. */
export function finishRequestText(exchange: Exchange): string {
  let text = buildRequest(exchange);
  for (const name of exchange.removedFields) text = withoutField(text, name);
  return exchange.requestFields === '' ? text : withFields(text, exchange.requestFields);
}
