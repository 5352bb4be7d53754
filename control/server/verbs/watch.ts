// watch: a stream of changes of one collection as JSON lines. Path: storage commits → StoredEvent → here → reply.
// Lines of unfiltered watches are the bytes that the store made once for everybody; a batch is joined once and shared.
// A client that reads slowly is paused at the store and goes on from the history without a gap.
// Source: Kubernetes API concepts "Efficient detection of changes", KEP-3157 (streaming lists).

import { toStatus } from '../../../api/errors.ts';
import type { TimerHandle } from '../../../api/clock.ts';
import type { KubeObject } from '../../../api/types.ts';
import { groupVersion } from '../../resources.ts';
import type { Stored, StoredEvent, StoreWatch } from '../../storage/store.ts';
import type { RequestContext } from '../context.ts';
import { mayNeedConversion, toServed } from '../conversion.ts';
import { drained } from '../http/respond.ts';
import { metadataOf, tableOf } from '../printing/table.ts';
import { hasSelectors, isSelected, readListOptions, type ListOptions } from './list-options.ts';
import { awaitRevision, selectPage, singleKey } from './read.ts';
import type { OpenWatch } from './watch-set.ts';

const bookmarkPeriodMs = 60_000;
/** Before a watch times out its client gets a last bookmark this early. */
const lastBookmarkMs = 2_000;
const timeoutSecondsMin = 1_800;
/** Bytes of initial events written between two looks at the client's pace. */
const initialPieceLength = 256 * 1024;

const joinedBatches = new WeakMap<readonly StoredEvent[], Buffer>();

/** GET with watch=true. Resolves when the stream is set up; it then lives by events. */
export async function watchObjects(context: RequestContext): Promise<void> {
  const options = readListOptions(context.exchange.query, context.resource);
  await awaitRevision(context.server.storage, options.revision);
  const stream = new WatchStream(context, options);
  await stream.start();
}

class WatchStream implements OpenWatch {
  readonly #context: RequestContext;
  readonly #options: ListOptions;
  readonly #isPassThrough: boolean;
  readonly #isFiltering: boolean;
  #watch: StoreWatch | undefined;
  #timers: TimerHandle[] = [];
  #remove: () => void = () => {};
  #isEnded = false;
  #hasSentColumns = false;

  constructor(context: RequestContext, options: ListOptions) {
    this.#context = context;
    this.#options = options;
    this.#isFiltering = hasSelectors(options);
    this.#isPassThrough = !this.#isFiltering && context.negotiated.form === 'object' && !mayNeedConversion(context.resource);
  }

  async start(): Promise<void> {
    const { exchange, server, user } = this.#context;
    this.#remove = server.watches.add(this, user.username);
    exchange.reply.onClose(() => this.#close());
    exchange.reply.head(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
    try {
      const from = await this.#sendInitial();
      if (this.#isEnded) return;
      this.#open(from);
      this.#startTimers();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Sends the present state where it is asked for; returns the revision to go on from. */
  async #sendInitial(): Promise<number> {
    const { server, resource, info } = this.#context;
    const { revision, sendInitialEvents } = this.#options;
    const isWanted = sendInitialEvents ?? (revision === undefined || revision === 0);
    if (!isWanted) return revision === undefined || revision === 0 ? server.storage.revision : revision;
    const selection = await selectPage(server.storage, resource, info.namespace, { ...this.#options, limit: undefined, continueToken: undefined, revision: 0, match: undefined });
    let piece = '';
    for (const stored of selection.items) {
      piece += this.#line('ADDED', stored.object, stored);
      if (piece.length < initialPieceLength) continue;
      await this.#writePaced(piece);
      piece = '';
      if (this.#isEnded) return selection.revision;
    }
    if (piece !== '') await this.#writePaced(piece);
    if (sendInitialEvents === true && this.#options.allowsBookmarks) this.#bookmark(selection.revision, { 'k8s.io/initial-events-end': 'true' });
    return selection.revision;
  }

  async #writePaced(text: string): Promise<void> {
    const { reply } = this.#context.exchange;
    if (!reply.write(text)) await drained(reply);
  }

  #open(from: number): void {
    const { server, resource, info } = this.#context;
    const single = singleKey(resource, info.namespace, this.#options);
    const prefix = single ?? (resource.isNamespaced && info.namespace !== '' ? `${info.namespace}/` : undefined);
    this.#watch = server.storage.watch(resource.storage, from, (events) => this.#deliver(events), (error) => { if (error === undefined) this.end(); else this.#fail(error); }, prefix === undefined ? {} : { prefix });
  }

  #startTimers(): void {
    const { clock } = this.#context.server;
    const seconds = this.#options.timeoutSeconds ?? timeoutSecondsMin * (1 + Math.random());
    const timeoutMs = Math.min(seconds * 1000, 2 ** 31 - 1);
    this.#timers.push(clock.after(timeoutMs, () => this.end()));
    if (!this.#options.allowsBookmarks) return;
    this.#timers.push(clock.every(bookmarkPeriodMs * (0.9 + Math.random() / 5), () => this.#bookmarkNow()));
    if (timeoutMs > 2 * lastBookmarkMs) this.#timers.push(clock.after(timeoutMs - lastBookmarkMs, () => this.#bookmarkNow()));
  }

  #bookmarkNow(): void { if (this.#watch !== undefined && !this.#isEnded) this.#bookmark(this.#watch.revision); }

  #bookmark(revision: number, annotations?: Record<string, string>): void {
    const { resource, exchange, negotiated } = this.#context;
    const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...(annotations === undefined ? {} : { annotations }) };
    let object: object = { kind: resource.kind, apiVersion: groupVersion(resource), metadata };
    if (negotiated.form === 'table') object = tableOf(this.#context, [object as KubeObject], { resourceVersion: String(revision) }, { isBare: true });
    exchange.reply.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
  }

  #deliver(events: readonly StoredEvent[]): boolean {
    if (this.#isEnded) return true;
    const { reply } = this.#context.exchange;
    const chunk = this.#isPassThrough ? joined(events) : this.#select(events);
    if (chunk.length === 0 || reply.write(chunk)) return true;
    reply.onDrain(() => { if (!this.#isEnded) this.#watch?.resume(); });
    return false;
  }

  #select(events: readonly StoredEvent[]): string {
    let text = '';
    for (const event of events) {
      const { previous } = event;
      const isIn = event.type !== 'DELETED' && (!this.#isFiltering || isSelected(event.object.object, this.#options));
      const wasIn = previous !== undefined && (!this.#isFiltering || isSelected(previous.object, this.#options));
      if (isIn) text += this.#line(wasIn ? 'MODIFIED' : 'ADDED', event.object.object, event.object);
      else if (event.type === 'DELETED' ? wasIn || (previous === undefined && isSelected(event.object.object, this.#options)) : wasIn) text += this.#line('DELETED', leaving(event), undefined);
    }
    return text;
  }

  #line(type: string, object: KubeObject, stored: Stored | undefined): string {
    const { resource, negotiated } = this.#context;
    if (negotiated.form === 'object') {
      if (stored !== undefined && object.apiVersion === groupVersion(resource)) return `{"type":"${type}","object":${stored.json()}}\n`;
      return `{"type":"${type}","object":${JSON.stringify(toServed(object, resource))}}\n`;
    }
    const served = toServed(object, resource);
    if (negotiated.form === 'metadata') return `${JSON.stringify({ type, object: metadataOf(served, negotiated.version) })}\n`;
    const table = tableOf(this.#context, [served], { resourceVersion: served.metadata.resourceVersion }, { hasNoColumns: this.#hasSentColumns });
    this.#hasSentColumns = true;
    return `${JSON.stringify({ type, object: table })}\n`;
  }

  /** Ends the stream after an ERROR event: clients recover only when it ends. */
  #fail(error: unknown): void {
    if (this.#isEnded) return;
    this.#context.exchange.reply.write(`${JSON.stringify({ type: 'ERROR', object: toStatus(error) })}\n`);
    this.end();
  }

  end(): void {
    if (this.#isEnded) return;
    this.#close();
    this.#context.exchange.reply.end();
  }

  #close(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
    this.#watch?.stop();
    this.#remove();
  }
}

/** The last state that was in the selection, under the revision at which it left. */
function leaving(event: StoredEvent): KubeObject {
  const last = event.type === 'DELETED' ? event.object.object : (event.previous as Stored).object;
  return { ...last, metadata: { ...last.metadata, resourceVersion: String(event.revision) } };
}

/** All lines of a batch as one buffer, made once for all watchers that get the same batch. */
function joined(events: readonly StoredEvent[]): Buffer {
  if (events.length === 1) return (events[0] as StoredEvent).line();
  let buffer = joinedBatches.get(events);
  if (buffer === undefined) joinedBatches.set(events, buffer = Buffer.concat(events.map((event) => event.line())));
  return buffer;
}
