// Runs the policies of a route before a request is forwarded, in the order of ingress-nginx's phases: redirects, CORS
// preflight, limits, address rules, credentials, external auth, body limit, rewriting, choice of backend. Called by
// exchange.ts only for routes that have any.

import type { Backend, Endpoint } from '../endpoints.ts';
import type { Exchange } from '../exchange.ts';
import { cookieOf, fieldOf, isFieldValue } from '../message/field-text.ts';
import { askAuthService, checkBasic, checkClientCertificate, clientIP, isAddressAllowed } from './auth.ts';
import type { Canary, Cors, RoutePolicy } from './compile.ts';
import { subrequest } from './subrequest.ts';
import { isPlainPath } from '../message/target.ts';

/** Runs the steps in order. True = forward now; false = answered, or forward() will be called later. */
export function runPolicy(exchange: Exchange, policy: RoutePolicy): boolean {
  const { spec } = policy;
  if (spec.clientAuth !== undefined && !checkClientCertificate(exchange, policy)) return false;
  if (!runRedirects(exchange, policy)) return false;
  if (policy.cors !== undefined && !runCors(exchange, policy.cors)) return false;
  if (policy.limits !== undefined && !runLimits(exchange, policy)) return false;
  const isAllowed = isAddressAllowed(exchange, policy);
  const isOpen = spec.satisfiesAny === true && isAllowed && (policy.allow !== undefined || policy.deny !== undefined);
  if (!isAllowed && !(spec.satisfiesAny === true && spec.basicAuth !== undefined)) {
    exchange.engine.answers.send(exchange, 403, 'address-refused', 'this address may not use this host');
    return false;
  }
  if (!isOpen && spec.basicAuth !== undefined && !checkBasic(exchange, policy)) return false;
  if (!isOpen && spec.externalAuth !== undefined) {
    askAuthService(exchange, policy, () => { if (prepare(exchange, policy)) exchange.forward(); });
    return false;
  }
  return prepare(exchange, policy);
}

function runRedirects(exchange: Exchange, policy: RoutePolicy): boolean {
  const { spec } = policy;
  const { target, engine } = exchange;
  const scheme = forwardedScheme(exchange);
  if (spec.sslRedirectCode !== undefined && scheme === 'http') {
    // The host was matched by a rule, so it is not the client's invention (I-10); wildcard hosts passed the Host grammar.
    engine.answers.redirect(exchange, spec.sslRedirectCode, `https://${target.host}${target.path}${target.query}`);
    return false;
  }
  if (spec.redirect !== undefined) {
    const { code, url, host } = spec.redirect;
    engine.answers.redirect(exchange, code, url ?? `${scheme}://${host!}${portOf(target.hostText)}${target.path}${target.query}`);
    return false;
  }
  if (spec.appRoot !== undefined && target.path === '/') {
    engine.answers.redirect(exchange, 302, `${scheme}://${target.hostText}${spec.appRoot}`);
    return false;
  }
  return true;
}

function portOf(hostText: string): string { return /:\d+$/.exec(hostText)?.[0] ?? ''; }

function forwardedScheme(exchange: Exchange): string {
  const { head, peer } = exchange;
  return head.isPeerTrusted && head.forwardedProtoStart >= 0 ? head.text.slice(head.forwardedProtoStart, head.forwardedProtoEnd).toLowerCase() : peer.scheme;
}

/** Adds the CORS fields; answers a preflight itself. False = answered. */
function runCors(exchange: Exchange, cors: Cors): boolean {
  const { text } = exchange.head;
  const origin = fieldOf(text, 'origin');
  const { spec } = cors;
  const isKnown = origin !== undefined && isFieldValue(origin) && isOriginAllowed(origin.toLowerCase(), cors);
  let fields = '';
  if (isKnown) {
    const isEchoed = !cors.isAny || spec.hasCredentials;
    fields = `Access-Control-Allow-Origin: ${isEchoed ? origin : '*'}\r\n${isEchoed ? 'Vary: Origin\r\n' : ''}`;
    if (spec.hasCredentials) fields += 'Access-Control-Allow-Credentials: true\r\n';
    if (spec.exposeHeaders !== '') fields += `Access-Control-Expose-Headers: ${spec.exposeHeaders}\r\n`;
  }
  if (exchange.head.method === 'OPTIONS' && origin !== undefined && fieldOf(text, 'access-control-request-method') !== undefined) {
    exchange.engine.answers.send(exchange, 204, '', '', isKnown ? `${fields}Access-Control-Allow-Methods: ${spec.methods}\r\nAccess-Control-Allow-Headers: ${spec.headers}\r\nAccess-Control-Max-Age: ${spec.maxAgeSeconds}\r\n` : '');
    return false;
  }
  exchange.responseFields += fields;
  return true;
}

function isOriginAllowed(origin: string, cors: Cors): boolean {
  if (cors.isAny || cors.exact.has(origin)) return true;
  return cors.suffixes.some(({ scheme, suffix }) => origin.startsWith(scheme) && origin.endsWith(suffix) && /^[a-z0-9.-]+$/.test(origin.slice(scheme.length, -suffix.length)));
}

function runLimits(exchange: Exchange, policy: RoutePolicy): boolean {
  const limits = policy.limits!;
  const ip = clientIP(exchange);
  if (limits.spec.exempt.includes(ip)) return true;
  const { engine } = exchange;
  if (!limits.mayPass(ip, engine.clock.nowMs())) {
    engine.observer.limited('rate');
    engine.answers.send(exchange, 503, 'rate-limited', 'too many requests from this address');
    return false;
  }
  if (limits.spec.connections === 0) return true;
  if (!limits.enter(ip)) {
    engine.observer.limited('route_connections');
    engine.answers.send(exchange, 503, 'connection-limited', 'too many requests at once from this address');
    return false;
  }
  exchange.onDone = () => limits.leave(ip);
  return true;
}

/** Body limit, rewriting, backend. False = answered. */
function prepare(exchange: Exchange, policy: RoutePolicy): boolean {
  const { spec } = policy;
  const { head, engine, target } = exchange;
  if (spec.bodyBytesMax !== undefined) {
    exchange.bodyBytesMax = spec.bodyBytesMax;
    if (head.contentLength > spec.bodyBytesMax || exchange.requestBytes > spec.bodyBytesMax) { engine.answers.refuse(exchange, 413); return false; }
  }
  if (spec.rewrite !== undefined) {
    const path = rewritePath(target.path, spec.rewrite.target, policy.rewritePattern);
    if (path === undefined) { engine.answers.refuse(exchange, 400); return false; }
    const question = path.indexOf('?');
    target.path = question < 0 ? path : path.slice(0, question);
    if (question >= 0) target.query = target.query === '' ? path.slice(question) : `${path.slice(question)}&${target.query.slice(1)}`;
    exchange.isTargetChanged = true;
  }
  if (spec.upstreamHost !== undefined) exchange.upstreamHost = spec.upstreamHost;
  if (spec.forwardedPrefix !== undefined) { exchange.requestFields += `X-Forwarded-Prefix: ${spec.forwardedPrefix}\r\n`; exchange.removedFields = [...exchange.removedFields, 'x-forwarded-prefix']; }
  if (policy.canaries !== undefined) chooseCanary(exchange, policy.canaries);
  if (policy.defaultBackend !== undefined && (exchange.backend === undefined || exchange.backend.endpoints.length === 0)) exchange.backend = policy.defaultBackend;
  if (policy.errorBackend !== undefined) exchange.replaces = (status) => (spec.errorPages!.codes.includes(status) ? () => sendErrorPage(exchange, policy, status) : undefined);
  if (policy.affinity !== undefined) exchange.choose = (backend) => chooseByCookie(exchange, policy, backend);
  if (policy.mirrorBackend !== undefined) sendMirror(exchange, policy);
  return true;
}

/** The path (and query) of a rewrite: groups $1…$9 of the rule's own expression; doubled slashes that groups leave are joined. */
function rewritePath(path: string, target: string, pattern: RegExp | undefined): string | undefined {
  const groups = pattern?.exec(path);
  const result = target.replace(/\$([1-9])/g, (_text, digit: string) => groups?.[Number(digit)] ?? '');
  const question = result.indexOf('?');
  const pathPart = (question < 0 ? result : result.slice(0, question)).replace(/\/{2,}/g, '/');
  const whole = pathPart.startsWith('/') ? pathPart : `/${pathPart}`;
  return isPlainPath(whole) && /^[\x21-\x7e]*$/.test(result) ? whole + (question < 0 ? '' : result.slice(question)) : undefined;
}

function chooseCanary(exchange: Exchange, canaries: readonly Canary[]): void {
  const { text } = exchange.head;
  for (const { spec, backend, pattern } of canaries) {
    const verdict = canaryVerdict(text, spec, pattern);
    if (verdict === false) continue;
    if (verdict === true || exchange.engine.random() * spec.weightTotal < spec.weight) { exchange.backend = backend; exchange.row = spec.row; return; }
  }
}

/** Header before cookie before weight; undefined = the weight decides. */
function canaryVerdict(text: string, spec: Canary['spec'], pattern: RegExp | undefined): boolean | undefined {
  if (spec.header !== '') {
    const value = fieldOf(text, spec.header.toLowerCase());
    if (value !== undefined) {
      if (spec.headerValue !== '') { if (value === spec.headerValue) return true; }
      else if (pattern !== undefined) { if (pattern.test(value)) return true; }
      else if (value === 'always') return true;
      else if (value === 'never') return false;
    }
  }
  if (spec.cookie !== '') {
    const value = cookieOf(fieldOf(text, 'cookie'), spec.cookie);
    if (value === 'always') return true;
    if (value === 'never') return false;
  }
  return undefined;
}

function chooseByCookie(exchange: Exchange, policy: RoutePolicy, backend: Backend): Endpoint | undefined {
  const affinity = policy.affinity!;
  const { engine, tried } = exchange;
  const known = affinity.find(backend, cookieOf(fieldOf(exchange.head.text, 'cookie'), affinity.spec.name));
  if (known !== undefined && tried?.includes(known) !== true && known.ejectedUntilMs <= engine.nowMsCached) return known;
  const endpoint = backend.pick(tried, engine.nowMsCached, engine.random);
  if (endpoint !== undefined && (known === undefined || affinity.spec.changesOnFailure)) {
    exchange.responseFields = exchange.responseFields.replace(/Set-Cookie: [^\r]*HttpOnly[^\r]*\r\n/, '') + affinity.line(endpoint, exchange.peer.scheme === 'https');
  }
  return endpoint;
}

function sendErrorPage(exchange: Exchange, policy: RoutePolicy, status: number): void {
  const { target, head, engine } = exchange;
  const pages = policy.spec.errorPages!;
  const accept = fieldOf(head.text, 'accept');
  const text = `GET / HTTP/1.1\r\nHost: ${target.hostText}\r\n${accept === undefined ? '' : `Accept: ${accept}\r\nX-Format: ${accept}\r\n`}X-Code: ${status}\r\nX-Original-URI: ${target.path}${target.query}\r\n${pages.fields}\r\n`;
  subrequest(exchange, policy.errorBackend!, text, undefined, undefined, (answer) => {
    if (!exchange.isActive) return;
    exchange.replaces = undefined;
    if (answer.status === 0) engine.answers.send(exchange, status, 'backend-error', 'the backend answered with an error');
    else engine.answers.relayWhole(exchange, status, answer);
  });
}

/** Sends a copy; its answer is dropped and its failure is nobody's (rule 61). */
function sendMirror(exchange: Exchange, policy: RoutePolicy): void {
  const mirror = policy.spec.mirror!;
  const { target, head } = exchange;
  const body = mirror.hasBody && exchange.isRequestWhole ? exchange.replay : undefined;
  let text = `${head.method} ${mirror.path === '' ? `${target.path}${target.query}` : mirror.path} HTTP/1.1\r\nHost: ${mirror.host === '' ? target.hostText : mirror.host}\r\nX-Original-Host: ${target.hostText}\r\n`;
  for (const line of head.text.split('\r\n').slice(1)) if (/^(user-agent|accept[-a-z]*|authorization|cookie|content-type|x-(?!forwarded|real-ip|original)[-a-z0-9]+|traceparent):/i.test(line)) text += `${line}\r\n`;
  if (body !== undefined) text += `Content-Length: ${exchange.replayBytes}\r\n`;
  subrequest(exchange, policy.mirrorBackend!, `${text}\r\n`, body === undefined ? undefined : [...body], undefined, () => {});
}
