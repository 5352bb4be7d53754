// Runs in a network namespace: the layout with a chain per Service and per endpoint (kube-proxy's), generated here and
// loaded with `nft -f` for the same Services as in kernel-probe.ts: load time, one endpoint change by a new `nft`
// process, and new connections per second beside direct ones. argv = { sizes, changeCount, connectMs, rounds, core }.

import { execFileSync } from 'node:child_process';
import { endpointAddress, serviceAddress } from '../../lib/world.ts';
import { compareWithDirect, endpointIP, percentile, startBackend } from './kernel-bed.ts';

const input = JSON.parse(process.argv[2] ?? '{}') as { sizes: number[]; changeCount: number; connectMs: number; rounds: number; core: number };
const nft = (text: string): void => { execFileSync('nft', ['-f', '-'], { input: text, stdio: ['pipe', 'ignore', 'pipe'], maxBuffer: 64 << 20 }); };
const backend = await startBackend(input.core);
// Service addresses need a route for the packet to come as far as the output hook.
execFileSync('ip', ['route', 'add', 'local', '10.96.0.0/15', 'dev', 'lo', 'table', 'local'], { stdio: 'ignore' });
const results: object[] = [];
try {
  for (const size of input.sizes) {
    nft('table ip kube-proxy\ndelete table ip kube-proxy\n');
    const text = table(size);
    const started = performance.now();
    nft(text);
    const loadMs = performance.now() - started;
    const rates = await compareWithDirect(size - 1, backend.port, input.connectMs, input.rounds);
    const times: number[] = [];
    for (let round = 0; round < input.changeCount; round++) {
      const begun = performance.now();
      nft(changeOf((round * 7919) % (size - 1), round));
      times.push(performance.now() - begun);
    }
    results.push({ size, loadMs, ...rates, changeP50: percentile(times, 0.5) });
  }
} finally { await backend.stop(); }
process.stdout.write(`${JSON.stringify(results)}\n`);
process.exit(0);

function endpointsOf(index: number, size: number): { ip: string; port: number }[] {
  return index === size - 1 ? [{ ip: endpointIP, port: backend.port }] : [0, 1, 2].map((number) => ({ ip: endpointAddress(index, number), port: 8080 }));
}

function table(size: number): string {
  const chains: string[] = [];
  const elements: string[] = [];
  for (let index = 0; index < size; index++) {
    const endpoints = endpointsOf(index, size);
    endpoints.forEach(({ ip, port }, number) => chains.push(endpointChain(index, number, ip, port)));
    chains.push(`  chain service-${index} {\n    ip daddr ${serviceAddress(index)} tcp dport 80 ip saddr != 10.128.0.0/9 jump mark-for-masquerade\n    numgen random mod ${endpoints.length} vmap { ${endpoints.map((_, number) => `${number} : goto endpoint-${index}-${number}`).join(', ')} }\n  }`);
    elements.push(`${serviceAddress(index)} . tcp . 80 : goto service-${index}`);
  }
  return `table ip kube-proxy {
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading { meta mark and 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }
${chains.join('\n')}
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { ${elements.join(',\n')} } }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}\n`;
}

function endpointChain(index: number, number: number, ip: string, port: number): string {
  return `  chain endpoint-${index}-${number} {\n    ip saddr ${ip} jump mark-for-masquerade\n    meta l4proto tcp dnat to ${ip}:${port}\n  }`;
}

/** What a changed endpoint means in this layout: its chain is written anew. */
function changeOf(index: number, round: number): string {
  const ip = endpointAddress(index, 3 + (round % 8));
  return `flush chain ip kube-proxy endpoint-${index}-0\nadd rule ip kube-proxy endpoint-${index}-0 ip saddr ${ip} jump mark-for-masquerade\nadd rule ip kube-proxy endpoint-${index}-0 meta l4proto tcp dnat to ${ip}:8080\n`;
}
