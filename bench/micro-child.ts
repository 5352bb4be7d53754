// One fresh process per micro benchmark file: argv = file, pattern, "smoke" or nothing; prints a JSON line per result.

import { pathToFileURL } from 'node:url';
import { measureMicro, type MicroBench } from './lib/micro.ts';

const [file = '', pattern = '', smoke] = process.argv.slice(2);
const { benches } = (await import(pathToFileURL(file).href)) as { benches: MicroBench[] };
for (const bench of benches) if (new RegExp(pattern).test(bench.name)) process.stdout.write(`${JSON.stringify(await measureMicro(bench, smoke === 'smoke'))}\n`);
process.exit(0);
