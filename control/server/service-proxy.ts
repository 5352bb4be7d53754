// services/NAME/proxy, pods/NAME/proxy and nodes/NAME/proxy: requests that an authenticated caller sends through the API
// server to a backend. The one user of http-proxy, behind a gate: that library smuggles, crashes and hangs on its own.
// Guards: the target's address is taken from the object, checked, and that same address is dialled; loopback (outside
// the Pod range), link-local, unspecified, multicast, Service and control-plane addresses are refused; redirects are
// handed back, never followed; credentials and hop-by-hop fields stay here; upgrades are not offered.
// Source: kubernetes pkg/registry/core/{service,pod}/... ResourceLocation; CVE-2018-1002105, CVE-2020-8555, CVE-2022-3172.

import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough, Readable, Writable } from 'node:stream';
import './quiet-extend.ts';
import httpProxy from 'http-proxy';
import { isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR } from '../../api/address.ts';
import { NetloomError } from '../../api/errors.ts';
import { labels } from '../../api/meta.ts';
import type { EndpointSlice, Pod, Service } from '../../api/types.ts';
import type { RequestContext } from './context.ts';
import { badRequest } from './errors.ts';
import type { Reply } from './http/exchange.ts';
import { drained } from './http/respond.ts';

export interface ProxyGuard { podCIDR: string; serviceCIDRs: readonly string[]; ownAddresses: () => readonly { address: string; port: number }[] }
interface Target { scheme: 'http' | 'https'; address: string; port: number; name: string }

const timeoutMs = 60_000;
const droppedRequestFields = new Set([
  'connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect', 'authorization', 'cookie', 'host', 'origin',
  'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-port', 'forwarded', 'x-real-ip', 'http2-settings',
]);
const droppedAnswerFields = ['trailer', 'connection', 'keep-alive', 'proxy-authenticate', 'proxy-connection', 'transfer-encoding', 'upgrade'];

/** Makes the handler of the proxy subresources. */
export function proxyHandler(guard: ProxyGuard): (context: RequestContext) => Promise<void> {
  const agents = { http: new HttpAgent({ keepAlive: true, maxSockets: 64 }), https: new HttpsAgent({ keepAlive: true, maxSockets: 64, rejectUnauthorized: false }) };
  const proxy = httpProxy.createProxyServer({ changeOrigin: true, followRedirects: false, xfwd: false, ignorePath: true, proxyTimeout: timeoutMs });
  // Its deleteLength pass turns a chunked DELETE into a request without length followed by raw bytes.
  const passes = (proxy as unknown as { webPasses: ((...args: unknown[]) => unknown)[] }).webPasses;
  const index = passes.findIndex((pass) => pass.name === 'deleteLength');
  if (index >= 0) passes.splice(index, 1);
  proxy.on('error', () => {});
  proxy.on('proxyReq', (proxyRequest, _request, response) => { response.once('close', () => proxyRequest.destroy()); });
  proxy.on('proxyRes', (proxyResponse, _request, response) => {
    for (const name of droppedAnswerFields) delete proxyResponse.headers[name];
    proxyResponse.once('close', () => { if (!proxyResponse.complete) response.destroy(); });
  });
  return async (context) => {
    if (context.exchange.upgrade !== undefined) throw badRequest('upgrades through the proxy are not supported: use port-forward');
    const target = resolveTarget(context);
    checkTarget(target, guard);
    await forward(proxy, context, target, agents[target.scheme]);
  };
}

/** `[scheme:]name[:port]` of the URL as an address. Throws NotFound, BadRequest, ServiceUnavailable. */
function resolveTarget(context: RequestContext): Target {
  const parts = context.info.name.split(':');
  const [scheme, name, port] = parts.length === 3 ? parts : ['', parts[0], parts[1]];
  if (parts.length > 3 || name === undefined || (scheme !== '' && scheme !== 'http' && scheme !== 'https')) throw badRequest(`invalid ${context.resource.kind.toLowerCase()} request ${JSON.stringify(context.info.name)}`);
  const base = { scheme: scheme === 'https' ? 'https' as const : 'http' as const, name };
  if (context.resource.storage === 'services') return { ...base, ...serviceAddress(context, name, port ?? '') };
  if (context.resource.storage === 'pods') return { ...base, ...podAddress(context, name, port ?? '') };
  throw new NetloomError('NotFound', 'the server could not find the requested resource', { source: 'downstream', details: {} });
}

function serviceAddress(context: RequestContext, name: string, wanted: string): { address: string; port: number } {
  const { storage } = context.server;
  const { namespace } = context.info;
  const service = storage.get('services', `${namespace}/${name}`)?.object as Service | undefined;
  if (service === undefined) throw new NetloomError('NotFound', `services "${name}" not found`, { source: 'downstream', details: { name, kind: 'services' } });
  const ports = service.spec?.ports ?? [];
  const port = ports.find((item) => (wanted === '' ? ports.length === 1 : item.name === wanted || String(item.port) === wanted));
  if (port === undefined && wanted !== '') throw new NetloomError('ServiceUnavailable', `no service port ${JSON.stringify(wanted)} found for service ${JSON.stringify(name)}`, { source: 'downstream', details: { name, kind: 'services' } });
  const found: { address: string; port: number }[] = [];
  for (const { object } of storage.list('endpointslices.discovery.k8s.io', { prefix: `${namespace}/` }).items) {
    const slice = object as EndpointSlice;
    if (slice.metadata.labels?.[labels.serviceName] !== name) continue;
    const number = slice.ports?.find((item) => (item.name ?? '') === (port?.name ?? ''))?.port;
    if (number === undefined || number === null) continue;
    for (const endpoint of slice.endpoints ?? []) if (endpoint.conditions?.ready !== false) for (const address of endpoint.addresses) found.push({ address, port: number });
  }
  const chosen = found[Math.floor(Math.random() * found.length)];
  if (chosen === undefined) throw new NetloomError('ServiceUnavailable', `no endpoints available for service ${JSON.stringify(name)}`, { source: 'upstream', details: { name, kind: 'services' } });
  return chosen;
}

function podAddress(context: RequestContext, name: string, wanted: string): { address: string; port: number } {
  const pod = context.server.storage.get('pods', `${context.info.namespace}/${name}`)?.object as Pod | undefined;
  if (pod === undefined) throw new NetloomError('NotFound', `pods "${name}" not found`, { source: 'downstream', details: { name, kind: 'pods' } });
  const ports = (pod.spec?.containers ?? []).flatMap((container) => container.ports ?? []);
  const port = wanted === '' ? ports[0]?.containerPort ?? 80 : ports.find((item) => item.name === wanted)?.containerPort ?? Number(wanted);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw badRequest(`invalid port ${JSON.stringify(wanted)}`);
  const address = pod.status?.podIP ?? '';
  if (address === '') throw new NetloomError('ServiceUnavailable', `address not allocated for pod ${JSON.stringify(name)}`, { source: 'upstream', details: { name, kind: 'pods' } });
  return { address, port };
}

function checkTarget(target: Target, guard: ProxyGuard): void {
  const { address, port } = target;
  const isPod = parseCIDR(guard.podCIDR)?.contains(address) === true;
  const isBad = isUnspecified(address) || isMulticast(address) || isLinkLocal(address) || (isLoopback(address) && !isPod)
    || guard.serviceCIDRs.some((cidr) => parseCIDR(cidr)?.contains(address) === true) || guard.ownAddresses().some((own) => own.address === address && own.port === port);
  if (isBad) throw new NetloomError('Forbidden', `address ${address} is not allowed as a proxy target`, { source: 'downstream', details: {} });
}

async function forward(proxy: httpProxy, context: RequestContext, target: Target, agent: HttpAgent | HttpsAgent): Promise<void> {
  const { exchange, info } = context;
  const path = info.rest === '' ? '/' : info.rest;
  if (/[\\#]|\/\//.test(path)) throw badRequest('the path may not hold "//", "\\" or "#"');
  const host = target.address.includes(':') ? `[${target.address}]` : target.address;
  const url = `${target.scheme}://${host}:${target.port}${path}${exchange.queryText === '' ? '' : `?${exchange.queryText}`}`;
  const request = Object.assign(bodyOf(context), { method: exchange.method, url: path, headers: fieldsOf(exchange.headers), httpVersion: '1.1', httpVersionMajor: 1, httpVersionMinor: 1, socket: { destroyed: false }, connection: {} }) as unknown as IncomingMessage;
  const response = responseFor(exchange.reply);
  await new Promise<void>((resolve, reject) => {
    response.once('close', resolve);
    proxy.web(request, response as unknown as ServerResponse, { target: url, agent }, (error) => {
      reject(new NetloomError('ServiceUnavailable', `error trying to reach service: ${error.message}`, { source: 'upstream', details: {} }));
    });
  });
}

function bodyOf(context: RequestContext): Readable {
  const stream = context.exchange.bodyStream();
  const body = stream === undefined ? Readable.from([]) : Readable.from(stream as AsyncIterable<Uint8Array>, { objectMode: false });
  body.on('error', () => {});
  return body.pipe(new PassThrough());
}

function fieldsOf(headers: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const nominated = new Set((headers['connection'] ?? '').split(',').map((name) => name.trim().toLowerCase()));
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(':') || droppedRequestFields.has(name) || name.startsWith('impersonate-') || nominated.has(name)) continue;
    fields[name] = value;
  }
  return fields;
}

/** What http-proxy takes for a ServerResponse: fields are collected, the body goes to the reply. */
function responseFor(reply: Reply): Writable {
  const fields: Record<string, string | string[]> = {};
  const state = { statusCode: 200, statusMessage: '', headersSent: false, finished: false };
  const sendHead = (): void => {
    if (response.headersSent) return;
    response.headersSent = true;
    reply.head(response.statusCode, fields);
  };
  const stream = new Writable({
    highWaterMark: 65_536,
    write(chunk: Buffer, _encoding, done): void {
      sendHead();
      if (reply.write(chunk)) done(); else void drained(reply).then(() => done());
    },
    final(done): void {
      sendHead();
      response.finished = true;
      reply.end();
      done();
    },
    destroy(error, done): void {
      if (response.headersSent && !response.finished) reply.destroy();
      done(error);
    },
  });
  const response = Object.assign(stream, state, {
    setHeader(name: string, value: string | string[] | number): void {
      // The library adds this one itself; it is about its own connection, and HTTP/2 has none.
      if (name.toLowerCase() !== 'connection') fields[name.toLowerCase()] = typeof value === 'number' ? String(value) : value;
    },
    getHeader: (name: string): string | string[] | undefined => fields[name.toLowerCase()],
    removeHeader(name: string): void { delete fields[name.toLowerCase()]; },
    writeHead(status: number): void { response.statusCode = status; sendHead(); },
  });
  response.on('error', () => {});
  reply.onClose(() => { if (!response.writableEnded) response.destroy(); });
  return response;
}
