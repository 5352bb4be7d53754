// Pages of history that were read back from disk, kept for a few seconds: after a restart hundreds of watchers resume at
// nearly the same revision, and each page should be read, checked, parsed and put into bytes once for all of them.
// Part of ./disk-history.ts.

import type { StoredChange } from '../stored.ts';

const pagesMax = 8;
const unusedMs = 5_000;

/** Complete for the revisions of its resource in (from, to]. `tails` holds what was asked for, by revision. */
export interface Page { resource: string; from: number; to: number; events: StoredChange[]; usedMs: number; tails: Map<number, StoredChange[]> }

/** The most recently used pages. */
export class PageCache {
  #pages: Page[] = [];

  /** The page that covers `after`. */
  find(resource: string, after: number, nowMs: number): Page | undefined {
    const page = this.#pages.find((one) => one.resource === resource && one.from <= after && after < one.to);
    if (page !== undefined) page.usedMs = nowMs;
    return page;
  }

  /** The same array for the same question, so that users can share what they make of it. */
  eventsAfter(page: Page, after: number): StoredChange[] {
    let tail = page.tails.get(after);
    if (tail === undefined) page.tails.set(after, tail = page.events.filter((event) => event.revision > after));
    return tail;
  }

  add(page: Page): Page {
    this.#pages.push(page);
    if (this.#pages.length > pagesMax) {
      const oldest = this.#pages.reduce((least, one) => one.usedMs < least.usedMs ? one : least);
      this.#pages.splice(this.#pages.indexOf(oldest), 1);
    }
    return page;
  }

  /** Forgets the pages of a resource. */
  drop(resource: string): void { this.#pages = this.#pages.filter((page) => page.resource !== resource); }

  /** Forgets what was not used for a while. */
  expire(nowMs: number): void {
    if (this.#pages.length > 0) this.#pages = this.#pages.filter((page) => nowMs - page.usedMs < unusedMs);
  }
}
