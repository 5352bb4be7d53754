// Answers `Upgrade` requests of exec, attach and port-forward and hands the streams on. WebSocket (kubectl since 1.30,
// the JavaScript client) and SPDY/3.1 (older kubectl) are both served. The one door for ws.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, WebSocketServer, type WebSocket } from 'ws';
import { NetloomError } from '../../api/errors.ts';
import { prepareSession, runAttach, runExec } from './exec.ts';
import { forwardChannels, forwardSpdy, readPorts } from './port-forward.ts';
import type { AgentRoute, StreamOptions } from './route.ts';
import { spdySession, webSocketSession, type Session } from './session.ts';

const spdyTunnelProtocol = 'SPDY/3.1+portforward.k8s.io';
const channelProtocols = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];
const spdyVersions = ['v4.channel.k8s.io'];
const messageBytesMax = 4 * 1024 * 1024;

/** Throws BadRequest or NotFound before anything was answered. */
export function handleUpgrade(route: AgentRoute, request: IncomingMessage, socket: Duplex, head: Buffer, options: StreamOptions): void {
  const protocol = String(request.headers.upgrade ?? '').toLowerCase();
  if (protocol === 'websocket') handleWebSocket(route, request, socket, head, options);
  else if (protocol === 'spdy/3.1') handleSpdy(route, request, socket, head, options);
  else throw new NetloomError('BadRequest', `cannot upgrade to ${JSON.stringify(protocol.slice(0, 40))}: use websocket or SPDY/3.1`);
}

function handleWebSocket(route: AgentRoute, request: IncomingMessage, socket: Duplex, head: Buffer, options: StreamOptions): void {
  const offered = String(request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim());
  const isForward = route.action === 'portForward';
  const accepted = isForward ? [spdyTunnelProtocol, ...channelProtocols] : channelProtocols;
  const chosen = accepted.find((each) => offered.includes(each));
  if (chosen === undefined) throw new NetloomError('BadRequest', `no common subprotocol: this server speaks ${accepted.join(', ')}`);
  const isChannelForward = isForward && chosen !== spdyTunnelProtocol;
  const ports = isChannelForward ? readPorts(route.query) : [];
  const prepared = isForward ? undefined : prepareSession(route);
  const server = new WebSocketServer({ noServer: true, handleProtocols: () => chosen, maxPayload: messageBytesMax, perMessageDeflate: false });
  server.handleUpgrade(request, socket, head, (webSocket: WebSocket) => {
    if (isChannelForward) forwardChannels(webSocket, route.runner, ports);
    else if (prepared === undefined) forwardSpdy(createWebSocketStream(webSocket), route.runner);
    else serveSession(webSocketSession(webSocket, prepared.request), route, prepared, options);
  });
}

function handleSpdy(route: AgentRoute, request: IncomingMessage, socket: Duplex, head: Buffer, options: StreamOptions): void {
  const isForward = route.action === 'portForward';
  const offered = String(request.headers['x-stream-protocol-version'] ?? '').split(',').map((each) => each.trim());
  const accepted = isForward ? ['portforward.k8s.io'] : spdyVersions;
  const chosen = accepted.find((each) => offered.includes(each));
  if (chosen === undefined) throw new NetloomError('BadRequest', `no common stream protocol: this server speaks ${accepted.join(', ')}`);
  const prepared = isForward ? undefined : prepareSession(route);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${chosen}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  if (prepared === undefined) forwardSpdy(socket, route.runner);
  else spdySession(socket, prepared.request, (session) => serveSession(session, route, prepared, options));
}

function serveSession(session: Session, route: AgentRoute, prepared: ReturnType<typeof prepareSession>, options: StreamOptions): void {
  const work = route.action === 'attach' ? runAttach(session, prepared) : runExec(session, route, prepared, options);
  work.catch((err: unknown) => options.log.warn('session failed', { action: route.action, err }));
}
