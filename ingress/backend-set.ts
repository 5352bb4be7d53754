// The Service ports that routes use, who uses them, and their current addresses; only what changed is handed out.
// Main thread; called by controller.ts.

import type { ServiceView } from '../api/services.ts';
import { buildBackend, type BackendContext } from './backends.ts';
import type { BackendNeed } from './plan.ts';
import type { BackendSpec } from './protocol.ts';

interface Entry { need: BackendNeed; readonly users: Set<string>; spec: BackendSpec | undefined; text: string }

export class BackendSet {
  readonly #view: ServiceView;
  readonly #contextOf: (need: BackendNeed) => Omit<BackendContext, 'info'>;
  readonly #entries = new Map<string, Entry>();
  readonly #byService = new Map<string, Set<string>>();
  readonly #byUser = new Map<string, ReadonlySet<string>>();
  readonly #dirty = new Set<string>();
  readonly #gone = new Set<string>();

  constructor(view: ServiceView, contextOf: (need: BackendNeed) => Omit<BackendContext, 'info'> = () => ({})) {
    this.#view = view;
    this.#contextOf = contextOf;
  }

  /** The needs of one Ingress replace those it had. */
  replaceUser(user: string, needs: ReadonlyMap<string, BackendNeed> | undefined): void {
    const before = this.#byUser.get(user) ?? new Set<string>();
    for (const [key, need] of needs ?? []) {
      const entry = this.#entries.get(key);
      if (entry === undefined) {
        this.#entries.set(key, { need, users: new Set([user]), spec: undefined, text: '' });
        const keys = this.#byService.get(need.serviceKey);
        if (keys === undefined) this.#byService.set(need.serviceKey, new Set([key])); else keys.add(key);
        this.#gone.delete(key);
      } else {
        entry.need = need;
        entry.users.add(user);
      }
      this.#dirty.add(key);
    }
    for (const key of before) if (needs?.has(key) !== true) this.#release(key, user);
    if (needs === undefined || needs.size === 0) this.#byUser.delete(user); else this.#byUser.set(user, new Set(needs.keys()));
  }

  #release(key: string, user: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.users.delete(user);
    if (entry.users.size > 0) return;
    this.#entries.delete(key);
    this.#dirty.delete(key);
    this.#gone.add(key);
    const keys = this.#byService.get(entry.need.serviceKey);
    keys?.delete(key);
    if (keys?.size === 0) this.#byService.delete(entry.need.serviceKey);
  }

  /** Marks what depends on a Service; false when nothing does. */
  markService(serviceKey: string): boolean {
    const keys = this.#byService.get(serviceKey);
    if (keys === undefined) return false;
    for (const key of keys) this.#dirty.add(key);
    return true;
  }

  markAll(): void { for (const key of this.#entries.keys()) this.#dirty.add(key); }

  /** What changed since the last call. */
  collect(): [string, BackendSpec | null][] {
    const changed: [string, BackendSpec | null][] = [];
    for (const key of this.#gone) changed.push([key, null]);
    this.#gone.clear();
    for (const key of this.#dirty) {
      const entry = this.#entries.get(key);
      if (entry === undefined) continue;
      const spec = buildBackend(entry.need, { info: this.#view.get(entry.need.serviceKey), ...this.#contextOf(entry.need) });
      const text = JSON.stringify(spec);
      if (text === entry.text) continue;
      entry.spec = spec;
      entry.text = text;
      changed.push([key, spec]);
    }
    this.#dirty.clear();
    return changed;
  }

  usersOf(key: string): Iterable<string> { return this.#entries.get(key)?.users ?? []; }
  get(key: string): BackendSpec | undefined { return this.#entries.get(key)?.spec; }
  *all(): Iterable<[string, BackendSpec]> { for (const [key, { spec }] of this.#entries) if (spec !== undefined) yield [key, spec]; }
}
