// Keeps what a container prints. One file per start of the container, lines in the CRI form that `kubectl logs
// --timestamps` needs: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`. A file that reaches the size limit is renamed
// to `.1` (older ones are dropped), the last start's file stays for `logs --previous`.
// Reading from the process pauses while the disk is behind, so memory is bounded by `pendingBytesMax`.

import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Clock } from '../../api/clock.ts';

export interface LogFileOptions { fileBytesMax: number; clock: Clock }
export const logDefaults = Object.freeze({ fileBytesMax: 10 * 1024 * 1024 });

const lineBytesMax = 16 * 1024;
const newline = 10;
type StreamName = 'stdout' | 'stderr';
type LogListener = (stream: StreamName, data: Buffer) => void;

/** `<directory>/<restart count>.log` and, after rotation, `.log.1`. */
export function logPath(directory: string, restartCount: number): string {
  return join(directory, `${restartCount}.log`);
}

export class LogFile {
  readonly path: string;
  readonly #options: LogFileOptions;
  readonly #listeners = new Set<LogListener>();
  readonly #sources: Readable[] = [];
  readonly #partial: Record<StreamName, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  #file: WriteStream;
  #bytes = 0;
  #isRotating = false;
  #openCount = 0;
  #closed = Promise.withResolvers<void>();

  private constructor(path: string, options: LogFileOptions) {
    this.path = path;
    this.#options = options;
    this.#file = this.#open();
  }

  /** Starts the file of this start and removes those older than the previous one. */
  static async create(directory: string, restartCount: number, options: LogFileOptions): Promise<LogFile> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) {
      const start = Number.parseInt(name, 10);
      if (Number.isInteger(start) && (start < restartCount - 1 || start >= restartCount)) await rm(join(directory, name), { force: true });
    }
    return new LogFile(logPath(directory, restartCount), options);
  }

  /** Ends when both streams of the process have ended and everything is on disk. */
  get whenClosed(): Promise<void> { return this.#closed.promise; }

  /** Raw output as it arrives, for attach. */
  onData(listener: LogListener): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  capture(stream: StreamName, source: Readable): void {
    this.#openCount += 1;
    this.#sources.push(source);
    source.on('data', (data: Buffer) => {
      for (const listener of this.#listeners) listener(stream, data);
      this.#append(stream, data);
    });
    source.on('error', () => {});
    source.once('close', () => {
      const rest = this.#partial[stream];
      if (rest.length > 0) this.#write([this.#prefix(stream, 'P'), rest, Buffer.from('\n')]);
      this.#partial[stream] = Buffer.alloc(0);
      this.#openCount -= 1;
      if (this.#openCount === 0) this.#file.end(() => { this.#closed.resolve(); });
    });
  }

  /** Stops reading from a process whose descendants keep the pipes open. */
  detach(): void {
    for (const source of this.#sources) source.destroy();
    if (this.#sources.length === 0) this.#file.end(() => { this.#closed.resolve(); });
  }

  #open(): WriteStream {
    const file = createWriteStream(this.path, { flags: 'a', mode: 0o600 });
    file.on('error', () => {});
    file.on('drain', () => { for (const source of this.#sources) source.resume(); });
    return file;
  }

  #prefix(stream: StreamName, tag: 'F' | 'P'): Buffer {
    const time = new Date(this.#options.clock.nowMs()).toISOString();
    return Buffer.from(`${time.slice(0, 23)}000000Z ${stream} ${tag} `);
  }

  #append(stream: StreamName, data: Buffer): void {
    const rest = this.#partial[stream];
    const bytes = rest.length === 0 ? data : Buffer.concat([rest, data]);
    const full = this.#prefix(stream, 'F');
    const parts: Buffer[] = [];
    let start = 0;
    for (let end = bytes.indexOf(newline, start); end >= 0; end = bytes.indexOf(newline, start)) {
      parts.push(full, bytes.subarray(start, end + 1));
      start = end + 1;
    }
    let tail = bytes.subarray(start);
    if (tail.length > lineBytesMax) {
      parts.push(this.#prefix(stream, 'P'), tail, Buffer.from('\n'));
      tail = Buffer.alloc(0);
    }
    this.#partial[stream] = tail.length === 0 ? tail : Buffer.from(tail);
    if (parts.length > 0) this.#write(parts);
  }

  #write(parts: Buffer[]): void {
    const block = Buffer.concat(parts);
    this.#bytes += block.length;
    if (!this.#file.write(block)) for (const source of this.#sources) source.pause();
    if (this.#bytes > this.#options.fileBytesMax && !this.#isRotating) void this.#rotate();
  }

  async #rotate(): Promise<void> {
    this.#isRotating = true;
    const old = this.#file;
    // The old descriptor follows the rename, so nothing that is still queued on it is lost or misplaced.
    await rename(this.path, `${this.path}.1`).catch(() => {});
    this.#bytes = 0;
    this.#file = this.#open();
    old.end();
    for (const source of this.#sources) source.resume();
    this.#isRotating = false;
  }
}
