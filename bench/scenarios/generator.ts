// Is the load generator itself to be trusted? The same peers, asked by it and by tools that others wrote: nginx by wrk and
// dnsmasq by dnsperf, in turns. What the peer spends per request must be the same, whoever asks.

import { makeBed } from '../lib/bed.ts';
import { writeIn, type Running } from '../lib/contender.ts';
import { runLoad } from '../lib/load.ts';
import { defaultPlan } from '../lib/plan.ts';
import { cpuMsOf, findProgram, pinSelf, spawnPinned } from '../lib/proc.ts';
import { median } from '../lib/report.ts';
import { dnsmasq, dnsName } from '../peers/dns.ts';
import { nginx } from '../peers/nginx.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';

interface Taken { perSecond: number; cpuMicros: number }

export const generatorRow: SystemRow = {
  name: 'generator', title: 'The load generator beside wrk and dnsperf', goal: 'CPU of the peer per request within 15 % whoever asks, throughput at least half of wrk\'s', isHeavy: false,
  missing: () => ((nginx.missing() ?? (findProgram('wrk') === undefined ? 'wrk is not installed' : undefined)) === undefined || findProgram('dnsperf') !== undefined && dnsmasq.missing() === undefined ? undefined : 'neither wrk with nginx nor dnsperf with dnsmasq is installed'),
  async measure(context: SystemContext) {
    const seconds = 1;
    const rounds = context.isSmoke ? 1 : context.isQuick ? 2 : 5;
    const values: Record<string, string> = {};
    const { bed, stop } = await makeBed();
    try {
      pinSelf(bed.loadCore);
      if (nginx.missing() === undefined && findProgram('wrk') !== undefined) {
        const running = await nginx.start(bed, 'http-generator');
        try {
          const plan = { ...defaultPlan, host: running.host, port: running.port, serverName: 'bench.example', durationMs: seconds * 1_000 };
          await compare(values, 'nginx', 'wrk', rounds, running, async () => (await runLoad(plan)).count / seconds, () => wrk(running, seconds, bed.loadCore), seconds);
        } finally { await running.stop(); }
      }
      if (dnsmasq.missing() === undefined && findProgram('dnsperf') !== undefined) {
        const running = await dnsmasq.start(bed, 'dns-generator');
        const file = writeIn(bed.folder, 'queries', `${dnsName} A\n`);
        try {
          const plan = { ...defaultPlan, protocol: 'dns-udp' as const, names: [dnsName], host: running.host, port: running.port, connections: 4, streams: 16, durationMs: seconds * 1_000 };
          await compare(values, 'dnsmasq', 'dnsperf', rounds, running, async () => (await runLoad(plan)).count / seconds, () => dnsperf(running, file, seconds, bed.loadCore), seconds);
        } finally { await running.stop(); }
      }
    } finally { await stop(); }
    return values;
  },
};

async function compare(values: Record<string, string>, peer: string, tool: string, rounds: number, running: Running, ours: () => Promise<number>, theirs: () => Promise<number>, seconds: number): Promise<void> {
  const taken = { ours: [] as Taken[], theirs: [] as Taken[] };
  for (let round = 0; round < rounds; round++) {
    for (const who of round % 2 === 0 ? ['ours', 'theirs'] as const : ['theirs', 'ours'] as const) {
      const before = cpuMsOf(running.pid);
      const perSecond = await (who === 'ours' ? ours() : theirs());
      if (!(perSecond > 0)) throw new Error(`${who === 'ours' ? 'the generator' : tool} got no answers from ${peer}`);
      taken[who].push({ perSecond, cpuMicros: ((cpuMsOf(running.pid) - before) * 1_000) / (perSecond * seconds) });
    }
  }
  const middle = (list: Taken[], pick: (item: Taken) => number): number => median(list.map(pick));
  const [own, other] = [middle(taken.ours, (item) => item.perSecond), middle(taken.theirs, (item) => item.perSecond)];
  values[`${peer}: answers/s to the generator, to ${tool}`] = `${own.toFixed(0)}, ${other.toFixed(0)} (${(own / other).toFixed(2)} x)`;
  values[`${peer}: its CPU us per answer to the generator, to ${tool}`] = `${middle(taken.ours, (item) => item.cpuMicros).toFixed(1)}, ${middle(taken.theirs, (item) => item.cpuMicros).toFixed(1)}`;
}

async function wrk(running: Running, seconds: number, core: number): Promise<number> {
  const output = await outputOf(core, 'wrk', ['-t1', '-c32', `-d${seconds}s`, '-H', 'Host: bench.example', `http://${running.host}:${running.port}/`]);
  return Number(/(\d+) requests in/.exec(output)?.[1] ?? 0) / seconds;
}

async function dnsperf(running: Running, file: string, seconds: number, core: number): Promise<number> {
  const output = await outputOf(core, 'dnsperf', ['-s', running.host, '-p', String(running.port), '-d', file, '-l', String(seconds), '-c', '4', '-q', '64', '-T', '1']);
  return Number(/Queries completed:\s+(\d+)/.exec(output)?.[1] ?? 0) / seconds;
}

/** Not execFileSync: the event loop must stay free for the child's pipes. */
function outputOf(core: number, name: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawnPinned(core, findProgram(name) ?? name, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => { output += chunk.toString('utf8'); });
    child.on('error', reject);
    child.on('close', () => resolve(output));
  });
}
