// Gives every node its own part of the Pod range, from which its agent takes Pod addresses. A node that registered with
// a podCIDR keeps it; two nodes never get overlapping ones.
// Source: kubernetes pkg/controller/nodeipam/ipam (RangeAllocator).

import { formatIP, parseCIDR, type Cidr } from '../../../api/address.ts';
import { isNotFound } from '../../../api/errors.ts';
import { resources } from '../../../api/resources.ts';
import type { Node } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { WorkQueue } from '../work-queue.ts';

export class PodCidrController implements Controller {
  readonly name = 'node-ipam';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #ranges: readonly Cidr[];
  /** CIDR text → node that has it. */
  readonly #taken = new Map<string, string>();
  readonly #unsubscribe: () => void;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers, config } = context;
    this.#ranges = config.podCIDRs.map((text) => parseCIDR(text)).filter((cidr) => cidr !== undefined);
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: 1, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = informers.nodes.onChange(({ type, key, object }) => {
      if (type === 'delete') this.#free(key);
      else this.#take(object);
      if (type !== 'delete' && cidrsOf(object).length === 0) this.#queue.add(key);
    });
  }

  start(): void {
    for (const [key, node] of this.#context.informers.nodes.store.entries()) {
      this.#take(node);
      this.#queue.add(key);
    }
    this.#queue.start();
  }

  stop(): void {
    this.#unsubscribe();
    this.#queue.stop();
  }

  #free(name: string): void { for (const [cidr, holder] of [...this.#taken]) if (holder === name) this.#taken.delete(cidr); }
  #take(node: Node): void { for (const cidr of cidrsOf(node)) if (!this.#taken.has(cidr)) this.#taken.set(cidr, node.metadata.name); }

  async #sync(name: string): Promise<void> {
    const node = this.#context.informers.nodes.store.get(name);
    if (node === undefined || cidrsOf(node).length > 0) return;
    const podCIDRs = this.#ranges.map((range) => this.#pick(range)).filter((cidr) => cidr !== undefined);
    if (podCIDRs.length < this.#ranges.length || podCIDRs.length === 0) {
      this.#context.events.record(resources.nodes, node, 'Warning', 'CIDRNotAvailable', `Node ${name} has no podCIDR: the Pod range ${this.#ranges.join(', ')} is used up`);
      return;
    }
    for (const cidr of podCIDRs) this.#taken.set(cidr, name);
    try {
      await this.#context.client.patch(resources.nodes, undefined, name, { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { podCIDR: podCIDRs[0], podCIDRs } }, { type: 'merge' });
    } catch (error) {
      for (const cidr of podCIDRs) this.#taken.delete(cidr);
      if (!isNotFound(error)) throw error;
    }
  }

  /** First part of the range that overlaps nothing that is taken. */
  #pick(range: Cidr): string | undefined {
    const { config } = this.#context;
    const length = Math.max(range.prefixLength, range.family === 'IPv4' ? config.nodeCIDRMaskIPv4 : config.nodeCIDRMaskIPv6);
    const count = 2 ** Math.min(16, length - range.prefixLength);
    for (let index = 0; index < count; index++) {
      const cidr = partOf(range, length, index);
      if (![...this.#taken.keys()].some((other) => overlaps(cidr, other))) return cidr;
    }
    return undefined;
  }
}

function cidrsOf(node: Node): readonly string[] {
  if ((node.spec?.podCIDRs?.length ?? 0) > 0) return node.spec?.podCIDRs ?? [];
  return node.spec?.podCIDR === undefined || node.spec.podCIDR === '' ? [] : [node.spec.podCIDR];
}

/** The index-th network of the given prefix length inside the range. */
export function partOf(range: Cidr, prefixLength: number, index: number): string {
  const bits = range.bytes.length * 8;
  const bytes = Uint8Array.from(range.bytes);
  let carry = BigInt(index) << BigInt(bits - prefixLength);
  for (let at = bytes.length - 1; at >= 0 && carry > 0n; at--) {
    carry += BigInt(bytes[at] ?? 0);
    bytes[at] = Number(carry & 255n);
    carry >>= 8n;
  }
  return `${formatIP(bytes)}/${prefixLength}`;
}

function overlaps(a: string, b: string): boolean {
  const [x, y] = [parseCIDR(a), parseCIDR(b)];
  return x !== undefined && y !== undefined && x.family === y.family && (x.contains(y.base) || y.contains(x.base));
}
