// Strict decoder of the chunked coding (RFC 9112 §7.1), for request and response bodies. It never copies: it lists the
// spans of data inside the caller's buffer, and the engine writes its own framing around them, so that no byte of
// foreign framing is ever passed on (P-1). Extensions are checked and dropped; trailers are checked and kept as text.
// Limits: 4 KiB of extension per chunk line, 4 KiB of trailers, 15 hex digits of size (CVE-2024-22019, CVE-2025-22871).

import { tokenBytes, valueBytes } from './fields.ts';

export const chunkMore = 0;
export const chunkDone = 1;
export const chunkFault = 2;

const extensionBytesMax = 4_096;
const trailerBytesMax = 4_096;

/** What follows the first ';' of a chunk line: name [= token or quoted string], more of them after ';'. */
const extensionForm = /^[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:=(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+|"(?:[^"\\]|\\.)*"))?(?:;[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:=(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+|"(?:[^"\\]|\\.)*"))?)*$/;

/** In a trailer section these are an attempt to change framing or routing: the message is refused. */
const faultyTrailers = /^(content-length|transfer-encoding|host)$/i;

const sizeState = 0, extensionState = 1, sizeLfState = 2, dataState = 3, dataCrState = 4, dataLfState = 5, trailerState = 6;

/** Fields that may not stand in a trailer section: framing, routing, credentials (RFC 9110 §6.5.1). */
const forbiddenTrailers = /^(connection|keep-alive|proxy-.*|te|trailer|upgrade|authorization|cookie|set-cookie|expect|cache-control|max-forwards|content-type|content-encoding|content-range|range|www-authenticate|x-forwarded-.*|forwarded|x-real-ip|via|date|age|expires|location|retry-after|vary|warning)$/i;

/** Decodes one body at a time; call reset() before each. */
export class ChunkDecoder {
  /** start, end, start, end, … of data in the buffer given last. */
  readonly spans: number[] = [];
  spanCount = 0;
  /** Where the decoder stopped: after the last byte it used. */
  position = 0;
  /** Trailer fields, each with its CRLF, without forbidden ones; complete when done. */
  trailers = '';
  #state = sizeState;
  #size = 0;
  #digitCount = 0;
  #extension = '';
  #trailerText = '';

  reset(): void {
    this.spanCount = 0; this.trailers = '';
    this.#state = sizeState; this.#size = 0; this.#digitCount = 0; this.#extension = ''; this.#trailerText = '';
  }

  /** Consumes `bytes[start, end)`: chunkMore, chunkDone (position says where the body ended) or chunkFault. O(n). */
  decode(bytes: Buffer, start: number, end: number): number {
    this.spanCount = 0;
    this.position = start;
    while (this.position < end) {
      const result = this.#state === dataState ? this.#skipData(end)
        : this.#state === trailerState ? this.#readTrailer(bytes, end)
        : this.#state === sizeState ? this.#readSize(bytes, end)
        : this.#state === extensionState ? this.#skipExtension(bytes, end)
        : this.#readLineEnd(bytes[this.position++]!);
      if (result !== chunkMore) return result;
    }
    return chunkMore;
  }

  #readSize(bytes: Buffer, end: number): number {
    let position = this.position;
    while (position < end) {
      const byte = bytes[position]!;
      const digit = byte >= 48 && byte <= 57 ? byte - 48 : byte >= 97 && byte <= 102 ? byte - 87 : byte >= 65 && byte <= 70 ? byte - 55 : -1;
      if (digit < 0) {
        if (this.#digitCount === 0) return chunkFault;
        if (byte === 13) this.#state = sizeLfState;
        else if (byte === 59) this.#state = extensionState;
        else return chunkFault;
        this.position = position + 1;
        return chunkMore;
      }
      if (++this.#digitCount > 15) return chunkFault;
      this.#size = this.#size * 16 + digit;
      if (this.#size > Number.MAX_SAFE_INTEGER) return chunkFault;
      position++;
    }
    this.position = position;
    return chunkMore;
  }

  #skipExtension(bytes: Buffer, end: number): number {
    let position = this.position;
    while (position < end && valueBytes[bytes[position]!] === 1) position++;
    this.#extension += bytes.latin1Slice(this.position, Math.min(position, this.position + extensionBytesMax + 1));
    if (this.#extension.length > extensionBytesMax) return chunkFault;
    this.position = position;
    if (position < end) {
      if (bytes[position] !== 13 || !extensionForm.test(this.#extension)) return chunkFault;
      this.position++;
      this.#state = sizeLfState;
    }
    return chunkMore;
  }

  #readLineEnd(byte: number): number {
    if (this.#state === dataCrState) {
      this.#state = dataLfState;
      return byte === 13 ? chunkMore : chunkFault;
    }
    if (byte !== 10) return chunkFault;
    this.#digitCount = 0;
    this.#extension = '';
    if (this.#state === dataLfState) { this.#state = sizeState; this.#size = 0; } else this.#state = this.#size === 0 ? trailerState : dataState;
    return chunkMore;
  }

  #skipData(end: number): number {
    const length = Math.min(this.#size, end - this.position);
    this.spans[this.spanCount] = this.position;
    this.spans[this.spanCount + 1] = this.position + length;
    this.spanCount += 2;
    this.position += length;
    this.#size -= length;
    if (this.#size === 0) this.#state = dataCrState;
    return chunkMore;
  }

  #readTrailer(bytes: Buffer, end: number): number {
    const before = this.#trailerText.length;
    const room = Math.min(end, this.position + trailerBytesMax + 4 - before);
    this.#trailerText += bytes.latin1Slice(this.position, room);
    if (this.#trailerText.startsWith('\r\n')) {
      this.position += 2 - before;
      return chunkDone;
    }
    const close = this.#trailerText.indexOf('\r\n\r\n', Math.max(0, before - 3));
    if (close < 0) {
      this.position = room;
      if (this.#trailerText.length >= trailerBytesMax + 4) return chunkFault;
      return mayStillBeTrailers(this.#trailerText) ? chunkMore : chunkFault;
    }
    this.position += close + 4 - before;
    const kept = filterTrailers(this.#trailerText.slice(0, close + 2));
    if (kept === undefined) return chunkFault;
    this.trailers = kept;
    return chunkDone;
  }
}

/** Refuses early what cannot become valid: a first byte that begins no field name. */
function mayStillBeTrailers(text: string): boolean {
  return text.charCodeAt(0) === 13 ? text.length < 2 : tokenBytes[text.charCodeAt(0)] === 1;
}

/** The trailer lines without forbidden ones, or undefined when a line is not a field line. */
function filterTrailers(text: string): string | undefined {
  let kept = '';
  for (const line of text.slice(0, -2).split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) return undefined;
    for (let index = 0; index < line.length; index++) {
      const byte = line.charCodeAt(index);
      if ((index < colon ? tokenBytes : valueBytes)[byte] !== 1) return undefined;
    }
    if (faultyTrailers.test(line.slice(0, colon))) return undefined;
    if (!forbiddenTrailers.test(line.slice(0, colon))) kept += `${line}\r\n`;
  }
  return kept;
}
