// Keeps certificates from running out under a server that is never restarted: looks every hour, makes new ones while
// the old still hold, and hands them to whoever shows them. Connections that are open stay open; the authorities stay.

import { X509Certificate } from 'node:crypto';
import type { Clock, TimerHandle } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import type { KeyPair } from './certificates.ts';

export interface RenewalOptions {
  clock: Clock; log: Log;
  /** Makes the pair anew when its end is near, else gives back the same; by what it is for. */
  pairs: Readonly<Record<string, () => KeyPair>>;
  /** Called with each new pair. */
  onRenewed: (name: string, pair: KeyPair) => void;
  /** Whether a certificate still lasts long enough. */
  isFresh: (pair: KeyPair) => boolean;
}

/** How often certificates are looked at. */
export const renewalPeriodMs = 3_600_000;

/** The certificates of one control plane. */
export class Renewal {
  readonly #options: RenewalOptions;
  readonly #current = new Map<string, KeyPair>();
  #timer: TimerHandle | undefined;

  constructor(options: RenewalOptions) { this.#options = options; }

  /** The pair in use; made at the first call. */
  get(name: string): KeyPair {
    let pair = this.#current.get(name);
    if (pair === undefined) this.#current.set(name, pair = this.#make(name));
    return pair;
  }

  start(): void { this.#timer ??= this.#options.clock.every(renewalPeriodMs, () => this.check()); }
  stop(): void { this.#timer?.cancel(); this.#timer = undefined; }

  /** Renews what is near its end. A failure is told, and the next look tries again. */
  check(): void {
    const { log, isFresh, onRenewed } = this.#options;
    for (const [name, pair] of this.#current) {
      if (isFresh(pair)) continue;
      try {
        const made = this.#make(name);
        onRenewed(name, made);
        this.#current.set(name, made);
        log.info('certificate renewed', { certificate: name, until: new X509Certificate(made.certPem).validTo });
      } catch (error) {
        log.error('certificate near its end cannot be renewed', { certificate: name, until: new X509Certificate(pair.certPem).validTo, err: error });
      }
    }
  }

  #make(name: string): KeyPair {
    const make = this.#options.pairs[name];
    if (make === undefined) throw new Error(`no such certificate: ${name}`);
    return make();
  }
}
