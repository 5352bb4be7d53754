// The load generator tells the truth: percentiles against a server of known delays, waiting counted as latency, errors
// never hidden, and its own limits said.

import { spawn, type ChildProcess } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { runLoad } from '../../bench/lib/load.ts';
import { htmlPage } from '../../bench/lib/html.ts';
import { defaultPlan, type LoadPlan } from '../../bench/lib/plan.ts';
import { textReport } from '../../bench/lib/report.ts';
import { runCommand, root } from '../lib/command.ts';

const open: (() => void)[] = [];
afterEach(() => { for (const close of open.splice(0)) close(); });
const plan = (more: Partial<LoadPlan>): LoadPlan => ({ ...defaultPlan, durationMs: 400, connections: 4, ...more });

async function httpServer(handler: Parameters<typeof createServer>[1]): Promise<number> {
  const server: Server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(() => { server.closeAllConnections(); server.close(); });
  return (server.address() as AddressInfo).port;
}

test('percentiles are within 2 % of the delays that the server really made', async () => {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, 'delay-server.ts')], { stdio: ['ignore', 'pipe', 'inherit'] });
  open.push(() => child.kill());
  const port = Number(String((await once(child.stdout!, 'data'))[0]).trim());
  const result = await runLoad(plan({ port, rate: 200, connections: 120, durationMs: 4_000 }));
  const real = ((await (await fetch(`http://127.0.0.1:${port}/report`)).json()) as number[]).sort((a, b) => a - b);
  const at = (share: number): number => real[Math.min(real.length - 1, Math.floor(share * real.length))] ?? 0;
  expect(result.errorCount).toBe(0);
  expect(result.count).toBeGreaterThan(790);
  // Two percent, and a millisecond for the way there and back on a busy machine.
  expect(Math.abs(result.latencyMs.p50 - at(0.5))).toBeLessThan(at(0.5) * 0.02 + 1);
  expect(Math.abs(result.latencyMs.p90 - at(0.9))).toBeLessThan(at(0.9) * 0.02 + 1);
  expect(Math.abs(result.latencyMs.p99 - at(0.99))).toBeLessThan(at(0.99) * 0.02 + 1);
});

test('a target that stands still is seen by every request that should have been sent meanwhile', async () => {
  const started = performance.now();
  let isStalled = false;
  const port = await httpServer((_request, response) => {
    const now = performance.now() - started;
    isStalled = now > 300 && now < 700;
    setTimeout(() => response.end('x'), isStalled ? 700 - now : 0);
  });
  const result = await runLoad(plan({ port, rate: 200, connections: 2, durationMs: 1_000 }));
  // With two connections a closed loop would see two slow answers; by the clock about 80 requests were due meanwhile.
  expect(result.latencyMs.p90).toBeGreaterThan(100);
  expect(result.count).toBeGreaterThan(150);
});

test('error answers are counted by status and refused connections as errors', async () => {
  let count = 0;
  const port = await httpServer((_request, response) => { response.statusCode = count++ % 2 === 0 ? 200 : 503; response.end('x'); });
  const result = await runLoad(plan({ port }));
  expect(Object.keys(result.statuses).sort()).toEqual(['200', '503']);
  const refused = await runLoad(plan({ port: 1, durationMs: 100 }));
  expect(refused.count).toBe(0);
  expect(refused.errors['connect ECONNREFUSED']).toBeGreaterThan(0);
  expect(textReport(refused).join('\n')).toContain('connect ECONNREFUSED');
});

test('answers are told apart by body or header, chunked bodies and HEAD included', async () => {
  let count = 0;
  const port = await httpServer((_request, response) => { const name = `pod-${count++ % 3}`; response.setHeader('x-pod', name); response.write(`${name}\n`); response.end('more'); });
  const byBody = await runLoad(plan({ port, distributeBy: 'body', connections: 1 }));
  expect(Object.keys(byBody.distribution).sort().slice(-3)).toEqual(expect.arrayContaining([expect.stringContaining('pod-')]));
  const byHeader = await runLoad(plan({ port, distributeBy: 'header:X-Pod', method: 'HEAD' }));
  expect(Object.keys(byHeader.distribution).sort()).toEqual(['pod-0', 'pod-1', 'pod-2']);
});

test('a request without answer is a timeout and the run still ends', async () => {
  const port = await httpServer(() => {});
  const result = await runLoad(plan({ port, timeoutMs: 100, durationMs: 200 }));
  expect(result.count).toBe(0);
  expect(result.errors['timeout']).toBeGreaterThan(0);
});

test('a run that is stopped early is marked partial', async () => {
  const port = await httpServer((_request, response) => response.end('x'));
  const abort = new AbortController();
  const result = await runLoad(plan({ port, durationMs: 60_000 }), { signal: abort.signal, onProgress: () => abort.abort() });
  expect(result.isPartial).toBe(true);
  expect(result.count).toBeGreaterThan(0);
  expect(textReport(result)[0]).toContain('PARTIAL');
});

test('a rate that the generator cannot reach is its own fault and says so', async () => {
  const port = await httpServer((_request, response) => response.end('x'));
  const result = await runLoad(plan({ port, rate: 3_000_000, connections: 2_000, durationMs: 500, timeoutMs: 1_000 }));
  expect(result.generatorLimit).toMatch(/generator/);
  expect(textReport(result).join('\n')).toContain('VOID');
});

test('TCP connections and DNS queries are measured too', async () => {
  const tcp = createTcpServer((socket) => { socket.on('error', () => {}); socket.pipe(socket); }).listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  open.push(() => tcp.close());
  const connects = await runLoad(plan({ protocol: 'tcp', port: (tcp.address() as AddressInfo).port, requestsPerConnection: 1, payload: 'ping' }));
  expect(connects.count).toBeGreaterThan(10);
  expect(connects.errorCount).toBe(0);
  const dns = createSocket('udp4');
  dns.on('message', (message, from) => { const answer = Buffer.from(message); answer[2] = 0x81; answer[3] = 3; dns.send(answer, from.port, from.address); });
  dns.bind(0, '127.0.0.1');
  await once(dns, 'listening');
  open.push(() => dns.close());
  const queries = await runLoad(plan({ protocol: 'dns-udp', port: dns.address().port, names: ['none.example'], connections: 2, streams: 8 }));
  expect(Object.keys(queries.statuses)).toEqual(['NXDOMAIN']);
  expect(queries.count).toBeGreaterThan(10);
});

test('the HTML page holds everything in itself and nothing of the target unescaped', async () => {
  const port = await httpServer((_request, response) => response.end('<script>alert(1)</script>\n'));
  const result = await runLoad(plan({ port, distributeBy: 'body' }), { name: '<b>run</b>' });
  const page = htmlPage('t', [], [{ title: 'x', results: [result] }]);
  expect(page).toContain('<svg');
  expect(page).not.toMatch(/<script|<b>run|https?:\/\/(?!127)/);
});

test.each([
  [['bench', 'http://127.0.0.1:1/'], 1, /127\.0\.0\.1:1 cannot be measured: connect ECONNREFUSED\nfix:/],
  [['bench', 'ftp://x/'], 2, /ftp:\/\/ is not supported\nfix:/], [['bench', 'http://127.0.0.1:1/', '--rate', 'x'], 2, /--rate x is not a number/],
  [['bench', '--nope'], 2, /Unknown option '--nope'/], [['bench', 'svc/x', '--data-dir', '/nonexistent'], 2, /no netloom runs with data directory/],
])('%j ends with exit code %i and one clear line', async (args, code, message) => {
  const result = await runCommand(process.execPath, [join(root, 'bin/netloom.js'), ...args]);
  expect(result.stderr).toMatch(message);
  expect(result.stderr).not.toMatch(/\n\s+at /);
  expect(result.code).toBe(code);
});
