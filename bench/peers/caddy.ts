// Caddy's reverse_proxy, one core, logs off.

import { launch } from '../lib/launch.ts';
import { backendPort, freePort, isTlsRow, writeIn, type Bed, type Contender } from '../lib/contender.ts';
import { findProgram } from '../lib/proc.ts';

export const caddy: Contender = {
  name: 'caddy',
  missing: () => (findProgram('caddy') === undefined ? 'not installed' : undefined),
  async start(bed: Bed, row: string) {
    const port = await freePort();
    const backend = backendPort(bed, row);
    const isTls = isTlsRow(row);
    const path = writeIn(bed.folder, `Caddyfile-${row}`, `{
  admin off
  auto_https off
}
${isTls ? 'https' : 'http'}://127.0.0.1:${port}, ${isTls ? 'https' : 'http'}://bench.example:${port} {
  bind 127.0.0.1
  ${isTls ? `tls ${bed.certFile} ${bed.keyFile}` : ''}
  reverse_proxy ${bed.backendHost}:${backend}
}
`);
    return launch({ core: bed.contenderCore, file: findProgram('caddy') ?? 'caddy', args: ['run', '--config', path, '--adapter', 'caddyfile'], port, env: { GOMAXPROCS: '1', HOME: bed.folder, XDG_CONFIG_HOME: bed.folder, XDG_DATA_HOME: bed.folder } });
  },
};
