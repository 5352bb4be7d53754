// WebSocket load: one connection per slot, a masked text frame out, the echoed frame back.

import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { Pacer, Slot } from './pacer.ts';
import type { LoadPlan } from './plan.ts';

export class WebSocketSlot implements Slot {
  intendedMs = 0;
  isBusy = false;
  deadlineMs = 0;
  readonly #plan: LoadPlan;
  readonly #pacer: Pacer;
  readonly #frame: Buffer;
  readonly #answerLength: number;
  #socket: Socket | undefined;
  #isOpen = false;
  #received = 0;
  #head = '';

  constructor(plan: LoadPlan, pacer: Pacer) {
    this.#plan = plan;
    this.#pacer = pacer;
    const text = Buffer.from(plan.payload === '' ? 'hello' : plan.payload).subarray(0, 125);
    this.#frame = Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), text]);
    this.#answerLength = 2 + text.length;
  }

  send(): void {
    this.#received = 0;
    if (this.#isOpen) { this.#socket?.write(this.#frame); return; }
    const socket = connect({ host: this.#plan.host, port: this.#plan.port, noDelay: true });
    this.#socket = socket;
    this.#head = '';
    socket.write(`GET ${this.#plan.path} HTTP/1.1\r\nHost: ${this.#plan.serverName === '' ? this.#plan.host : this.#plan.serverName}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`);
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('error', () => {});
    socket.on('close', () => { if (socket === this.#socket) { this.abort(); if (this.isBusy) { this.#pacer.fail(this, 'closed'); setImmediate(() => this.#pacer.free(this)); } } });
  }

  abort(): void { const socket = this.#socket; this.#socket = undefined; this.#isOpen = false; socket?.destroy(); }

  #read(chunk: Buffer): void {
    if (!this.#isOpen) {
      this.#head += chunk.latin1Slice();
      if (!this.#head.includes('\r\n\r\n')) return;
      if (!this.#head.startsWith('HTTP/1.1 101')) { this.#pacer.fail(this, `upgrade ${this.#head.slice(9, 12)}`); this.abort(); this.#pacer.free(this); return; }
      this.#isOpen = true;
      this.#socket?.write(this.#frame);
      return;
    }
    this.#received += chunk.length;
    if (this.#received < this.#answerLength) return;
    this.#pacer.done(this, this.#received, '', '');
    this.#pacer.free(this);
  }
}
