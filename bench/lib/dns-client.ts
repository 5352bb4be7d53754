// DNS load over UDP or TCP: many queries in flight per socket, matched by id; names asked in turn.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, type Socket as TcpSocket } from 'node:net';
import type { Pacer, Slot } from './pacer.ts';
import type { LoadPlan } from './plan.ts';

const rcodes = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

/** One socket; its slots are the query ids in flight. */
export class DnsConnection {
  readonly slots: DnsSlot[] = [];
  readonly #plan: LoadPlan;
  #udp: UdpSocket | undefined;
  #tcp: TcpSocket | undefined;
  #buffer: Buffer = Buffer.alloc(0);

  constructor(plan: LoadPlan, pacer: Pacer, count: number) {
    this.#plan = plan;
    for (let id = 0; id < count; id++) this.slots.push(new DnsSlot(plan, pacer, this, id));
  }

  async open(): Promise<void> {
    if (this.#plan.protocol === 'dns-udp') {
      const udp = createSocket({ type: this.#plan.host.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });
      udp.on('message', (message) => this.#answer(message));
      udp.on('error', () => {});
      await new Promise<void>((resolve) => { udp.connect(this.#plan.port, this.#plan.host, resolve); });
      this.#udp = udp;
    } else await this.#openTcp();
  }

  #openTcp(): Promise<void> {
    return new Promise((resolve, reject) => {
      const tcp = connect({ host: this.#plan.host, port: this.#plan.port, noDelay: true }, resolve);
      this.#tcp = tcp;
      tcp.on('data', (chunk: Buffer) => this.#readTcp(chunk));
      tcp.on('error', reject);
      tcp.on('close', () => { if (this.#tcp === tcp) this.#tcp = undefined; for (const slot of this.slots) slot.lost(); });
    });
  }

  write(query: Buffer): void {
    if (this.#udp !== undefined) this.#udp.send(query, () => {});
    else if (this.#tcp !== undefined) {
      const length = Buffer.allocUnsafe(2);
      length.writeUInt16BE(query.length);
      this.#tcp.write(Buffer.concat([length, query]));
    } else this.#openTcp().then(() => this.write(query), () => {});
  }

  close(): void { this.#udp?.close(); this.#tcp?.destroy(); }

  #readTcp(chunk: Buffer): void {
    let data = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    while (data.length >= 2 && data.length >= 2 + data.readUInt16BE(0)) {
      const length = data.readUInt16BE(0);
      this.#answer(data.subarray(2, 2 + length));
      data = data.subarray(2 + length);
    }
    this.#buffer = data.length === 0 ? data : Buffer.from(data);
  }

  #answer(message: Buffer): void {
    if (message.length < 12) return;
    this.slots[message.readUInt16BE(0) & 0xfff]?.answered(message);
  }
}

export class DnsSlot implements Slot {
  intendedMs = 0;
  isBusy = false;
  deadlineMs = 0;
  readonly #pacer: Pacer;
  readonly #connection: DnsConnection;
  readonly #queries: Buffer[];
  #next: number;

  constructor(plan: LoadPlan, pacer: Pacer, connection: DnsConnection, id: number) {
    this.#pacer = pacer;
    this.#connection = connection;
    this.#queries = plan.names.map((name) => encodeQuery(name, plan.queryType, id));
    this.#next = id % Math.max(1, this.#queries.length);
  }

  send(): void {
    const query = this.#queries[this.#next] ?? Buffer.alloc(0);
    this.#next = (this.#next + 1) % this.#queries.length;
    this.#connection.write(query);
  }
  abort(): void { setImmediate(() => this.#pacer.free(this)); }
  lost(): void { if (this.isBusy) { this.#pacer.fail(this, 'closed'); setImmediate(() => this.#pacer.free(this)); } }

  answered(message: Buffer): void {
    if (!this.isBusy || (message[2] ?? 0) < 0x80) return;
    const rcode = (message[3] ?? 0) & 15;
    this.#pacer.done(this, message.length, rcodes[rcode] ?? `RCODE${rcode}`, '');
    this.#pacer.free(this);
  }
}

/** A query for one name with EDNS of 1232 octets. */
export function encodeQuery(name: string, type: number, id: number): Buffer {
  const labels = name.replace(/\.$/, '').split('.').filter((label) => label !== '').flatMap((label) => [Buffer.from([label.length]), Buffer.from(label, 'latin1')]);
  const header = Buffer.from([id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
  return Buffer.concat([header, ...labels, Buffer.from([0, type >> 8, type & 255, 0, 1]), Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0])]);
}
