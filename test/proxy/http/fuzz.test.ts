// Differential fuzz of the request parser against llhttp (node:http): what ours accepts, llhttp accepts, with the same
// method, target, fields and body. Seeded; SEED and NETLOOM_SOAK choose another run and a longer one. Differences that
// are meant: unknown methods and HTTP/1.2–1.9 are passed on by us and refused by llhttp, so the seeds avoid them.

import http from 'node:http';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { ChunkDecoder, chunkDone } from '../../../proxy/http/message/chunks.ts';
import { headComplete, headLimits, parseRequestHead, RequestHead } from '../../../proxy/http/message/request-head.ts';
import { readTarget, Target } from '../../../proxy/http/message/target.ts';
import { parseResponseHead, ResponseHead, responseLimits } from '../../../proxy/http/message/response-head.ts';

let seed = Number(process.env['SEED'] ?? 20_261_121);
const random = (): number => { seed = (seed * 1_664_525 + 1_013_904_223) >>> 0; return seed / 4_294_967_296; };
const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
const count = process.env['NETLOOM_SOAK'] === undefined ? 3_000 : 200_000;

const seeds = [
  'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n',
  'POST /x?y=1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello',
  'PUT /a/b HTTP/1.1\r\nHost: a.test:80\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'DELETE /q HTTP/1.1\r\nhost:a.test\r\nX-A:  1 \r\nX-B:\t2\r\nAccept: */*\r\nConnection: keep-alive, x-a\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n',
  'HEAD /h HTTP/1.0\r\nUser-Agent: x (y; z)\r\nCookie: a=b; c="d"\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n',
  'GET http://a.test/z HTTP/1.1\r\nHost: b.test\r\n\r\n',
];
const tokens = ['\r\n', '\n', '\r', ' ', '\t', ':', '\0', ',', ';', 'chunked', 'Content-Length: 3\r\n', 'Transfer-Encoding: chunked\r\n', 'Host: b\r\n', '0\r\n\r\n', '5', 'f', 'G', '-', '+', '"', '\x0b', '\x7f', '\xff', '%', '/', '..', '?', '#', 'HTTP/1.1', 'HTTP/1.0', 'Connection: close\r\n', 'X: y\r\n', 'X : y\r\n', ' z\r\n'];

function mutate(text: string): string {
  let result = text;
  for (let round = Math.floor(random() * 3) + 1; round > 0; round--) {
    const at = Math.floor(random() * (result.length + 1));
    const kind = random();
    if (kind < 0.35) result = result.slice(0, at) + pick(tokens) + result.slice(at);
    else if (kind < 0.6) result = result.slice(0, at) + result.slice(at + 1 + Math.floor(random() * 3));
    else if (kind < 0.8) result = result.slice(0, at) + String.fromCharCode(Math.floor(random() * 256)) + result.slice(at + 1);
    else { const from = Math.floor(random() * result.length); result = result.slice(0, at) + result.slice(from, from + Math.floor(random() * 20)) + result.slice(at); }
  }
  return result;
}

interface Meaning { method: string; target: string; fields: string[]; body: string }

/** Our reading, and how many bytes it took; llhttp is given just these, so that what follows cannot spoil it. */
function ours(bytes: Buffer): { meaning: Meaning; length: number } | undefined {
  const head = new RequestHead();
  const target = new Target();
  if (parseRequestHead(bytes, 0, bytes.length, head, headLimits, false) !== headComplete || readTarget(head, target, '') !== 0) return undefined;
  const fields = head.text.slice(head.lineEnd + 2).split('\r\n').slice(0, -1).map((line) => { const colon = line.indexOf(':'); return `${line.slice(0, colon)}:${line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')}`; });
  const meaning: Meaning = { method: head.method, target: head.target, fields, body: '' };
  let length = head.end;
  if (head.isChunked) {
    const decoder = new ChunkDecoder();
    if (decoder.decode(bytes, head.end, bytes.length) !== chunkDone) return undefined;
    length = decoder.position;
    for (let index = 0; index < decoder.spanCount; index += 2) meaning.body += bytes.toString('latin1', decoder.spans[index], decoder.spans[index + 1]);
  } else if (head.contentLength > 0) {
    if (bytes.length < head.end + head.contentLength) return undefined;
    length = head.end + head.contentLength;
    meaning.body = bytes.toString('latin1', head.end, length);
  }
  return { meaning, length };
}

/** What a bare node:http server makes of the bytes; undefined = refused or not whole. */
function theirs(bytes: Buffer): Promise<Meaning | undefined> {
  return new Promise((resolve) => {
    const server = http.createServer({ maxHeaderSize: 65_536, requireHostHeader: false });
    const socket = new Duplex({ read() {}, write(_chunk, _encoding, done) { done(); } });
    server.on('clientError', () => resolve(undefined));
    const take = (request: http.IncomingMessage): void => {
      let body = '';
      request.on('data', (chunk: Buffer) => { body += chunk.toString('latin1'); });
      request.on('error', () => resolve(undefined));
      request.on('end', () => {
        const fields: string[] = [];
        for (let index = 0; index < request.rawHeaders.length; index += 2) fields.push(`${request.rawHeaders[index]}:${request.rawHeaders[index + 1]}`);
        resolve({ method: request.method ?? '', target: request.url ?? '', fields, body });
      });
    };
    server.on('request', take);
    server.on('checkContinue', take);
    server.on('checkExpectation', take);
    server.on('upgrade', (request) => resolve({ method: request.method ?? '', target: request.url ?? '', fields: [], body: 'UPGRADE' }));
    server.on('connect', () => resolve(undefined));
    server.emit('connection', socket);
    socket.push(bytes);
    setImmediate(() => setImmediate(() => setImmediate(() => { resolve(undefined); socket.destroy(); })));
  });
}

test(`what ours accepts, llhttp accepts with the same meaning (${count} mutations)`, async () => {
  let accepted = 0;
  for (let index = 0; index < count; index++) {
    const text = mutate(pick(seeds));
    const bytes = Buffer.from(text, 'latin1');
    const own = ours(bytes);
    if (own === undefined || !http.METHODS.includes(own.meaning.method) || /^[^\r\n]* HTTP\/1\.[2-9]\r\n/.test(text.replace(/^(\r\n)+/, ''))) continue;
    // Tabs are legal white space around a value (RFC 9110 §5.5); llhttp refuses them around framing fields.
    if (/^(transfer-encoding|content-length|connection|upgrade):[^\r\n]*\t/im.test(text)) continue;
    accepted += 1;
    const other = await theirs(bytes.subarray(0, own.length));
    if (other?.body === 'UPGRADE') continue;
    expect(other, JSON.stringify(text)).toEqual(own.meaning);
  }
  expect(accepted).toBeGreaterThan(count / 20);
});

test('no mutation makes a parser throw, loop or read past its end; partial input gives the same result', () => {
  const head = new RequestHead();
  const response = new ResponseHead();
  const answers = ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\nX: y\r\n\r\nok', 'HTTP/1.0 404 Not Found\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\n\r\n2\r\nok\r\n0\r\n\r\n'];
  for (let index = 0; index < count * 4; index++) {
    const bytes = Buffer.from(mutate(pick(seeds)), 'latin1');
    const whole = parseRequestHead(bytes, 0, bytes.length, head, headLimits, false);
    const end = head.end;
    if (whole === headComplete) {
      expect(end).toBeLessThanOrEqual(bytes.length);
      // Each shorter input is either incomplete or refused the same way; never complete with another end.
      const cut = Math.floor(random() * end);
      expect(parseRequestHead(bytes, 0, cut, head, headLimits, false)).not.toBe(headComplete);
    }
    const answer = Buffer.from(mutate(pick(answers)), 'latin1');
    if (parseResponseHead(answer, 0, answer.length, response, responseLimits) === headComplete) expect(response.end).toBeLessThanOrEqual(answer.length);
    const decoder = new ChunkDecoder();
    decoder.decode(bytes, 0, bytes.length);
    expect(decoder.position).toBeLessThanOrEqual(bytes.length);
  }
});

test('a chunked body split anywhere decodes to the same data', () => {
  const body = Buffer.from('5;x=y\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\nREST', 'latin1');
  for (let first = 0; first <= body.length - 4; first++) for (const second of [first, Math.min(body.length - 4, first + 7)]) {
    const decoder = new ChunkDecoder();
    let data = '';
    let result = 0;
    let consumed = 0;
    for (const [start, end] of [[0, first], [first, second], [second, body.length]] as const) {
      if (result !== 0) break;
      result = decoder.decode(body, start, end);
      consumed = decoder.position;
      for (let index = 0; index < decoder.spanCount; index += 2) data += body.toString('latin1', decoder.spans[index], decoder.spans[index + 1]);
    }
    expect([result, data, decoder.trailers, body.toString('latin1', consumed)]).toEqual([chunkDone, 'hello0123456789abcdef', 'X-A: b\r\nX-C: d\r\n', 'REST']);
  }
});
