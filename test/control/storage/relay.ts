// A TCP relay that tests put between a server and etcd: it can cut every connection, refuse new ones, and cut at random
// byte counts.

import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** Relays to one port until told otherwise. */
export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;
  endpoint = '';
  /** Bytes after which a relayed connection is cut; asked for each new connection. */
  bytesUntilCut: () => number = () => Infinity;

  constructor(target: string) {
    const { hostname, port } = new URL(target);
    this.#server = createServer((near) => {
      if (this.#isCut) return void near.destroy();
      const far = connect(Number(port), hostname);
      this.#sockets.add(near).add(far);
      let remaining = this.bytesUntilCut();
      const end = (): void => { near.destroy(); far.destroy(); this.#sockets.delete(near); this.#sockets.delete(far); };
      for (const socket of [near, far]) socket.on('error', end).on('close', end);
      near.pipe(far);
      far.on('data', (chunk: Buffer) => {
        near.write(chunk.subarray(0, remaining));
        remaining -= chunk.length;
        if (remaining <= 0) end();
      });
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => { this.#server.listen(0, '127.0.0.1', resolve); });
    this.endpoint = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  /** Cuts everything and refuses until `restore()`. */
  cut(): void {
    this.#isCut = true;
    this.cutOnce();
  }
  /** Cuts what is connected now. */
  cutOnce(): void { for (const socket of this.#sockets) socket.destroy(); }
  restore(): void { this.#isCut = false; }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => { this.#server.close(resolve); });
  }
}
