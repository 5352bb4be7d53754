// Looks at the write-ahead log before SQLite does. SQLite ends recovery silently at the first frame that does not match
// its checksum: right for the torn end that a power cut leaves, wrong for damage in the middle, behind which acknowledged
// writes stand. Damage followed by a later complete transaction is therefore refused here.
// Called by ./journal.ts before opening. Source: SQLite file format, section 4 (the WAL format).

import { readFileSync } from 'node:fs';
import { corruptError } from './errors.ts';

const headerBytes = 32;
const frameHeaderBytes = 24;
const magic = 0x377f0682;

interface WalHeader { isBigEndian: boolean; frameBytes: number; salt1: number; salt2: number; sum1: number; sum2: number }

/** Throws StoreCorrupt when whole transactions follow a damaged one. O(size of the log), a few ms per MB. */
export function checkWal(file: string): void {
  const wal = readIfAny(`${file}-wal`);
  if (wal === undefined || wal.length <= headerBytes) return;
  const header = readHeader(wal);
  if (header === undefined) throw corruptError(file, 'the header of its write-ahead log does not match its checksum');
  const { bad, start } = firstBadFrame(wal, header);
  if (countTransactions(wal, header, start) > 1) throw corruptError(file, `its write-ahead log is broken at frame ${bad + 1} and whole transactions stand behind it`);
}

function readIfAny(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    throw error;
  }
}

function readHeader(wal: Buffer): WalHeader | undefined {
  const kind = wal.readUInt32BE(0);
  const isBigEndian = kind === magic + 1;
  const [sum1, sum2] = checksum(wal, 0, 24, isBigEndian, 0, 0);
  if ((kind !== magic && !isBigEndian) || sum1 !== wal.readUInt32BE(24) || sum2 !== wal.readUInt32BE(28)) return undefined;
  return { isBigEndian, frameBytes: frameHeaderBytes + wal.readUInt32BE(8), salt1: wal.readUInt32BE(16), salt2: wal.readUInt32BE(20), sum1, sum2 };
}

function hasSalts(wal: Buffer, offset: number, header: WalHeader): boolean {
  return wal.readUInt32BE(offset + 8) === header.salt1 && wal.readUInt32BE(offset + 12) === header.salt2;
}

/** Index of the first frame where the chain of checksums breaks, and of the first frame of its transaction. */
function firstBadFrame(wal: Buffer, header: WalHeader): { bad: number; start: number } {
  let { sum1, sum2 } = header;
  let index = 0;
  let start = 0;
  for (let offset = headerBytes; offset + header.frameBytes <= wal.length; offset += header.frameBytes, index++) {
    if (!hasSalts(wal, offset, header)) break;
    [sum1, sum2] = checksum(wal, offset, 8, header.isBigEndian, sum1, sum2);
    [sum1, sum2] = checksum(wal, offset + frameHeaderBytes, header.frameBytes - frameHeaderBytes, header.isBigEndian, sum1, sum2);
    if (sum1 !== wal.readUInt32BE(offset + 16) || sum2 !== wal.readUInt32BE(offset + 20)) break;
    if (wal.readUInt32BE(offset + 4) !== 0) start = index + 1;
  }
  return { bad: index, start };
}

/**
 * Transactions that the frames from `start` on belong to. A commit mark ends one; so does a page that comes a second
 * time, since a transaction writes each page once: the mark before it may be what was damaged. Frames of an earlier
 * round of the log carry other salts and do not count.
 */
function countTransactions(wal: Buffer, header: WalHeader, start: number): number {
  const pages = new Set<number>();
  let count = 0;
  let isBetween = true;
  for (let offset = headerBytes + start * header.frameBytes; offset + frameHeaderBytes <= wal.length; offset += header.frameBytes) {
    if (!hasSalts(wal, offset, header)) continue;
    const page = wal.readUInt32BE(offset);
    if (isBetween || pages.has(page)) {
      count += 1;
      pages.clear();
    }
    pages.add(page);
    isBetween = wal.readUInt32BE(offset + 4) !== 0;
  }
  return count;
}

function checksum(wal: Buffer, offset: number, length: number, isBigEndian: boolean, start1: number, start2: number): [number, number] {
  let sum1 = start1;
  let sum2 = start2;
  for (let at = offset; at < offset + length; at += 8) {
    const word1 = isBigEndian ? wal.readUInt32BE(at) : wal.readUInt32LE(at);
    const word2 = isBigEndian ? wal.readUInt32BE(at + 4) : wal.readUInt32LE(at + 4);
    sum1 = (sum1 + word1 + sum2) >>> 0;
    sum2 = (sum2 + word2 + sum1) >>> 0;
  }
  return [sum1, sum2];
}
