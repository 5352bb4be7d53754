// Events about Services, written to the API server: at most a few a second, never awaited by a sync, dropped and
// counted when the server is away. Called by proxier when nobody gives it a recorder of its own.

import type { ApiClient } from '../api/client.ts';
import type { Clock } from '../api/clock.ts';
import { formatTime } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import { resources } from '../api/resources.ts';
import type { ServiceInfo } from '../api/services.ts';
import type { Event } from '../api/types.ts';

export interface ServiceEvent { readonly service: ServiceInfo; readonly type: 'Normal' | 'Warning'; readonly reason: string; readonly message: string }
export type EventRecorder = (event: ServiceEvent) => void;

/** Events under way at a time; more are dropped, since the next sync of a bad object says the same again. */
const pendingMax = 50;

/** Makes a recorder. The event's name is the Service's plus a number that rises with time, as client-go does it. */
export function createEventRecorder(options: { client: ApiClient; nodeName: string; clock: Clock; log: Log }): EventRecorder {
  const { client, nodeName, clock, log } = options;
  let pendingCount = 0;
  let sequence = 0;
  return ({ service, type, reason, message }) => {
    if (pendingCount >= pendingMax) return;
    const { namespace = 'default', name, uid, resourceVersion } = service.service.metadata;
    const now = formatTime(clock.nowMs());
    const event: Event = {
      apiVersion: 'v1', kind: 'Event', metadata: { name: `${name}.${(clock.nowMs() * 1000 + (sequence++ % 1000)).toString(16)}`, namespace },
      involvedObject: { apiVersion: 'v1', kind: service.service.kind ?? 'Service', name, namespace, ...(uid === undefined ? {} : { uid }), ...(resourceVersion === undefined ? {} : { resourceVersion }) },
      type, reason, message: message.slice(0, 1024), count: 1, firstTimestamp: now, lastTimestamp: now,
      source: { component: 'netloom-proxy', host: nodeName }, reportingComponent: 'netloom-proxy', reportingInstance: nodeName,
    };
    pendingCount += 1;
    client.create(resources.events, namespace, event)
      .catch((err: unknown) => { log.debug('event not written', { service: service.key, err }); })
      .finally(() => { pendingCount -= 1; });
  };
}
