// As much of an API server as `kubectl logs`, `exec`, `attach` and `port-forward` touch: version, discovery of pods,
// the Pod objects of a FakeApi, and the four subresources handed on to the agent, bytes untouched.

import { createServer, request as httpsRequest, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect, type SecureContextOptions } from 'node:tls';
import type { FakeApi } from './fake-api.ts';

const actions: Record<string, string> = { log: 'containerLogs', exec: 'exec', attach: 'attach', portforward: 'portForward' };

export interface Front { server: Server; url: string; close(): Promise<void> }

export async function startFront(api: FakeApi, tls: SecureContextOptions, agent: { port: number; tls: SecureContextOptions }): Promise<Front> {
  const server = createServer(tls);
  const target = (url: string): string | undefined => {
    const parsed = new URL(url, 'https://front');
    const match = /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)\/(log|exec|attach|portforward)$/.exec(parsed.pathname);
    if (match === null) return undefined;
    const container = parsed.searchParams.get('container') ?? api.pod(match[2] as string)?.spec?.containers[0]?.name ?? '';
    return `/${actions[match[3] as string]}/${match[1]}/${match[2]}${match[3] === 'portforward' ? '' : `/${container}`}${parsed.search}`;
  };
  server.on('request', (request, response) => {
    const url = request.url ?? '/';
    const path = url.split('?')[0] as string;
    const forwarded = target(url);
    if (forwarded !== undefined) {
      const upstream = httpsRequest({ host: '127.0.0.1', port: agent.port, path: forwarded, ...agent.tls, rejectUnauthorized: false, agent: false }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      response.on('close', () => upstream.destroy());
      upstream.on('error', () => response.destroy());
      upstream.end();
      return;
    }
    const answer = fixed[path] ?? api.objects.get(path);
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404, message: path }));
  });
  const upgraded = new Set<Duplex>();
  server.on('upgrade', (request, socket, head) => {
    upgraded.add(socket);
    const upstream = tlsConnect({ host: '127.0.0.1', port: agent.port, ...agent.tls, rejectUnauthorized: false }, () => {
      const lines = [`${request.method} ${target(request.url ?? '/') ?? '/'} HTTP/1.1`];
      for (let index = 0; index < request.rawHeaders.length; index += 2) lines.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}`);
      upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
      upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
    socket.on('close', () => upstream.destroy());
    upstream.on('close', () => socket.destroy());
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    server, url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => new Promise((resolve) => { for (const socket of upgraded) socket.destroy(); server.closeAllConnections(); server.close(() => resolve()); }),
  };
}

const podResource = { name: 'pods', singularName: 'pod', namespaced: true, kind: 'Pod', verbs: ['get', 'list', 'watch'], shortNames: ['po'] };
const fixed: Record<string, unknown> = {
  '/version': { major: '1', minor: '32', gitVersion: 'v1.32.0' },
  '/api': { kind: 'APIVersions', versions: ['v1'] },
  '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups: [] },
  '/api/v1': { kind: 'APIResourceList', groupVersion: 'v1', resources: [podResource, ...Object.keys(actions).map((name) => ({ name: `pods/${name}`, singularName: '', namespaced: true, kind: 'Pod', verbs: ['get', 'create'] }))] },
};
