// A reverse proxy of node:http and undici's Pool.dispatch: argv = port, backend host, backend port.

import { createServer } from 'node:http';
import { Pool, type Dispatcher } from 'undici';

const [port, host, backendPort] = process.argv.slice(2);
const pool = new Pool(`http://${host}:${backendPort}`, { connections: 256, pipelining: 1 });
const hopByHop = new Set(['connection', 'keep-alive', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'proxy-connection']);
createServer((request, response) => {
  const headers: string[] = ['x-forwarded-for', request.socket.remoteAddress ?? ''];
  for (let index = 0; index < request.rawHeaders.length; index += 2) if (!hopByHop.has((request.rawHeaders[index] ?? '').toLowerCase())) headers.push(request.rawHeaders[index] ?? '', request.rawHeaders[index + 1] ?? '');
  const hasBody = request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined;
  pool.dispatch({ method: request.method as Dispatcher.HttpMethod, path: request.url ?? '/', headers, body: hasBody ? request : null }, {
    onRequestStart() {},
    onResponseStart(_controller, status, fields) {
      for (const [name, value] of Object.entries(fields)) if (!hopByHop.has(name) && value !== undefined) response.setHeader(name, value);
      response.writeHead(status);
    },
    onResponseData(_controller, chunk) { response.write(chunk); },
    onResponseEnd() { response.end(); },
    onResponseError() { response.destroy(); },
  });
}).listen(Number(port), '127.0.0.1');
