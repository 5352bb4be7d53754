// Node ports: which number is held by which Service. One number may serve several protocols of one Service, never two
// Services. Pure state, driven by ./service-allocation.ts.
// Source: kubernetes pkg/registry/core/service/portallocator, KEP-3668 (reserved static band).

import { pickFree } from './ip-range.ts';

export interface PortSpan { readonly from: number; readonly to: number }

export class PortRange {
  readonly span: PortSpan;
  readonly size: number;
  readonly staticBandSize: number;
  readonly #holders = new Map<number, string>();
  readonly #random: () => number;

  constructor(span: PortSpan, random: () => number = Math.random) {
    this.span = span;
    this.size = span.to - span.from + 1;
    this.staticBandSize = staticBandOfPorts(this.size);
    this.#random = random;
  }

  get usedCount(): number { return this.#holders.size; }
  contains(port: number): boolean { return Number.isInteger(port) && port >= this.span.from && port <= this.span.to; }
  toString(): string { return `${this.span.from}-${this.span.to}`; }
  holder(port: number): string | undefined { return this.#holders.get(port); }
  hold(port: number, holder: string): void { this.#holders.set(port, holder); }
  entries(): IterableIterator<[number, string]> { return this.#holders.entries(); }

  /** Frees the port if this holder has it. */
  free(port: number, holder: string): void { if (this.#holders.get(port) === holder) this.#holders.delete(port); }

  /** A free number, upper band first; undefined when the range is full. */
  pick(): number | undefined {
    const offset = pickFree(this.size, this.staticBandSize, (each) => !this.#holders.has(this.span.from + each), this.#random);
    return offset === undefined ? undefined : this.span.from + offset;
  }
}

/** First min(max(16, size/32), 128) ports: 86 of 30000-32767. A span of 16 or fewer has none. */
export function staticBandOfPorts(size: number): number {
  return size <= 16 ? 0 : Math.min(Math.max(16, Math.floor(size / 32)), 128);
}
