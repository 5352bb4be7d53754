// pods/log, exec, attach and portforward: checked here, served by the agent of the Pod's node. Logs are relayed as a
// stream; upgrades become a tunnel of bytes in both directions, so that WebSocket and SPDY end in the agent.
// Source: kubernetes pkg/registry/core/pod/rest/{log,subresources}.go, pkg/registry/core/pod/strategy.go (LogLocation).

import type { ClientRequest, IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { NetloomError } from '../../../api/errors.ts';
import { http } from '../../../api/node-http.ts';
import type { Node, Pod } from '../../../api/types.ts';
import type { RequestContext } from '../context.ts';
import { badRequest } from '../errors.ts';
import { drained, sendText } from '../http/respond.ts';
import { isTrue } from '../request-info.ts';
import { getStored } from '../verbs/read.ts';
import type { NodeLink } from './node-link.ts';

const defaultContainerAnnotation = 'kubectl.kubernetes.io/default-container';
const agentActions: Record<string, string> = { log: 'containerLogs', exec: 'exec', attach: 'attach', portforward: 'portForward' };
/** Request headers that mean something to the agent; everything else, above all credentials, stays here. */
const passedHeaders = ['upgrade', 'sec-websocket-key', 'sec-websocket-version', 'sec-websocket-protocol', 'sec-websocket-extensions', 'x-stream-protocol-version', 'user-agent'];
const errorBytesMax = 65_536;

/** The handler of these subresources. */
export function nodeForwarder(link: NodeLink): (context: RequestContext) => Promise<void> {
  return async (context) => {
    const pod = getStored(context).object as Pod;
    const isLog = context.info.subresource === 'log';
    if (isLog && context.info.verb !== 'get') throw new NetloomError('MethodNotAllowed', 'the server does not allow this method on the requested resource', { source: 'downstream' });
    const path = agentTarget(context, pod);
    const nodeName = pod.spec?.nodeName ?? '';
    if (nodeName === '') {
      if (!isLog) throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
      // A Pod that was not placed yet has an empty log.
      sendText({ exchange: context.exchange, warnings: context.warnings }, 200, '', 'text/plain');
      return;
    }
    if (!isLog && context.exchange.upgrade === undefined) throw badRequest('Upgrade request required');
    const node = context.server.storage.get('nodes', nodeName)?.object as Node | undefined;
    const socket = await link.open(node, nodeName);
    if (isLog) await relayLog(context, socket, path);
    else await tunnel(context, socket, path);
  };
}

/** Path on the agent; picks and checks the container. */
function agentTarget(context: RequestContext, pod: Pod): string {
  const { info, exchange } = context;
  const query = new URLSearchParams(exchange.query);
  const base = `/${agentActions[info.subresource]}/${encodeURIComponent(info.namespace)}/${encodeURIComponent(info.name)}`;
  if (info.subresource === 'portforward') return `${base}${query.size > 0 ? `?${query}` : ''}`;
  if (info.subresource === 'exec' && query.getAll('command').filter((word) => word !== '').length === 0) throw badRequest('you must specify at least 1 command for the container');
  if (info.subresource === 'log') checkLogQuery(query);
  const container = pickContainer(pod, query.get('container') ?? '');
  query.set('container', container);
  return `${base}${info.subresource === 'log' ? `/${encodeURIComponent(container)}` : ''}?${query}`;
}

function pickContainer(pod: Pod, wanted: string): string {
  const own = (pod.spec?.containers ?? []).map((container) => container.name);
  const all = [...own, ...(pod.spec?.initContainers ?? []).map((container) => container.name)];
  if (wanted !== '') {
    if (!all.includes(wanted)) throw badRequest(`container ${wanted} is not valid for pod ${pod.metadata.name}`);
    return wanted;
  }
  const marked = pod.metadata.annotations?.[defaultContainerAnnotation];
  if (marked !== undefined && own.includes(marked)) return marked;
  if (own.length === 1) return own[0] as string;
  const inits = (pod.spec?.initContainers ?? []).map((container) => container.name);
  throw badRequest(`a container name must be specified for pod ${pod.metadata.name}, choose one of: [${own.join(' ')}]${inits.length === 0 ? '' : ` or one of the init containers: [${inits.join(' ')}]`}`);
}

function checkLogQuery(query: URLSearchParams): void {
  const causes = ['tailLines', 'sinceSeconds', 'limitBytes'].flatMap((name) => {
    const text = query.get(name);
    if (text === null || text === '') return [];
    const isFit = /^\d{1,15}$/.test(text) && (name === 'tailLines' || Number(text) > 0);
    return isFit ? [] : [{ reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(text)}: must be ${name === 'tailLines' ? 'greater than or equal to 0' : 'greater than 0'}`, field: name }];
  });
  if (query.has('sinceSeconds') && query.has('sinceTime')) causes.push({ reason: 'FieldValueForbidden', message: 'Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified', field: '' });
  if (causes.length > 0) throw new NetloomError('Invalid', `PodLogOptions is invalid: ${causes.map((cause) => `${cause.field}: ${cause.message}`).join(', ')}`, { source: 'downstream', details: { kind: 'PodLogOptions', causes } });
}

async function relayLog(context: RequestContext, socket: TLSSocket, path: string): Promise<void> {
  const { reply, query } = context.exchange;
  const request: ClientRequest = http.request({ createConnection: () => socket, method: 'GET', path, headers: { host: 'agent', connection: 'close' } });
  reply.onClose(() => socket.destroy());
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', (error) => reject(new NetloomError('ServiceUnavailable', `the node's agent did not answer: ${error.message}`, { source: 'upstream' })));
    request.end();
  });
  request.on('error', () => {});
  if (response.statusCode !== 200) throw await agentError(response);
  reply.head(200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' });
  try {
    for await (const chunk of response) {
      if (reply.isClosed) break;
      if (!reply.write(chunk as Buffer)) await drained(reply);
    }
    reply.end();
  } catch (error) {
    if (isTrue(query.get('follow'))) reply.end(); else { context.server.log.debug('log stream broke', { err: error }); reply.destroy(); }
  } finally {
    socket.destroy();
  }
}

/** The agent's Status as our own error. */
async function agentError(response: IncomingMessage): Promise<NetloomError> {
  let text = '';
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length > errorBytesMax) break;
  }
  try {
    const status = JSON.parse(text) as { message?: string; reason?: string };
    const code = response.statusCode === 404 ? 'NotFound' : response.statusCode === 400 ? 'BadRequest' : 'InternalError';
    return new NetloomError(code, status.message ?? `the node's agent answered ${response.statusCode}`, { source: 'upstream' });
  } catch {
    return new NetloomError('InternalError', `the node's agent answered ${response.statusCode}`, { source: 'upstream' });
  }
}

/** Hands the client's bytes to the agent and back; ends when either side does. */
async function tunnel(context: RequestContext, agent: TLSSocket, path: string): Promise<void> {
  const { exchange } = context;
  const { socket, head } = exchange.upgrade as NonNullable<typeof exchange.upgrade>;
  const lines = [`${exchange.method} ${path} HTTP/1.1`, 'Host: agent', 'Connection: Upgrade'];
  for (const name of passedHeaders) {
    const value = exchange.headers[name];
    if (value !== undefined && !/[\r\n]/.test(value)) lines.push(`${name}: ${value}`);
  }
  agent.write(`${lines.join('\r\n')}\r\nContent-Length: 0\r\n\r\n`);
  if (head.length > 0) agent.write(head);
  agent.setNoDelay(true);
  await new Promise<void>((resolve) => {
    const finish = (): void => { agent.destroy(); socket.destroy(); resolve(); };
    agent.on('error', finish);
    socket.on('error', finish);
    agent.on('close', () => { if (!socket.writableEnded) socket.end(); resolve(); });
    socket.on('close', finish);
    agent.pipe(socket);
    socket.pipe(agent);
  });
}
