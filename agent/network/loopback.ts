// Pod addresses without privileges: each Pod owns one address of a range inside 127.0.0.0/8, which any process on
// Linux may bind without it being configured anywhere. The Pod learns it as POD_IP and HOST. The trade: nothing keeps
// two Pods from binding 0.0.0.0 on one port, and there is no resolv.conf of its own.

import { AddressPool } from './address-pool.ts';
import type { NetworkDriver, Sandbox, SandboxRequest } from './network.ts';

const enterNothing = (argv: readonly string[]): readonly string[] => argv;

export class LoopbackNetwork implements NetworkDriver {
  readonly mode = 'loopback';
  readonly #pool: AddressPool;
  readonly #addresses = new Map<string, string>();

  constructor(options: { podCIDR: string }) {
    this.#pool = new AddressPool(options.podCIDR);
  }

  start(): Promise<void> { return Promise.resolve(); }
  stop(): Promise<void> { return Promise.resolve(); }
  cleanupScript(): string { return ''; }

  attach(request: SandboxRequest): Promise<Sandbox> {
    if (request.isHostNetwork) return Promise.resolve({ podIP: '', wrap: enterNothing });
    let podIP = this.#addresses.get(request.podUid);
    if (podIP === undefined) {
      try { podIP = this.#pool.take(); } catch (error) { return Promise.reject(error as Error); }
      this.#addresses.set(request.podUid, podIP);
    }
    return Promise.resolve({ podIP, wrap: enterNothing });
  }

  detach(podUid: string): Promise<void> {
    const podIP = this.#addresses.get(podUid);
    if (podIP !== undefined) this.#pool.release(podIP);
    this.#addresses.delete(podUid);
    return Promise.resolve();
  }
}
