// The backends behind every contender: a small HTTP answer, a 1 MB one, a TCP echo, a WebSocket echo and a gRPC
// unary method, each on a port of its own of the given address. argv = address, then prints its ports as JSON.

import { createHash } from 'node:crypto';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { createServer as createTcp, type AddressInfo, type Server } from 'node:net';

const host = process.argv[2] ?? '127.0.0.1';
const listen = (server: Server): Promise<number> => new Promise((resolve) => { server.listen(0, host, 4_096, () => resolve((server.address() as AddressInfo).port)); });

/** Answers on bare sockets: the backend must cost less than what is measured. GET without a body only. */
const raw = (answer: Buffer): Server => createTcp({ noDelay: true }, (socket) => {
  let rest = '';
  socket.on('data', (chunk) => {
    const text = rest + chunk.toString('latin1');
    let from = 0;
    for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n', from)) { socket.write(answer); from = end + 4; }
    rest = text.slice(from);
    if (/connection: close/i.test(text)) socket.end();
  });
  socket.on('error', () => {});
});
const small = Buffer.from('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: 19\r\n\r\nhello from backend\n');
const big = Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: ${1 << 20}\r\n\r\n`), Buffer.alloc(1 << 20, 'x')]);
const echo = createTcp({ noDelay: true }, (socket) => { socket.on('data', (chunk) => socket.write(chunk)); socket.on('error', () => {}); socket.on('end', () => socket.end()); });
const websocket = createHttp((_request, response) => response.end('x'));
websocket.on('upgrade', (request, socket) => {
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('data', (chunk: Buffer) => {
    // Frames of the generator are short and masked with zeros: the echo is the same text without the mask.
    for (let from = 0; from + 6 <= chunk.length;) { const length = (chunk[from + 1] ?? 0) & 0x7f; socket.write(Buffer.concat([Buffer.from([0x81, length]), chunk.subarray(from + 6, from + 6 + length)])); from += 6 + length; }
  });
  socket.on('error', () => {});
});
const grpcMessage = Buffer.from([0, 0, 0, 0, 5, 0x0a, 3, 0x79, 0x65, 0x73]);
const grpc = createHttp2();
grpc.on('stream', (stream: ServerHttp2Stream) => {
  stream.on('error', () => {});
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.resume().on('end', () => stream.end(grpcMessage));
});
process.stdout.write(`${JSON.stringify({ http: await listen(raw(small)), big: await listen(raw(big)), tcp: await listen(echo), websocket: await listen(websocket), grpc: await listen(grpc) })}\n`);
