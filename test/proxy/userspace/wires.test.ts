// Both makes of a wire keep the same contract: bytes, backpressure, half-close, reset, failed connects.

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { rawWires } from '../../../proxy/userspace/wire-raw.ts';
import { socketWires } from '../../../proxy/userspace/wire-socket.ts';
import type { TcpHandle, Wire, WireFactory, WireOwner } from '../../../proxy/userspace/wire.ts';
import { waitFor } from '../../lib/wait-for.ts';

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(() => { for (const server of servers.splice(0)) server.close(); for (const socket of sockets.splice(0)) socket.destroy(); });

/** Records what happens to one wire. */
class Recorder implements WireOwner {
  readonly log: string[] = [];
  bytes = 0;
  isReading = true;
  readonly #factory: WireFactory;
  wire: Wire | undefined;
  constructor(factory: WireFactory) { this.#factory = factory; }
  onConnected(): void { this.log.push('connected'); }
  onBytes(count: number): boolean { this.bytes += count; if (count < 100) this.log.push(this.#factory.buffer.toString('latin1', 0, count)); return this.isReading; }
  onEnd(): void { this.log.push('end'); }
  onWritten(): void { this.log.push('written'); }
  onFailed(code: string | undefined): void { this.log.push(`failed ${code}`); }
}

async function accepted(factory: WireFactory): Promise<{ owner: Recorder; wire: Wire; client: Socket }> {
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const owner = new Recorder(factory);
  (server as unknown as { _handle: { onconnection: (error: number, handle: TcpHandle) => void } })._handle.onconnection = (_error, handle) => { owner.wire = factory.accept(handle, owner); };
  const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  client.on('error', () => {});
  sockets.push(client);
  return { owner, wire: await waitFor(() => owner.wire), client };
}

test('the runtime of this package offers the raw handles', () => { expect(rawWires()?.kind).toBe('raw'); });

describe.each([['raw', rawWires], ['socket', socketWires]] as const)('%s', (_name, make) => {
  const factory = make() as WireFactory;

  test('reads nothing before it is told to, then bytes and end; writes and ends', async () => {
    const { owner, wire, client } = await accepted(factory);
    client.end('hello');
    await new Promise((resolve) => { setImmediate(resolve); });
    expect(owner.log).toEqual([]);
    wire.startReading();
    await waitFor(() => owner.log.includes('end'));
    expect(owner.log).toEqual(['hello', 'end']);
    expect(wire.write(Buffer.from('answer'))).toBe(true);
    wire.end();
    let text = '';
    client.on('data', (data) => { text += data.toString(); });
    await new Promise((resolve) => { client.on('end', resolve); });
    expect(text).toBe('answer');
    wire.close();
    expect(owner.log).toEqual(['hello', 'end']);
  });

  test('a false from onBytes stops reading until startReading', async () => {
    const { owner, wire, client } = await accepted(factory);
    owner.isReading = false;
    wire.startReading();
    client.write('one');
    await waitFor(() => owner.log.includes('one'));
    client.write('two');
    await new Promise((resolve) => { setTimeout(resolve, 30); });
    expect(owner.log).toEqual(['one']);
    wire.startReading();
    await waitFor(() => owner.log.includes('two'));
    wire.close();
  });

  test('a write that the kernel cannot take says so and reports when it is done', async () => {
    const { owner, wire, client } = await accepted(factory);
    const block = Buffer.alloc(1024 * 1024, 'x');
    let sent = 0;
    while (wire.write(Buffer.from(block))) sent += block.length;
    sent += block.length;
    expect(owner.log).toEqual([]);
    let received = 0;
    client.on('data', (data) => { received += data.length; });
    await waitFor(() => owner.log.includes('written'));
    await waitFor(() => received === sent);
    wire.close();
  });

  test('a reset of the peer is a failure; our reset reaches the peer', async () => {
    const first = await accepted(factory);
    first.wire.startReading();
    first.client.resetAndDestroy();
    await waitFor(() => first.owner.log.includes('failed ECONNRESET'));
    const second = await accepted(factory);
    let code = '';
    second.client.on('error', (error: NodeJS.ErrnoException) => { code = error.code ?? ''; });
    second.client.resume();
    second.wire.reset();
    await waitFor(() => code === 'ECONNRESET');
    expect(second.owner.log).toEqual([]);
  });

  test('connects out, or says why not', async () => {
    const server = createServer((socket) => { sockets.push(socket); socket.end('hi'); });
    servers.push(server);
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const owner = new Recorder(factory);
    const wire = factory.connect('127.0.0.1', (server.address() as AddressInfo).port, owner);
    await waitFor(() => owner.log.includes('connected'));
    expect(wire.localName().address).toBe('127.0.0.1');
    wire.startReading();
    await waitFor(() => owner.log.includes('end'));
    expect(owner.log).toEqual(['connected', 'hi', 'end']);
    wire.close();
    const closed = new Recorder(factory);
    server.close();
    factory.connect('127.0.0.1', (server.address() as AddressInfo | null)?.port ?? 1, closed);
    await waitFor(() => closed.log.length > 0);
    expect(closed.log).toEqual(['failed ECONNREFUSED']);
  });
});
