// nginx as reverse proxy (http) and as TCP proxy (stream): one worker, keep-alive pool to the backend, no access log.

import { launch } from '../lib/launch.ts';
import { backendPort, freePort, isClearHttp2Row, isTlsRow, writeIn, type Bed, type Contender } from '../lib/contender.ts';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '../lib/proc.ts';

export const nginx: Contender = {
  name: 'nginx',
  missing: () => (findProgram('nginx') === undefined ? 'not installed' : undefined),
  async start(bed: Bed, row: string) {
    const port = await freePort();
    mkdirSync(join(bed.folder, 'nginx-tmp'), { recursive: true });
    const path = writeIn(bed.folder, `nginx-${row}.conf`, row.startsWith('tcp') ? streamConfig(bed, port) : httpConfig(bed, port, row));
    return launch({ core: bed.contenderCore, file: findProgram('nginx') ?? 'nginx', args: ['-p', bed.folder, '-c', path, '-g', 'daemon off; master_process off;'], port });
  },
};

function common(bed: Bed, row: string): string { return `worker_processes 1; pid ${bed.folder}/nginx-${row}.pid; error_log ${bed.folder}/nginx-error.log; events { worker_connections 16384; }`; }

function httpConfig(bed: Bed, port: number, row: string): string {
  const isTls = isTlsRow(row);
  const isGrpc = row === 'grpc';
  const backend = backendPort(bed, row);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${bed.folder}/nginx-tmp;`).join(' ');
  return `${common(bed, row)}
http { access_log off; ${paths} keepalive_requests 1000000; keepalive_timeout 75s; tcp_nodelay on;
  upstream back { server ${bed.backendHost}:${backend}; keepalive 256; keepalive_requests 1000000; }
  server { listen 127.0.0.1:${port}${isTls ? ' ssl' : ''}${row === 'h2' || isClearHttp2Row(row) ? ' http2' : ''} reuseport;
    ${isTls ? `ssl_certificate ${bed.certFile}; ssl_certificate_key ${bed.keyFile}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off;` : ''}
    location / { ${isGrpc ? 'grpc_pass grpc://back;' : relay(row)} } } }`;
}

function relay(row: string): string {
  return `proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      ${row.includes('websocket') ? 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";' : 'proxy_set_header Connection "";'}`;
}

function streamConfig(bed: Bed, port: number): string {
  const module = ['/usr/lib/nginx/modules/ngx_stream_module.so', '/usr/share/nginx/modules/ngx_stream_module.so'].find((path) => existsSync(path));
  return `${module === undefined ? '' : `load_module ${module};\n`}${common(bed, 'stream')}
stream { access_log off; tcp_nodelay on; upstream back { server ${bed.backendHost}:${bed.tcpPort}; } server { listen 127.0.0.1:${port} reuseport; proxy_pass back; } }`;
}
