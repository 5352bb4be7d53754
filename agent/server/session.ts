// The streams of one exec or attach, the same for both protocols: channels of a WebSocket (v5.channel.k8s.io and v4)
// and streams of a SPDY connection (v4.channel.k8s.io). exec.ts joins a session to a process.

import type { Duplex, Readable, Writable } from 'node:stream';
import { PassThrough } from 'node:stream';
import type { Status } from '../../api/types.ts';
import type { WebSocket } from 'ws';
import { SpdyConnection, type SpdyStream } from './spdy.ts';

export interface TerminalSize { Width: number; Height: number }

export interface Session {
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  onResize(listener: (size: TerminalSize) => void): void;
  /** Called once when the client has gone. */
  onClose(listener: () => void): void;
  /** Sends the final status after all output, then ends the connection. */
  finish(status: Status): void;
}

export interface SessionRequest { hasStdin: boolean; hasStdout: boolean; hasStderr: boolean; isTty: boolean }

const bufferedBytesMax = 1024 * 1024;

/** The client sends the size at once, often before the terminal exists: the last one is kept for the listener. */
class SizeKeeper {
  #last: TerminalSize | undefined;
  #listener: ((size: TerminalSize) => void) | undefined;

  readonly listen = (listener: (size: TerminalSize) => void): void => {
    this.#listener = listener;
    if (this.#last !== undefined) listener(this.#last);
  };

  read(data: Buffer): void {
    let size: TerminalSize;
    try { size = JSON.parse(data.toString('utf8')) as TerminalSize; } catch { return; }
    if (!Number.isInteger(size.Width) || !Number.isInteger(size.Height)) return;
    this.#last = size;
    this.#listener?.(size);
  }
}

/** Binary messages, first byte: 0 stdin, 1 stdout, 2 stderr, 3 status, 4 resize, 255 + id closes that stream (v5). */
export function webSocketSession(socket: WebSocket, request: SessionRequest): Session {
  const stdin = request.hasStdin ? new PassThrough() : undefined;
  const sizes = new SizeKeeper();
  const closeListeners: (() => void)[] = [];
  stdin?.on('drain', () => socket.resume());
  socket.on('message', (message: Buffer) => {
    const channel = message[0];
    if (channel === 0 && message.length > 1 && stdin !== undefined && !stdin.writableEnded && !stdin.write(message.subarray(1))) socket.pause();
    else if (channel === 255 && message[1] === 0) stdin?.end();
    else if (channel === 4) sizes.read(message.subarray(1));
  });
  socket.on('error', () => {});
  socket.on('close', () => { stdin?.end(); for (const listener of closeListeners) listener(); });
  const output = (channel: number): Writable => {
    const stream = new PassThrough();
    stream.on('data', (data: Buffer) => {
      if (socket.readyState !== socket.OPEN) return;
      const isFull = socket.bufferedAmount > bufferedBytesMax;
      if (isFull) stream.pause();
      socket.send(Buffer.concat([Buffer.from([channel]), data]), () => { if (isFull) stream.resume(); });
    });
    return stream;
  };
  return {
    stdin, stdout: request.hasStdout ? output(1) : undefined, stderr: request.hasStderr && !request.isTty ? output(2) : undefined,
    onResize: sizes.listen,
    onClose: (listener) => { closeListeners.push(listener); },
    finish: (status) => {
      if (socket.readyState !== socket.OPEN) return;
      socket.send(Buffer.concat([Buffer.from([3]), Buffer.from(JSON.stringify(status))]));
      socket.close(1000);
    },
  };
}

/** Waits until the client has opened every stream that the request asks for; `onReady` is called once. */
export function spdySession(socket: Duplex, request: SessionRequest, onReady: (session: Session) => void): void {
  const wanted = ['error', ...(request.hasStdin ? ['stdin'] : []), ...(request.hasStdout ? ['stdout'] : []), ...(request.hasStderr && !request.isTty ? ['stderr'] : []), ...(request.isTty ? ['resize'] : [])];
  const streams = new Map<string, SpdyStream>();
  const closeListeners: (() => void)[] = [];
  const sizes = new SizeKeeper();
  socket.on('close', () => { for (const listener of closeListeners) listener(); });
  const connection = new SpdyConnection(socket, (stream, headers) => {
    const type = headers['streamtype'] ?? '';
    streams.set(type, stream);
    if (type === 'resize') stream.on('data', (data: Buffer) => sizes.read(data));
    if (!wanted.every((each) => streams.has(each)) || wanted.length === 0) return;
    wanted.length = 0;
    onReady({
      stdin: streams.get('stdin'), stdout: streams.get('stdout'), stderr: streams.get('stderr'),
      onResize: sizes.listen,
      onClose: (listener) => { closeListeners.push(listener); },
      finish: (status) => {
        streams.get('error')?.end(JSON.stringify(status), () => { setImmediate(() => connection.close()); });
      },
    });
  });
}
