// `netloom bench`: load against any URL, Service or DNS name (load mode), and the project's own measurement of every
// path beside its peers (--peers), micro benchmarks (micro) included. Parses the arguments and picks the mode.

import { parseArgs } from 'node:util';

const help = `netloom bench URL | svc/NAME [-n NAMESPACE] | tcp://HOST:PORT | dns NAME [--server IP[:PORT]]
netloom bench --peers [--quick | --smoke] [--only PATTERN] [--rounds N] [--duration T] [--cpu-prof]
netloom bench micro [PATTERN] [--compare REV]

Load (latency is counted from the moment a request should have been sent):
  --rate N            open loop: N requests per second          (default: closed loop)
  --connections N     connections, or DNS sockets               (32)
  --streams N         in flight per HTTP/2 connection or DNS socket (1; DNS 32)
  --duration T        how long, e.g. 10s                        (10s)
  --warmup T          left out of the figures                   (1s)
  --timeout T         a request without answer is an error      (10s)
  --workers N         load threads                              (1)
  --new-connections   a new connection for each request
  --http2             HTTP/2 (h2c by prior knowledge, or ALPN with https)
  --websocket         WebSocket echo
  -X METHOD  -H 'Name: value'  -d BODY  --host NAME   as in curl
  --by body|header:NAME|none  what tells endpoints apart        (body for svc/NAME, else none)
  --type A|AAAA|SRV|PTR|TXT|ANY  --tcp                          for dns
  -o text|json  --html FILE  --data-dir DIR

Examples:
  netloom bench http://127.0.0.1:8080/ --rate 2000 --duration 30s --html report.html
  netloom bench svc/web -n shop
  netloom bench dns web.shop.svc.cluster.local --rate 10000
`;

export interface BenchArgs { values: Record<string, string | boolean | string[] | undefined>; positionals: string[] }

/** Returns the exit code: 0, 1 when nothing was answered or a check failed, 2 for wrong usage. */
export async function runBench(args: readonly string[]): Promise<number> {
  let parsed: BenchArgs;
  try { parsed = parse(args); } catch (error) {
    process.stderr.write(`xx  ${(error as Error).message.split('\n')[0]}\nfix: netloom bench --help\n`);
    return 2;
  }
  if (parsed.values['help'] === true || (parsed.positionals.length === 0 && parsed.values['peers'] !== true)) {
    process.stdout.write(help);
    return parsed.values['help'] === true ? 0 : 2;
  }
  try {
    if (parsed.values['peers'] === true) return await (await import('./peers-run.ts')).runPeers(parsed);
    if (parsed.positionals[0] === 'micro') return await (await import('./micro-run.ts')).runMicro(parsed);
    return await (await import('./user-load.ts')).runUserLoad(parsed);
  } catch (error) {
    const known = error as Error & { hint?: string; isUsage?: boolean };
    process.stderr.write(`xx  ${known.message}\n${known.hint === undefined ? '' : `fix: ${known.hint}\n`}`);
    return known.isUsage === true ? 2 : 1;
  }
}

function parse(args: readonly string[]): BenchArgs {
  const text = (short?: string): { type: 'string'; short?: string } => (short === undefined ? { type: 'string' } : { type: 'string', short });
  const yes = { type: 'boolean' } as const;
  return parseArgs({
    args: [...args], allowPositionals: true, strict: true,
    options: {
      help: { type: 'boolean', short: 'h' }, peers: yes, quick: yes, only: text(), rounds: text(), 'cpu-prof': yes, compare: text(), smoke: yes,
      rate: text(), connections: text(), streams: text(), duration: text(), warmup: text(), timeout: text(), workers: text(), 'new-connections': yes, http2: yes, websocket: yes,
      method: text('X'), header: { type: 'string', short: 'H', multiple: true }, data: text('d'), host: text(), by: text(), type: text(), tcp: yes, server: text(),
      output: text('o'), html: text(), namespace: text('n'), 'data-dir': text(),
    },
  }) as BenchArgs;
}
