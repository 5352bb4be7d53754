// Opens connections, proves each with one exchange, then keeps them idle until it is told to end (its input closes).
// argv = host, port, count, kind (http | tcp). Prints how many are open.

import { connect, type Socket } from 'node:net';

const [host = '', port = '', countText = '', kind = 'http'] = process.argv.slice(2);
const request = kind === 'http' ? `GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n` : 'x'.repeat(64);
const count = Number(countText);
const sockets = new Set<Socket>();

function open(): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), noDelay: true });
    sockets.add(socket);
    let text = '';
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk) => { text += chunk.toString('latin1'); if (kind === 'http' ? text.endsWith('backend\n') && text.startsWith('HTTP/1.1 200') : text.length >= 64) resolve(); });
    socket.on('error', reject);
    socket.on('close', () => { sockets.delete(socket); reject(new Error(`closed: ${text.slice(0, 80)}`)); });
  });
}

let next = 0;
await Promise.all(Array.from({ length: 32 }, async () => { while (next < count) { next += 1; await open(); } }));
process.stdout.write(`${sockets.size}\n`);
process.stdin.on('end', () => process.exit(0)).resume();
