// What every controller gets, and what it must offer to the manager.

import type { ApiClient } from '../../api/client.ts';
import type { Clock } from '../../api/clock.ts';
import type { SharedInformers } from '../../api/informer.ts';
import type { Log } from '../../api/log.ts';
import type { ControllersConfig } from './config.ts';
import type { EventRecorder } from './events.ts';
import type { WorkQueue } from './work-queue.ts';

export interface ControllerContext {
  readonly client: ApiClient;
  readonly informers: SharedInformers;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: ControllersConfig;
  readonly events: EventRecorder;
  readonly random: () => number;
}

/** A controller subscribes to informers when it is made, and works from `start` on, when all informers have synced. */
export interface Controller {
  readonly name: string;
  readonly queues: readonly WorkQueue[];
  start(): void;
  stop(): void;
}
