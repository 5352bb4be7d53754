// UDP sessions: one connected socket per client flow, so that answers find their way back and an ICMP refusal is seen.
// Idle sessions end after 30 s, or 120 s once the endpoint answered (conntrack's defaults). When the endpoint stops
// serving, the session ends and the client's next datagram chooses anew. The table is bounded; the oldest goes first.

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { noteFailure, noteSuccess } from '../balance.ts';
import type { ListenSpec } from './messages.ts';
import type { ServedPort, Target } from './port.ts';

export const udpLimits = Object.freeze({ idleMs: 30_000, answeredIdleMs: 120_000, sweepMs: 1_000, waitingMax: 16 });

export interface UdpContext { nowMs(): number; readonly sessionsMax: number }

interface Session {
  readonly key: string; readonly listener: Socket; readonly clientIP: string; readonly clientPort: number;
  readonly port: ServedPort; readonly target: Target; readonly socket: Socket;
  lastMs: number; isAnswered: boolean; isConnected: boolean; readonly waiting: Buffer[];
}

export class UdpEngine {
  readonly #context: UdpContext;
  /** In order of last use: the first is the oldest. */
  readonly #sessions = new Map<string, Session>();

  constructor(context: UdpContext) { this.#context = context; }

  get sessionCount(): number { return this.#sessions.size; }

  onDatagram(listener: Socket, spec: ListenSpec, port: ServedPort, bytes: Buffer, from: RemoteInfo): void {
    const key = `${spec.address} ${spec.port} ${from.address} ${from.port}`;
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = this.#open(key, listener, spec, port, from);
      if (session === undefined) { port.count('refused'); return; }
    } else {
      this.#sessions.delete(key);
      this.#sessions.set(key, session);
    }
    session.lastMs = this.#context.nowMs();
    port.count('bytesIn', bytes.length);
    if (session.isConnected) session.socket.send(bytes);
    else if (session.waiting.length < udpLimits.waitingMax) session.waiting.push(bytes);
  }

  /** Ends sessions of this port whose endpoint does not serve any more. */
  reconcile(port: ServedPort): void {
    const serving = new Set(port.spec.serving);
    for (const session of [...this.#sessions.values()]) if (session.port === port && !serving.has(session.target.ip)) this.#close(session);
  }

  closePort(port: ServedPort): void {
    for (const session of [...this.#sessions.values()]) if (session.port === port) this.#close(session);
  }

  sweep(): void {
    const nowMs = this.#context.nowMs();
    for (const session of [...this.#sessions.values()]) {
      if (nowMs - session.lastMs >= (session.isAnswered ? udpLimits.answeredIdleMs : udpLimits.idleMs)) this.#close(session);
    }
  }

  close(): void { for (const session of [...this.#sessions.values()]) this.#close(session); }

  #open(key: string, listener: Socket, spec: ListenSpec, port: ServedPort, from: RemoteInfo): Session | undefined {
    const nowMs = this.#context.nowMs();
    const target = port.pick(port.candidates(spec, from.address), from.address, undefined, nowMs);
    if (target === undefined) return undefined;
    if (this.#sessions.size >= this.#context.sessionsMax) this.#close(this.#sessions.values().next().value as Session);
    const socket = createSocket(target.ip.includes(':') ? 'udp6' : 'udp4');
    const session: Session = { key, listener, clientIP: from.address, clientPort: from.port, port, target, socket, lastMs: nowMs, isAnswered: false, isConnected: false, waiting: [] };
    this.#sessions.set(key, session);
    target.outstanding += 1;
    port.count('accepted');
    port.count('active');
    socket.on('error', () => {
      noteFailure(target, this.#context.nowMs());
      port.count('connectFailed');
      this.#close(session);
    });
    socket.on('message', (bytes) => {
      session.lastMs = this.#context.nowMs();
      if (!session.isAnswered) { session.isAnswered = true; noteSuccess(target, 0); }
      port.count('bytesOut', bytes.length);
      listener.send(bytes, session.clientPort, session.clientIP);
    });
    socket.connect(target.port, target.ip, () => {
      session.isConnected = true;
      for (const bytes of session.waiting.splice(0)) socket.send(bytes);
    });
    return session;
  }

  #close(session: Session): void {
    if (this.#sessions.get(session.key) !== session) return;
    this.#sessions.delete(session.key);
    session.target.outstanding -= 1;
    session.port.count('active', -1);
    try { session.socket.close(); } catch { /* never opened */ }
  }
}
