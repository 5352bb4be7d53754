// Chooses the protocol of an upgraded request.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { NetloomError } from '../../api/errors.ts';
import type { AgentRoute, AgentServerOptions } from './server.ts';

export function handleUpgrade(route: AgentRoute, _request: IncomingMessage, _socket: Duplex, _head: Buffer, _options: AgentServerOptions): void {
  throw new NetloomError('BadRequest', `${route.action} is not served`);
}
