// Answers after known delays, 80 % short, 15 % middle, 5 % long, and tells at /report what the delays really were.

import { createServer } from 'node:http';
import { performance } from 'node:perf_hooks';

const delays = [40, 200, 500];
const real: number[] = [];
let count = 0;
const server = createServer((request, response) => {
  if (request.url === '/report') { response.end(JSON.stringify(real)); return; }
  const index = count++ % 100;
  const started = performance.now();
  setTimeout(() => { real.push(performance.now() - started); response.end('x'); }, delays[index >= 95 ? 2 : index >= 80 ? 1 : 0]);
}).listen(0, '127.0.0.1', () => { process.stdout.write(`${(server.address() as { port: number }).port}\n`); });
