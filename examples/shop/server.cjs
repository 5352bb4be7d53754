// One process of the example shop. Says who answered, so that balancing, scaling and failures can be seen with curl.
// ROLE and PORT come from the Pod; HOST is the Pod's own address where Pods share the machine's network. Plain CommonJS:
// any Node runs it, in a fifth of the time that TypeScript takes to start.

const { createServer } = require('node:http');
const { hostname } = require('node:os');

const role = process.env.ROLE ?? 'web';
const port = Number(process.env.PORT ?? 8080);
const name = process.env.POD_NAME ?? process.env.HOSTNAME ?? hostname();
let isReady = true;

const server = createServer((request, response) => {
  const path = request.url ?? '/';
  if (path === '/healthz') {
    response.writeHead(isReady ? 200 : 503).end(isReady ? 'ok\n' : 'going away\n');
    return;
  }
  const body = role === 'api' ? `${JSON.stringify({ items: ['apple', 'bread', 'cheese'], servedBy: name, path })}\n` : `hello from ${name} (pid ${process.pid})\n`;
  response.writeHead(200, { 'content-type': role === 'api' ? 'application/json' : 'text/plain', 'content-length': Buffer.byteLength(body) });
  response.end(body);
});
server.keepAliveTimeout = 60_000;
server.listen(port, process.env.HOST ?? '0.0.0.0');

process.on('SIGTERM', () => {
  isReady = false;
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
