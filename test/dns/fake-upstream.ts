// A resolver for the tests to forward to, UDP and TCP on one port of 127.0.0.1, driven by the case data: records, fixed
// rcodes, delays, a first packet that is lost, and answers that do not fit in a datagram.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server } from 'node:net';
import { systemClock } from '../../api/clock.ts';

export interface UpstreamRecord { name: string; type: string; data?: string; rdataHex?: string; delayMs?: number; ttl?: number }
export interface UpstreamData { records: UpstreamRecord[]; rcodes?: Record<string, string>; dropFirst?: Record<string, number>; truncateUdp?: string[] }

const numbers: Record<string, number> = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, HTTPS: 65 };
const rcodeNumbers: Record<string, number> = { SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 };

export function wireName(text: string): Buffer {
  return Buffer.concat([...text.split('.').filter((label) => label !== '').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')])), Buffer.from([0])]);
}

function rdata(record: UpstreamRecord): Buffer {
  const { type, data = '' } = record;
  if (record.rdataHex !== undefined) return Buffer.from(record.rdataHex, 'hex');
  if (type === 'A') return Buffer.from(data.split('.').map(Number));
  if (type === 'AAAA') {
    const [head = '', tail = ''] = data.split('::');
    const left = head === '' ? [] : head.split(':');
    const right = tail === '' ? [] : tail.split(':');
    const groups = [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right];
    return Buffer.concat(groups.map((group) => { const pair = Buffer.alloc(2); pair.writeUInt16BE(Number.parseInt(group, 16)); return pair; }));
  }
  if (type === 'TXT') return Buffer.concat([Buffer.from([data.length]), Buffer.from(data)]);
  return wireName(data);
}

export class FakeUpstream {
  readonly data: UpstreamData;
  readonly #lost = new Map<string, number>();
  #udp: UdpSocket | undefined;
  #tcp: Server | undefined;
  port = 0;
  /** Names asked, in order, lower case, with type: for counting. */
  readonly asked: string[] = [];
  readonly rawNames: string[] = [];
  readonly sourcePorts = new Set<number>();
  tcpCount = 0;
  /** Swallow everything. */
  isSilent = false;
  /** May change a reply before it is sent, or give several. */
  tamper: ((reply: Buffer, query: Buffer) => Buffer[]) | undefined;

  constructor(data: UpstreamData) { this.data = data; }

  /** Both sockets on one port; with port 0 another is tried when its TCP twin is taken. */
  async start(port = 0): Promise<this> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#open(port);
        return this;
      } catch (error) {
        await this.stop();
        if (port !== 0 || tries > 20) throw error;
      }
    }
  }

  async #open(port: number): Promise<void> {
    const udp = createSocket('udp4');
    this.#udp = udp;
    udp.on('message', (message, rinfo) => {
      this.sourcePorts.add(rinfo.port);
      this.#answer(message, false, (reply) => { try { udp.send(reply, rinfo.port, rinfo.address); } catch { /* closed meanwhile */ } });
    });
    await new Promise<void>((resolve, reject) => { udp.once('error', reject); udp.bind(port, '127.0.0.1', resolve); });
    this.port = udp.address().port;
    const tcp = createServer((socket) => {
      let data = Buffer.alloc(0);
      socket.on('error', () => socket.destroy());
      socket.on('data', (chunk) => {
        data = Buffer.concat([data, chunk as Buffer]);
        while (data.length >= 2 && data.length >= 2 + data.readUInt16BE(0)) {
          const message = data.subarray(2, 2 + data.readUInt16BE(0));
          data = data.subarray(2 + message.length);
          this.tcpCount += 1;
          this.#answer(message, true, (reply) => {
            const prefix = Buffer.alloc(2);
            prefix.writeUInt16BE(reply.length);
            socket.write(Buffer.concat([prefix, reply]));
          });
        }
      });
    });
    this.#tcp = tcp;
    await new Promise<void>((resolve, reject) => { tcp.once('error', reject); tcp.listen(this.port, '127.0.0.1', resolve); });
  }

  async stop(): Promise<void> {
    const udp = this.#udp;
    const tcp = this.#tcp;
    this.#udp = undefined;
    this.#tcp = undefined;
    await new Promise<void>((resolve) => { if (udp === undefined) resolve(); else udp.close(() => resolve()); });
    tcp?.close();
  }

  #answer(query: Buffer, isStream: boolean, send: (reply: Buffer) => void): void {
    const labels: string[] = [];
    let at = 12;
    while (query.readUInt8(at) !== 0) { labels.push(query.subarray(at + 1, at + 1 + query.readUInt8(at)).toString('latin1')); at += query.readUInt8(at) + 1; }
    const type = query.readUInt16BE(at + 1);
    const end = at + 5;
    const name = labels.length === 0 ? '.' : `${labels.join('.').toLowerCase()}.`;
    this.asked.push(`${name} ${type}`);
    this.rawNames.push(labels.join('.'));
    if (this.isSilent) return;
    const toLose = this.data.dropFirst?.[name] ?? 0;
    const lost = this.#lost.get(name) ?? 0;
    if (!isStream && lost < toLose) { this.#lost.set(name, lost + 1); return; }
    const reply = this.#build(query, end, name, type, isStream);
    const delayMs = this.data.records.find((record) => record.name === name)?.delayMs ?? 0;
    const deliver = (): void => { for (const each of this.tamper?.(reply, query) ?? [reply]) send(each); };
    if (delayMs > 0) systemClock.after(delayMs, deliver, true);
    else deliver();
  }

  #build(query: Buffer, end: number, name: string, type: number, isStream: boolean): Buffer {
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    const fixed = this.data.rcodes?.[name];
    const isTruncated = !isStream && (this.data.truncateUdp?.includes(name) ?? false);
    const answers: Buffer[] = [];
    let owner = name;
    let exists = this.data.records.some((record) => record.name === name);
    for (let hops = 0; hops < 5 && fixed === undefined && !isTruncated; hops++) {
      const own = this.data.records.filter((record) => record.name === owner);
      const alias = own.find((record) => record.type === 'CNAME');
      for (const record of own) {
        const number = numbers[record.type] ?? Number(record.type.replace('TYPE', ''));
        if (number !== type && record !== alias) continue;
        answers.push(rr(owner, number, record.ttl ?? 60, rdata(record)));
      }
      if (alias === undefined || type === 5) break;
      owner = alias.data ?? '';
      exists = true;
    }
    const rcode = fixed !== undefined ? (rcodeNumbers[fixed] ?? 0) : exists ? 0 : 3;
    header.writeUInt16BE(0x8080 | (query.readUInt16BE(2) & 0x0110) | (isTruncated ? 0x0200 : 0) | rcode, 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(answers.length, 6);
    const authority = fixed === undefined && answers.length === 0 && !isTruncated ? [soa()] : [];
    header.writeUInt16BE(authority.length, 8);
    const opt = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    header.writeUInt16BE(1, 10);
    return Buffer.concat([header, query.subarray(12, end), ...answers, ...authority, opt]);
  }
}

function rr(owner: string, type: number, ttl: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([wireName(owner), fixed, data]);
}

function soa(): Buffer {
  const times = Buffer.alloc(20);
  for (const [index, value] of [1, 7200, 1800, 86400, 30].entries()) times.writeUInt32BE(value, index * 4);
  return rr('upstream.test.', 6, 30, Buffer.concat([wireName('ns.upstream.test.'), wireName('root.upstream.test.'), times]));
}
