// ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, numbered, for `kubectl rollout history`
// and undo. A Pod says by its controller-revision-hash label which one it was made from.
// Source: kubernetes pkg/controller/history.

import { isAlreadyExists, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import type { ResourceRef } from '../../../api/resources.ts';
import type { KubeObject, LabelSelector } from '../../../api/types.ts';
import type { ControllerContext } from '../context.ts';
import { OwnWrites } from '../own-writes.ts';
import { controllerOf, controllerRef } from './pod-control.ts';
import { templateHash, templateText } from './rollout.ts';
import type { PodTemplate } from './types.ts';

export const revisionHashLabel = 'controller-revision-hash';
const revisionsRef: ResourceRef = Object.freeze({ group: 'apps', version: 'v1', resource: 'controllerrevisions', kind: 'ControllerRevision', isNamespaced: true });

interface ControllerRevision extends KubeObject { data?: { spec?: { template?: PodTemplate & { $patch?: string } } }; revision: number }
interface Owner extends KubeObject { spec?: { template?: PodTemplate; selector?: LabelSelector; revisionHistoryLimit?: number } }

export class Revisions {
  readonly #context: ControllerContext;
  readonly #owner: ResourceRef;
  readonly #own: OwnWrites<ControllerRevision>;

  constructor(context: ControllerContext, owner: ResourceRef) {
    this.#context = context;
    this.#owner = owner;
    const informer: Informer<ControllerRevision> = context.informers.for<ControllerRevision>(revisionsRef);
    this.#own = new OwnWrites(informer, 'controllerUid', (each) => [controllerOf(each)?.uid ?? '']);
  }

  stop(): void { this.#own.stop(); }

  /** The hash of the owner's current template; its revision is made, or moved to the end, when needed. */
  async current(owner: Owner): Promise<string> {
    const all = this.#own.list(owner.metadata.uid ?? '').sort((a, b) => a.revision - b.revision);
    const wanted = templateText(owner.spec?.template);
    const same = all.find((each) => templateText(withoutPatch(each.data?.spec?.template)) === wanted);
    const last = all.at(-1)?.revision ?? 0;
    if (same !== undefined) {
      if (same.revision < last) this.#own.wrote(await this.#context.client.update<ControllerRevision>(revisionsRef, { ...same, revision: last + 1 }));
      return same.metadata.labels?.[revisionHashLabel] ?? '';
    }
    return this.#create(owner, last + 1);
  }

  async #create(owner: Owner, revision: number): Promise<string> {
    const { name, namespace } = owner.metadata;
    for (let collision = 0; ; collision++) {
      const hash = templateHash(owner.spec?.template, collision);
      const object: ControllerRevision = {
        metadata: { name: `${name}-${hash}`, ...(namespace === undefined ? {} : { namespace }), labels: { ...owner.spec?.selector?.matchLabels, [revisionHashLabel]: hash }, ownerReferences: [controllerRef(this.#owner, owner)] },
        data: { spec: { template: { ...owner.spec?.template, $patch: 'replace' } } }, revision,
      };
      try {
        this.#own.wrote(await this.#context.client.create<ControllerRevision>(revisionsRef, namespace, object));
        return hash;
      } catch (error) { if (!isAlreadyExists(error) || collision > 8) throw error; }
    }
  }

  /** Removes old revisions that no Pod uses, beyond the limit. */
  async trim(owner: Owner, hashesInUse: ReadonlySet<string>): Promise<void> {
    const unused = this.#own.list(owner.metadata.uid ?? '').filter((each) => !hashesInUse.has(each.metadata.labels?.[revisionHashLabel] ?? '')).sort((a, b) => a.revision - b.revision);
    for (const each of unused.slice(0, Math.max(0, unused.length - (owner.spec?.revisionHistoryLimit ?? 10)))) {
      try { await this.#context.client.delete(revisionsRef, each.metadata.namespace, each.metadata.name); } catch (error) { if (!isNotFound(error)) throw error; }
      this.#own.removed(each);
    }
  }
}

function withoutPatch(template: (PodTemplate & { $patch?: string }) | undefined): PodTemplate {
  const { $patch: _patch, ...rest } = template ?? {};
  return rest;
}
