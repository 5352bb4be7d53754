// Gives an accepted socket the `onread` buffer that Node offers for outgoing sockets only: one shared read buffer per
// thread instead of a fresh 64 KiB allocation per read, which is a tenth of the whole cost of a small request (bench
// row ingress-http). net.Socket accepts `handle` beside `onread`, the pair is only not documented for servers; where the
// parts are not as expected the socket is left alone and read by 'data' events. Called by engine.ts.

import net from 'node:net';

const sharedRead = Buffer.allocUnsafeSlow(65_536);

interface Inner { _handle: unknown; _server: unknown; server: unknown; allowHalfOpen: boolean }
type ReadCallback = (count: number, bytes: Buffer) => boolean;

/** A socket over the same connection that calls `onRead` with bytes valid during the call only; undefined = not possible. The listener must have `pauseOnConnect`. */
export function adoptSocket(socket: net.Socket, onRead: ReadCallback): net.Socket | undefined {
  const inner = socket as unknown as Inner;
  const handle = inner._handle;
  if (handle === null || typeof handle !== 'object' || typeof (handle as { useUserBuffer?: unknown }).useUserBuffer !== 'function' || socket.constructor !== net.Socket) return undefined;
  const options = { handle, allowHalfOpen: inner.allowHalfOpen, readable: true, writable: true, pauseOnCreate: true, onread: { buffer: sharedRead, callback: onRead } };
  const server = inner._server;
  const adopted = new net.Socket(options as unknown as net.SocketConstructorOpts);
  // The listener counts open connections through the socket that owns the handle.
  (adopted as unknown as Inner)._server = server;
  (adopted as unknown as Inner).server = server;
  inner._handle = null;
  inner._server = null;
  return adopted;
}
