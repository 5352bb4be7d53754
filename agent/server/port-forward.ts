// `kubectl port-forward`: byte streams to a port of the Pod. Two forms: SPDY (directly or inside a WebSocket), where
// the client opens a pair of streams per connection, and the older WebSocket channels (2i data, 2i+1 error; the first
// message of each channel is the port as 16 bits little endian), which the JavaScript client uses.

import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { NetloomError } from '../../api/errors.ts';
import type { PodRunner } from '../pods/pod-runner.ts';
import { SpdyConnection, type SpdyStream } from './spdy.ts';

const pairsMax = 500;
const bufferedBytesMax = 1024 * 1024;

interface Pair { data?: SpdyStream; error?: SpdyStream; port: number }

export function forwardSpdy(socket: Duplex, runner: PodRunner): void {
  const pairs = new Map<string, Pair>();
  new SpdyConnection(socket, (stream, headers) => {
    const id = headers['requestid'] ?? '';
    const pair = pairs.get(id) ?? { port: Number(headers['port']) };
    if (headers['streamtype'] === 'data') pair.data = stream; else pair.error = stream;
    if (pair.data === undefined || pair.error === undefined) {
      if (pairs.size >= pairsMax) stream.destroy(); else pairs.set(id, pair);
      return;
    }
    pairs.delete(id);
    joinPair(pair.data, pair.error, pair.port, runner);
  });
}

function joinPair(data: SpdyStream, error: SpdyStream, port: number, runner: PodRunner): void {
  error.resume();
  dialPod(runner, port, (failure, target) => {
    if (target === undefined) {
      error.end(`error forwarding port ${port} to pod ${runner.pod.metadata.name}: ${failure?.message ?? ''}`);
      data.end();
      data.resume();
      return;
    }
    data.pipe(target);
    target.pipe(data);
    target.on('error', () => data.destroy());
    target.on('close', () => error.end());
    data.on('close', () => target.destroy());
  });
}

/** Throws BadRequest for a missing or impossible port. */
export function readPorts(query: URLSearchParams): number[] {
  const ports = [...query.getAll('ports'), ...query.getAll('port')].flatMap((text) => text.split(',')).map(Number);
  if (ports.length === 0 || ports.length > 100 || ports.some((port) => !Number.isInteger(port) || port < 1 || port > 65535)) {
    throw new NetloomError('BadRequest', 'query parameter "ports" must name one or more ports between 1 and 65535');
  }
  return ports;
}

export function forwardChannels(socket: WebSocket, runner: PodRunner, ports: readonly number[]): void {
  const targets: (Socket | undefined)[] = [];
  const waiting: Buffer[][] = ports.map(() => []);
  const send = (channel: number, data: Buffer, done?: () => void): void => {
    if (socket.readyState === socket.OPEN) socket.send(Buffer.concat([Buffer.from([channel]), data]), () => done?.());
  };
  ports.forEach((port, index) => {
    const prefix = Buffer.alloc(2);
    prefix.writeUInt16LE(port);
    send(index * 2, prefix);
    send(index * 2 + 1, prefix);
    dialPod(runner, port, (failure, target) => {
      if (target === undefined) { send(index * 2 + 1, Buffer.from(`error forwarding port ${port}: ${failure?.message ?? ''}`)); return; }
      targets[index] = target;
      for (const data of waiting[index] ?? []) target.write(data);
      target.on('data', (data: Buffer) => {
        const isFull = socket.bufferedAmount > bufferedBytesMax;
        if (isFull) target.pause();
        send(index * 2, data, () => { if (isFull) target.resume(); });
      });
      target.on('drain', () => socket.resume());
      target.on('error', () => {});
      target.on('close', () => { if (socket.readyState === socket.OPEN) socket.close(1000); });
    });
  });
  socket.on('message', (message: Buffer) => {
    const channel = message[0] ?? 255;
    const index = channel >> 1;
    if ((channel & 1) === 1 || index >= ports.length || message.length < 2) return;
    const target = targets[index];
    if (target === undefined) waiting[index]?.push(message.subarray(1));
    else if (!target.write(message.subarray(1))) socket.pause();
  });
  socket.on('error', () => {});
  socket.on('close', () => { for (const target of targets) target?.destroy(); });
}

/** The Pod's own address first; a process that listens on 127.0.0.1 alone is found where Pods share the host's network. */
function dialPod(runner: PodRunner, port: number, onResult: (failure: Error | undefined, target: Socket | undefined) => void): void {
  const addresses = runner.address.startsWith('127.') && runner.address !== '127.0.0.1' ? [runner.address, '127.0.0.1'] : [runner.address];
  const attempt = (index: number): void => {
    const target = connect({ host: addresses[index] as string, port, allowHalfOpen: true });
    target.once('error', (failure) => {
      if (index + 1 < addresses.length) attempt(index + 1); else onResult(failure, undefined);
    });
    target.once('connect', () => {
      target.removeAllListeners('error');
      target.on('error', () => {});
      onResult(undefined, target);
    });
  };
  attempt(0);
}
