// The engine in a process of its own, for tests with limits on files: argv is VIP, endpoint port. Prints `ready`.

import { endpoint } from '../../lib/builders.ts';
import { plan, startEngine } from './harness.ts';

const [vip, port] = process.argv.slice(2) as [string, string];
const engine = await startEngine({ threads: 1 });
await engine.apply(plan(vip, [endpoint('127.0.0.1', Number(port), { nodeName: 'n1' })]));
process.stdout.write('ready\n');
setInterval(() => {}, 1_000);
