// The DNS thread: builds the zone from the main thread's messages, opens the listeners when told to, and drains them at
// the end. Listening starts only after the first state, so that a successor that shares the port never answers from an
// empty table. Started by api/workers.ts as channel "dns"; the main side is dns/server.ts.

import type { WorkerContext, WorkerSide } from '../api/workers.ts';
import { Engine } from './engine.ts';
import { TcpListener } from './transport/tcp.ts';
import { UdpListener } from './transport/udp.ts';
import type { ZoneMessage } from './zone/records.ts';
import { Zone, type ZoneOptions } from './zone/zone.ts';

/** Start data of the thread; plain values only. */
export interface DnsWorkerData { readonly zone: ZoneOptions }

export interface ListenAddress { readonly address: string; readonly port: number }

export type DnsRequest = ZoneMessage | { readonly type: 'listen'; readonly addresses: readonly ListenAddress[] };

export type DnsReport =
  | { readonly type: 'applied'; readonly sequence: number }
  | { readonly type: 'listening'; readonly addresses: readonly ListenAddress[] }
  | { readonly type: 'failed'; readonly code: string; readonly text: string; readonly address: string; readonly port: number };

const portTriesMax = 20;
const drainQuietMs = 20;

export function startWorker(context: WorkerContext): WorkerSide {
  const data = context.data as DnsWorkerData;
  const zone = new Zone(data.zone);
  const engine = new Engine({ zone, clock: context.clock });
  const listeners: { udp: UdpListener; tcp: TcpListener }[] = [];
  const report = (message: DnsReport): void => context.post(message);

  const open = async (address: string, port: number): Promise<ListenAddress> => {
    for (let tries = 1; ; tries++) {
      const udp = new UdpListener({ engine, clock: context.clock, isShared: true, address });
      const tcp = new TcpListener({ engine, clock: context.clock, isShared: true });
      try {
        const bound = await udp.open(port, address);
        await tcp.open(bound, address);
        listeners.push({ udp, tcp });
        return { address, port: bound };
      } catch (error) {
        udp.close();
        // With port 0 the kernel picked a UDP port whose TCP twin is taken: pick again.
        if (port !== 0 || tries >= portTriesMax) throw error;
      }
    }
  };

  const listen = async (addresses: readonly ListenAddress[]): Promise<void> => {
    const bound: ListenAddress[] = [];
    for (const { address, port } of addresses) {
      try {
        bound.push(await open(address, port));
      } catch (error) {
        const { code = '', message } = error as NodeJS.ErrnoException;
        report({ type: 'failed', code, text: message, address, port });
        return;
      }
    }
    report({ type: 'listening', addresses: bound });
  };

  return {
    receive(message): void {
      const request = message as DnsRequest;
      if (request.type === 'listen') void listen(request.addresses);
      else if (request.type === 'barrier') report({ type: 'applied', sequence: request.sequence });
      else zone.apply(request);
    },
    async stop(drainMs): Promise<void> {
      await Promise.all(listeners.flatMap(({ udp, tcp }) => [udp.drain(drainQuietMs), tcp.drain(drainMs)]));
    },
  };
}
