// Writes the addresses under which we serve into status.loadBalancer.ingress of our Ingresses and takes them out when an
// Ingress stops being ours (rule 36). One write at a time, retried with delay; conflicts wait for the next event.

import type { ApiClient } from '../api/client.ts';
import type { Clock } from '../api/clock.ts';
import { isConflict, isNotFound } from '../api/errors.ts';
import type { Log } from '../api/log.ts';
import { canonicalIP } from '../api/address.ts';
import { resources } from '../api/resources.ts';
import type { Ingress } from '../api/types.ts';

const retryDelayMs = 1_000;
type IngressStatus = NonNullable<NonNullable<NonNullable<Ingress['status']>['loadBalancer']>['ingress']>;

export class StatusWriter {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #wanted: IngressStatus;
  readonly #ours = new Set<string>();
  readonly #queue = new Map<string, { ingress: Ingress; isOurs: boolean }>();
  #isBusy = false;
  #isStopped = false;

  constructor(client: ApiClient, addresses: readonly string[], clock: Clock, log: Log) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
    this.#wanted = addresses.map((address) => (canonicalIP(address) === undefined ? { hostname: address } : { ip: address }));
  }

  /** Notes what the status of an object should be; writes only when it differs. */
  update(key: string, ingress: Ingress, isOurs: boolean): void {
    const present = ingress.status?.loadBalancer?.ingress ?? [];
    if (isOurs) {
      this.#ours.add(key);
      if (isSame(present, this.#wanted)) { this.#queue.delete(key); return; }
    } else if (!this.#ours.has(key) && !(present.length > 0 && isSame(present, this.#wanted))) { this.#queue.delete(key); return; }
    else if (present.length === 0) { this.#ours.delete(key); this.#queue.delete(key); return; }
    this.#queue.set(key, { ingress, isOurs });
    if (!this.#isBusy) void this.#flush();
  }

  forget(key: string): void { this.#ours.delete(key); this.#queue.delete(key); }
  stop(): void { this.#isStopped = true; this.#queue.clear(); }

  async #flush(): Promise<void> {
    this.#isBusy = true;
    for (let next = this.#queue.entries().next(); next.done !== true && !this.#isStopped; next = this.#queue.entries().next()) {
      const [key, { ingress, isOurs }] = next.value;
      this.#queue.delete(key);
      const { status, ...rest } = ingress;
      const object = { ...rest, status: { ...status, loadBalancer: isOurs ? { ingress: [...this.#wanted] } : {} } };
      try {
        await this.#client.updateStatus(resources.ingresses, object as Ingress);
        if (!isOurs) this.#ours.delete(key);
      } catch (error) {
        if (isNotFound(error) || isConflict(error)) continue;
        this.#log.debug('ingress status not written', { ingress: key, err: error });
        if (!this.#queue.has(key)) this.#queue.set(key, { ingress, isOurs });
        await new Promise<void>((resolve) => { this.#clock.after(retryDelayMs, resolve); });
      }
    }
    this.#isBusy = false;
  }
}

function isSame(a: IngressStatus, b: IngressStatus): boolean {
  return a.length === b.length && a.every((item, index) => item.ip === b[index]?.ip && item.hostname === b[index]?.hostname);
}
