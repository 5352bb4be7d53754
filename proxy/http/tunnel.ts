// A byte tunnel between client and endpoint after a 101 that answers a request for it (rule 105, P-8): early bytes of
// both sides first, backpressure both ways, half-close passed on, idle limit. Called by downstream-h1.ts.

import type { Duplex } from 'node:stream';
import { Deadline } from './deadlines.ts';
import type { HttpEngine } from './engine.ts';
import type { Upstream } from './exchange.ts';
import { UpstreamH1 } from './upstream-h1.ts';

/** Joins both sockets until both directions have ended; then calls `onDone` once. Returns what takes the client's bytes when they do not come as 'data' events. */
export function runTunnel(engine: HttpEngine, client: Duplex, upstream: Upstream, early: Buffer, held: Buffer | undefined, onDone: () => void): ((bytes: Buffer) => void) | undefined {
  if (!(upstream instanceof UpstreamH1)) { upstream.close(); client.destroy(); onDone(); return undefined; }
  const server = upstream.socket;
  let isDone = false;
  const finish = (): void => {
    if (isDone) return;
    isDone = true;
    engine.deadlines.stop(deadline);
    engine.tunnelClosed();
    client.destroy();
    upstream.close();
    onDone();
  };
  const deadline = new Deadline({ onDeadline: finish });
  const touch = (): void => engine.deadlines.start(deadline, engine.timeouts.tunnelIdleMs, engine.nowMs());
  engine.tunnelOpened();
  touch();
  if (early.length > 0) client.write(early);
  if (held !== undefined && held.length > 0) server.write(held);
  upstream.openTunnel((bytes, count) => {
    touch();
    if (!client.write(Buffer.from(bytes.subarray(0, count)))) server.pause();
    return true;
  });
  const onClientBytes = (bytes: Buffer): void => { touch(); if (!server.write(bytes)) client.pause(); };
  client.removeAllListeners('data');
  client.on('data', onClientBytes);
  client.on('drain', () => server.resume());
  server.on('drain', () => client.resume());
  client.on('end', () => server.end());
  server.on('end', () => client.end());
  client.on('close', finish);
  server.on('close', finish);
  client.resume();
  return onClientBytes;
}
