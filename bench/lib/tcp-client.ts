// TCP load: a new connection per request (connect, optional echo, close), or exchanges on kept connections.

import { connect, type Socket } from 'node:net';
import type { Pacer, Slot } from './pacer.ts';
import type { LoadPlan } from './plan.ts';

export class TcpSlot implements Slot {
  intendedMs = 0;
  isBusy = false;
  deadlineMs = 0;
  readonly #plan: LoadPlan;
  readonly #pacer: Pacer;
  #socket: Socket | undefined;
  #received = 0;
  #sentCount = 0;

  constructor(plan: LoadPlan, pacer: Pacer) {
    this.#plan = plan;
    this.#pacer = pacer;
  }

  send(): void {
    this.#received = 0;
    this.#sentCount += 1;
    const present = this.#socket;
    if (present !== undefined) { present.write(this.#plan.payload); return; }
    const socket = connect({ host: this.#plan.host, port: this.#plan.port, noDelay: true }, () => {
      if (this.#plan.payload === '') this.#finish();
      else socket.write(this.#plan.payload);
    });
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.length;
      if (this.isBusy && this.#received >= this.#plan.payload.length) this.#finish();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => this.#failed(socket, error.code ?? 'error'));
    socket.on('close', () => this.#failed(socket, 'closed'));
  }

  abort(): void { this.#drop(); }

  #failed(socket: Socket, kind: string): void {
    if (socket !== this.#socket) return;
    this.#drop();
    if (this.isBusy) { this.#pacer.fail(this, kind); setImmediate(() => this.#pacer.free(this)); }
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#sentCount = 0;
    socket?.destroy();
  }

  #finish(): void {
    const most = this.#plan.requestsPerConnection;
    if (most > 0 && this.#sentCount >= most) {
      const socket = this.#socket;
      this.#socket = undefined;
      this.#sentCount = 0;
      socket?.resetAndDestroy();
    }
    this.#pacer.done(this, this.#received, '', '');
    this.#pacer.free(this);
  }
}
