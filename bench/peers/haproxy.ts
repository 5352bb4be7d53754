// HAProxy in mode http and mode tcp, one thread, connections to the backend reused.

import { launch } from '../lib/launch.ts';
import { backendPort, freePort, isClearHttp2Row, isTlsRow, writeIn, type Bed, type Contender } from '../lib/contender.ts';
import { findProgram } from '../lib/proc.ts';

export const haproxy: Contender = {
  name: 'haproxy',
  missing: () => (findProgram('haproxy') === undefined ? 'not installed' : undefined),
  async start(bed: Bed, row: string) {
    const port = await freePort();
    const isTcp = row.startsWith('tcp');
    const backend = backendPort(bed, row);
    const tls = isTlsRow(row) ? ` ssl crt ${bed.pemFile} alpn ${row === 'h2' ? 'h2,http/1.1' : 'http/1.1'} no-tls-tickets` : isClearHttp2Row(row) ? ' proto h2' : '';
    const path = writeIn(bed.folder, `haproxy-${row}.cfg`, `global
  nbthread 1
  maxconn 9000
defaults
  mode ${isTcp ? 'tcp' : 'http'}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  ${isTcp ? '' : 'option forwardfor\n  http-reuse always'}
frontend front
  bind 127.0.0.1:${port}${tls}
  default_backend back
backend back
  server one ${bed.backendHost}:${backend}${row === 'grpc' ? ' proto h2' : ''}
`);
    return launch({ core: bed.contenderCore, file: findProgram('haproxy') ?? 'haproxy', args: ['-db', '-f', path], port });
  },
};
