// Serves `kubectl logs` from the files that log-file.ts writes: tail, since, timestamps, byte limit, follow.
// Called by server/server.ts. A follow ends when the container's run has ended and all of it was sent.

import { open, stat, watch } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Writable } from 'node:stream';

export interface LogQuery {
  tailLines?: number | undefined; sinceMs?: number | undefined; limitBytes?: number | undefined;
  hasTimestamps: boolean; isFollow: boolean;
}

const chunkBytes = 64 * 1024;

/** One stored line; undefined for what does not parse (a torn last line). */
export function parseLogLine(line: string): { time: string; stream: string; isPartial: boolean; text: string } | undefined {
  const first = line.indexOf(' ');
  const second = line.indexOf(' ', first + 1);
  if (first < 20 || second < 0) return undefined;
  return { time: line.slice(0, first), stream: line.slice(first + 1, second), isPartial: line[second + 1] === 'P', text: line.slice(second + 3) };
}

/**
 * Writes the selected lines to `out` and resolves at their end; `ended` resolves when the container's
 * run is over and its file complete.
 */
export async function sendLog(path: string, query: LogQuery, out: Writable, ended: Promise<void>, signal: AbortSignal): Promise<void> {
  const sender = new Sender(query, out);
  const rotated = `${path}.1`;
  if (query.tailLines !== undefined) {
    const lines = (await lastLines(path, query.tailLines));
    const missing = query.tailLines - lines.lines.length;
    const older = missing > 0 ? (await lastLines(rotated, missing)).lines : [];
    for (const line of [...older, ...lines.lines]) await sender.line(line);
    if (query.isFollow) await follow(path, lines.end, sender, ended, signal);
  } else {
    await copyFrom(rotated, 0, sender);
    const end = await copyFrom(path, 0, sender);
    if (query.isFollow) await follow(path, end, sender, ended, signal);
  }
}

class Sender {
  readonly #query: LogQuery;
  readonly #out: Writable;
  #left: number;

  constructor(query: LogQuery, out: Writable) {
    this.#query = query;
    this.#out = out;
    this.#left = query.limitBytes ?? Infinity;
  }

  get isDone(): boolean { return this.#left <= 0 || this.#out.destroyed || this.#out.writableEnded; }

  async line(line: string): Promise<void> {
    if (this.isDone) return;
    const parsed = parseLogLine(line);
    if (parsed === undefined) return;
    if (this.#query.sinceMs !== undefined && Date.parse(parsed.time) < this.#query.sinceMs) return;
    const text = `${this.#query.hasTimestamps ? `${parsed.time} ` : ''}${parsed.text}${parsed.isPartial ? '' : '\n'}`;
    let bytes = Buffer.from(text);
    if (bytes.length > this.#left) bytes = bytes.subarray(0, this.#left);
    this.#left -= bytes.length;
    if (!this.#out.write(bytes)) {
      await new Promise<void>((resolve) => {
        const done = (): void => { this.#out.off('drain', done); this.#out.off('close', done); resolve(); };
        this.#out.on('drain', done);
        this.#out.on('close', done);
      });
    }
  }
}

/** Sends whole lines from `offset` on; returns the offset behind the last whole line. */
async function copyFrom(path: string, offset: number, sender: Sender): Promise<number> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return offset;
  try {
    const buffer = Buffer.alloc(chunkBytes);
    let rest = Buffer.alloc(0);
    let position = offset;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, chunkBytes, position + rest.length);
      if (bytesRead === 0 || sender.isDone) return position;
      const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      const end = bytes.lastIndexOf(10);
      if (end < 0) { rest = bytes; continue; }
      for (const line of bytes.toString('utf8', 0, end).split('\n')) await sender.line(line);
      position += end + 1;
      rest = bytes.subarray(end + 1);
    }
  } finally {
    await file.close();
  }
}

async function lastLines(path: string, count: number): Promise<{ lines: string[]; end: number }> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return { lines: [], end: 0 };
  try {
    const { size } = await file.stat();
    let start = size;
    let text = Buffer.alloc(0);
    while (start > 0 && countNewlines(text) <= count) {
      const length = Math.min(chunkBytes, start);
      const block = Buffer.alloc(length);
      await file.read(block, 0, length, start - length);
      text = Buffer.concat([block, text]);
      start -= length;
    }
    const end = text.lastIndexOf(10) + 1;
    const lines = text.toString('utf8', 0, Math.max(0, end - 1)).split('\n');
    return { lines: end === 0 || count === 0 ? [] : lines.slice(-count), end: size - (text.length - end) };
  } finally {
    await file.close();
  }
}

function countNewlines(bytes: Buffer): number {
  let count = 0;
  for (let index = bytes.indexOf(10); index >= 0; index = bytes.indexOf(10, index + 1)) count += 1;
  return count;
}

async function follow(path: string, from: number, sender: Sender, ended: Promise<void>, signal: AbortSignal): Promise<void> {
  // The folder is watched, not the file: rotation puts another file at the path.
  const changes = watch(dirname(path), { signal })[Symbol.asyncIterator]();
  let hasEnded = false;
  const whenEnded = ended.then(() => { hasEnded = true; });
  let offset = from;
  let change: Promise<unknown> | undefined;
  try {
    while (!signal.aborted && !sender.isDone) {
      const isLast = hasEnded;
      const size = (await stat(path).catch(() => undefined))?.size ?? 0;
      if (size < offset) offset = 0;
      const next = await copyFrom(path, offset, sender);
      const isIdle = next === offset;
      offset = next;
      if (!isIdle) continue;
      if (isLast) return;
      change ??= changes.next().then(() => { change = undefined; });
      await Promise.race([change, whenEnded]);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    change?.catch(() => {});
    void changes.return?.();
  }
}
