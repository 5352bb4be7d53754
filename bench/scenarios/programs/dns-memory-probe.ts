// One DNS server with very many Services: the heap of its thread fresh and after the A and SRV names of all were asked.
// argv = { serviceCount, perService }.

import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { DnsServer } from '../../../dns/server.ts';
import { runLoad } from '../../lib/load.ts';
import { defaultPlan } from '../../lib/plan.ts';
import { rssMbOf } from '../../lib/proc.ts';
import { World } from '../../lib/world.ts';

const { serviceCount, perService } = JSON.parse(process.argv[2] ?? '{}') as { serviceCount: number; perService: number };
const world = new World(serviceCount, perService);
const server = new DnsServer({ view: world.view, namespaces: world.namespaces.as(), listen: [{ address: '127.0.0.1', port: 0 }], upstreams: [], clock: systemClock, log: silentLog });
const started = performance.now();
await server.start();
const startMs = performance.now() - started;
const mb = async (): Promise<number> => (await server.status()).heapBytes / 1e6;
try {
  const freshMb = await mb();
  let answered = 0;
  for (const [type, prefix] of [[1, ''], [33, '_http._tcp.']] as const) {
    const names = Array.from({ length: serviceCount }, (_, index) => `${prefix}svc-${index}.bench.svc.cluster.local`);
    // The workers ask in turn, each from the first name on: one worker, until all were asked.
    const plan = { ...defaultPlan, protocol: 'dns-udp' as const, port: server.addresses[0]?.port ?? 0, names, queryType: type, connections: 1, streams: 16, durationMs: 400 };
    for (let count = 0; count < serviceCount;) {
      const part = await runLoad({ ...plan, names: names.slice(count) });
      if (part.errorCount > 0 || (part.statuses['NOERROR'] ?? 0) !== part.count) throw new Error(`wrong answers: ${JSON.stringify(part.statuses)} ${JSON.stringify(part.errors)}`);
      count += part.count;
    }
    answered += serviceCount;
  }
  process.stdout.write(`${JSON.stringify({ freshMb, usedMb: await mb(), startMs, rssMb: rssMbOf(process.pid), answered })}\n`);
} finally { await server.stop(0); }
process.exit(0);
