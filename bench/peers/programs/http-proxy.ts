// http-proxy 1.18 with a keep-alive agent: argv = port, backend host, backend port.

import { Agent, createServer } from 'node:http';
import httpProxy from 'http-proxy';

const [port, host, backendPort] = process.argv.slice(2);
const proxy = httpProxy.createProxyServer({ target: `http://${host}:${backendPort}`, agent: new Agent({ keepAlive: true, maxSockets: 256 }), xfwd: true, ws: true });
proxy.on('error', (_error, _request, response) => { response.end(); });
const server = createServer((request, response) => proxy.web(request, response));
server.on('upgrade', (request, socket, head) => proxy.ws(request, socket, head));
server.listen(Number(port), '127.0.0.1');
