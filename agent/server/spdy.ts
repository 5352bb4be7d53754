// The server's part of SPDY/3.1 that `kubectl exec`, `attach` and `port-forward` need, over any byte stream (a TLS
// socket after `Upgrade: SPDY/3.1`, or the messages of a WebSocket). The client opens all streams.
//
//   control frame: 1 bit 1, 15 bits version (3), 16 bits type, 8 bits flags, 24 bits length   | data frame: 0, 31 bits
//   SYN_STREAM 1, SYN_REPLY 2, RST_STREAM 3, PING 6, GOAWAY 7, WINDOW_UPDATE 9 (not used)     | stream id, flags, length
//
// There is no flow control in this use of SPDY: a stream whose reader is slow pauses the whole connection.

import { Duplex } from 'node:stream';
import { createDeflate, createInflate, constants, type Deflate, type Inflate } from 'node:zlib';
import { spdyDictionary } from './spdy-dictionary.ts';

const frameBytesMax = 1024 * 1024;
const dataBytesMax = 32 * 1024;
const streamsMax = 1_000;
const flagFin = 1;

/** Headers of a stream with lower-case names. */
export type SpdyHeaders = Readonly<Record<string, string>>;

export class SpdyStream extends Duplex {
  readonly id: number;
  readonly #connection: SpdyConnection;

  constructor(id: number, connection: SpdyConnection) {
    super({ allowHalfOpen: true });
    this.id = id;
    this.#connection = connection;
    this.on('error', () => {});
  }

  override _read(): void { this.#connection.resume(); }
  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void { this.#connection.sendData(this.id, chunk, 0, done); }
  override _final(done: (error?: Error | null) => void): void { this.#connection.sendData(this.id, Buffer.alloc(0), flagFin, done); }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#connection.forget(this.id, this.writableFinished && this.readableEnded);
    done(error);
  }
}

export class SpdyConnection {
  readonly #socket: Duplex;
  readonly #onStream: (stream: SpdyStream, headers: SpdyHeaders) => void;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #inflate: Inflate;
  readonly #deflate: Deflate;
  #buffer: Buffer = Buffer.alloc(0);
  #work: Promise<void> = Promise.resolve();

  constructor(socket: Duplex, onStream: (stream: SpdyStream, headers: SpdyHeaders) => void) {
    this.#socket = socket;
    this.#onStream = onStream;
    this.#inflate = createInflate({ dictionary: spdyDictionary, flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH });
    this.#deflate = createDeflate({ dictionary: spdyDictionary, flush: constants.Z_SYNC_FLUSH });
    this.#inflate.on('error', () => socket.destroy());
    socket.on('data', (data: Buffer) => this.#onData(data));
    socket.on('error', () => {});
    socket.on('end', () => { for (const stream of this.#streams.values()) stream.push(null); });
    socket.on('close', () => { for (const stream of [...this.#streams.values()]) stream.destroy(); });
  }

  get streamCount(): number { return this.#streams.size; }

  sendData(id: number, chunk: Buffer, flags: number, done: () => void): void {
    let isDrained = true;
    let offset = 0;
    do {
      const part = chunk.subarray(offset, offset + dataBytesMax);
      offset += part.length;
      const header = Buffer.alloc(8);
      header.writeUInt32BE(id, 0);
      header.writeUInt32BE(((flags << 24) | part.length) >>> 0, 4);
      isDrained = this.#socket.write(Buffer.concat([header, part]));
    } while (offset < chunk.length);
    if (isDrained || this.#socket.destroyed) { done(); return; }
    const finish = (): void => { this.#socket.off('drain', finish); this.#socket.off('close', finish); done(); };
    this.#socket.on('drain', finish);
    this.#socket.on('close', finish);
  }

  resume(): void { this.#socket.resume(); }

  forget(id: number, isComplete: boolean): void {
    if (this.#streams.delete(id) && !isComplete && !this.#socket.destroyed) this.#control(3, 0, Buffer.concat([uint32(id), uint32(5)]));
  }

  /** Tells the client that no more streams are taken, then ends the connection. */
  close(): void {
    if (this.#socket.destroyed) return;
    this.#control(7, 0, Buffer.concat([uint32(0), uint32(0)]));
    this.#socket.end();
  }

  #onData(data: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? data : Buffer.concat([this.#buffer, data]);
    while (this.#buffer.length >= 8) {
      const length = this.#buffer.readUIntBE(5, 3);
      if (length > frameBytesMax) { this.#socket.destroy(); return; }
      if (this.#buffer.length < 8 + length) return;
      const frame = this.#buffer.subarray(0, 8 + length);
      this.#buffer = this.#buffer.subarray(8 + length);
      // Header blocks are inflated asynchronously; frames keep their order by waiting for the one before.
      this.#work = this.#work.then(() => this.#onFrame(frame)).catch(() => { this.#socket.destroy(); });
    }
  }

  async #onFrame(frame: Buffer): Promise<void> {
    const flags = frame[4] as number;
    const payload = frame.subarray(8);
    if (((frame[0] as number) & 0x80) === 0) { this.#onStreamData(frame.readUInt32BE(0), flags, payload); return; }
    const type = frame.readUInt16BE(2);
    if (type === 1) await this.#onSyn(payload, flags);
    else if (type === 3) this.#streams.get(payload.readUInt32BE(0) & 0x7fffffff)?.destroy();
    else if (type === 6) this.#control(6, 0, payload);
  }

  #onStreamData(id: number, flags: number, payload: Buffer): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.readableEnded) return;
    if (payload.length > 0 && !stream.push(Buffer.from(payload))) this.#socket.pause();
    if ((flags & flagFin) !== 0) stream.push(null);
  }

  async #onSyn(payload: Buffer, flags: number): Promise<void> {
    const id = payload.readUInt32BE(0) & 0x7fffffff;
    const headers = parseHeaders(await flushThrough(this.#inflate, payload.subarray(10)));
    if (this.#streams.size >= streamsMax || this.#streams.has(id)) {
      this.#control(3, 0, Buffer.concat([uint32(id), uint32(3)]));
      return;
    }
    const stream = new SpdyStream(id, this);
    this.#streams.set(id, stream);
    this.#control(2, 0, Buffer.concat([uint32(id), await flushThrough(this.#deflate, uint32(0))]));
    if ((flags & flagFin) !== 0) stream.push(null);
    this.#onStream(stream, headers);
  }

  #control(type: number, flags: number, payload: Buffer): void {
    const header = Buffer.alloc(8);
    header.writeUInt16BE(0x8003, 0);
    header.writeUInt16BE(type, 2);
    header.writeUInt32BE(((flags << 24) | payload.length) >>> 0, 4);
    this.#socket.write(Buffer.concat([header, payload]));
  }
}

/** One block through a zlib stream whose state goes on to the next block. */
function flushThrough(zlib: Inflate | Deflate, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const onData = (chunk: Buffer): void => { chunks.push(chunk); };
    zlib.on('data', onData);
    zlib.once('error', reject);
    zlib.write(bytes, () => zlib.flush(constants.Z_SYNC_FLUSH, () => {
      zlib.off('data', onData);
      zlib.off('error', reject);
      resolve(Buffer.concat(chunks));
    }));
  });
}

/** Throws on a block that is cut short. */
function parseHeaders(block: Buffer): SpdyHeaders {
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  let offset = 4;
  const take = (): string => {
    const length = block.readUInt32BE(offset);
    if (offset + 4 + length > block.length) throw new RangeError('header block is cut short');
    const text = block.toString('latin1', offset + 4, offset + 4 + length);
    offset += 4 + length;
    return text;
  };
  const count = block.readUInt32BE(0);
  for (let index = 0; index < count; index++) headers[take().toLowerCase()] = take();
  return headers;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
