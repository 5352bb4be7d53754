// Strong random numbers for query IDs, letter case and socket choice, drawn from the system's generator in blocks so
// that one query costs no system call (RFC 5452 §9.2 asks for unpredictable IDs and ports).

import { randomFillSync } from 'node:crypto';

const block = Buffer.alloc(4_096);
let used = block.length;

/** 0…65535, unpredictable. */
export function random16(): number {
  if (used + 2 > block.length) {
    randomFillSync(block);
    used = 0;
  }
  const value = ((block[used] ?? 0) << 8) | (block[used + 1] ?? 0);
  used += 2;
  return value;
}

/** 32 lower-case hexadecimal digits. */
export function randomToken(): string {
  let text = '';
  while (text.length < 32) text += random16().toString(16).padStart(4, '0');
  return text;
}
