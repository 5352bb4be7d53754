// What every handler gets: the running server's parts, and the request at hand.

import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { ControlConfig } from '../config.ts';
import type { ResourceInfo } from '../resources.ts';
import type { Storage } from '../storage/store.ts';
import type { UserInfo } from './auth/user.ts';
import type { Exchange } from './http/exchange.ts';
import type { Negotiated } from './http/negotiate.ts';
import type { Registry } from './registry.ts';
import type { RequestInfo } from './request-info.ts';
import type { ClaimingWrites } from './verbs/claims.ts';
import type { WriteHooks } from './verbs/hooks.ts';
import type { KeyedLock } from './verbs/locks.ts';
import type { WatchSet } from './verbs/watch-set.ts';

/** The parts of one API server. */
export interface ServerParts {
  readonly storage: Storage;
  /** Writes of objects go through here. */
  readonly writes: ClaimingWrites;
  readonly registry: Registry;
  readonly hooks: WriteHooks;
  readonly watches: WatchSet;
  /** Writes that lost a race, one at a time per object. */
  readonly retries: KeyedLock;
  readonly config: ControlConfig;
  readonly clock: Clock;
  readonly log: Log;
  /** Told when a CustomResourceDefinition was marked for deletion. */
  readonly onDefinitionMarked: (name: string) => void;
}

/** One request to a resource, authenticated and authorised. */
export interface RequestContext {
  readonly server: ServerParts;
  readonly exchange: Exchange;
  readonly info: RequestInfo;
  readonly resource: ResourceInfo;
  readonly user: UserInfo;
  readonly negotiated: Negotiated;
  /** Sent as Warning headers with the answer. */
  readonly warnings: string[];
}
