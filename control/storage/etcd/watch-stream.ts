// One watch on everything below the prefix, kept open: reconnects from the revision after the last one seen, on the next
// endpoint. All clients of this server are fanned out from it in process.
// Feeds ./storage.ts. Source: etcd v3 Watch; events of one revision are never split over two messages.

import type { Clock, TimerHandle } from '../../../api/clock.ts';
import type { Log } from '../../../api/log.ts';
import type { EtcdClient, EtcdStream } from './client.ts';
import { base64, rangeEnd } from './codec.ts';

const reconnectMsMin = 20;
const reconnectMsMax = 1_000;

export interface EtcdEvent { type?: 'DELETE'; kv: { key: string; value?: string; mod_revision: string; create_revision?: string } }
interface WatchMessage {
  result?: { header?: { revision?: string }; created?: boolean; canceled?: boolean; cancel_reason?: string; compact_revision?: string; events?: EtcdEvent[] };
  error?: { message?: string };
}

export interface WatchStreamOptions {
  client: EtcdClient; clock: Clock; log: Log; prefix: string;
  /** The last revision that was taken over. */
  position: () => number;
  onEvents: (events: EtcdEvent[]) => void;
  /** The position was compacted away: what happened since then is lost. */
  onCompacted: () => Promise<void>;
}

/** Keeps a watch running until `stop()`. */
export class WatchStream {
  readonly #options: WatchStreamOptions;
  #stream: EtcdStream | undefined;
  #retry: TimerHandle | undefined;
  #pauseMs = reconnectMsMin;
  #isStopped = false;
  /** Monotonic time of the last message; tells a silent stream from a dead one. */
  lastMessageMs = 0;
  /** Where the stream is connected to. */
  endpoint = '';

  constructor(options: WatchStreamOptions) { this.#options = options; }

  start(): void {
    const { client, prefix, position, clock } = this.#options;
    this.lastMessageMs = clock.monotonicMs();
    this.endpoint = client.endpoint;
    const create_request = { key: base64(prefix), range_end: rangeEnd(prefix), start_revision: String(position() + 1), progress_notify: true };
    this.#stream = client.stream('/v3/watch', { create_request }, (message) => this.#receive(message as WatchMessage), (error) => this.#lost(error));
  }

  #receive(message: WatchMessage): void {
    this.lastMessageMs = this.#options.clock.monotonicMs();
    const { result } = message;
    if (result === undefined) return this.#abandon(new Error(message.error?.message ?? 'the watch was refused'));
    if (result.compact_revision !== undefined) return void this.#reload();
    if (result.canceled === true) return this.#abandon(new Error(result.cancel_reason ?? 'the watch was cancelled'));
    this.#pauseMs = reconnectMsMin;
    if (result.events !== undefined && result.events.length > 0) this.#options.onEvents(result.events);
  }

  async #reload(): Promise<void> {
    this.#stream?.close();
    try {
      await this.#options.onCompacted();
      if (!this.#isStopped) this.start();
    } catch (error) {
      this.#lost(error as Error);
    }
  }

  #abandon(error: Error): void {
    this.#stream?.close();
    this.#lost(error);
  }

  #lost(error: Error): void {
    if (this.#isStopped) return;
    this.#options.log.warn('etcd watch lost, reconnecting', { endpoint: this.endpoint, err: error });
    if (this.#options.client.endpoint === this.endpoint) this.#options.client.rotate();
    this.#retry?.cancel();
    this.#retry = this.#options.clock.after(this.#pauseMs, () => { if (!this.#isStopped) this.start(); });
    this.#pauseMs = Math.min(this.#pauseMs * 2, reconnectMsMax);
  }

  /** Drops the connection and opens a new one elsewhere. */
  reconnect(reason: string): void {
    if (!this.#isStopped) this.#abandon(new Error(reason));
  }

  stop(): void {
    this.#isStopped = true;
    this.#retry?.cancel();
    this.#stream?.close();
  }
}
