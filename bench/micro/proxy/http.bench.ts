// Micro benchmarks of proxy/http: reading a request head and a response head, and writing the head that goes upstream.

import type { Exchange } from '../../../proxy/http/exchange.ts';
import { headLimits, parseRequestHead, RequestHead } from '../../../proxy/http/message/request-head.ts';
import { buildRequest } from '../../../proxy/http/message/request-text.ts';
import { parseResponseHead, ResponseHead, responseLimits, responseText } from '../../../proxy/http/message/response-head.ts';
import { readTarget, Target } from '../../../proxy/http/message/target.ts';
import type { MicroBench } from '../../lib/micro.ts';

const small = 'GET /cart/items HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n';
const browser = `GET /cart/items?page=2 HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\nCookie: session=${'a'.repeat(64)}; theme=dark\r\nReferer: https://shop.example/cart\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nUpgrade-Insecure-Requests: 1\r\nCache-Control: max-age=0\r\n\r\n`;
const answer = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nServer: x\r\nETag: "1234"\r\nCache-Control: no-cache\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 19\r\n\r\nhello from backend\n';

function readsRequest(name: string, text: string): MicroBench {
  return { name: `proxy/http read request head, ${name}`, setup: () => {
    const bytes = Buffer.from(text, 'latin1');
    const head = new RequestHead();
    const target = new Target();
    return () => {
      if (parseRequestHead(bytes, 0, bytes.length, head, headLimits, false) !== 1 || readTarget(head, target, '') !== 0) throw new Error('the head was refused');
      return head.end;
    };
  } };
}

/** An exchange with all that buildRequest reads. */
function writesRequest(name: string, text: string): MicroBench {
  return { name: `proxy/http write request head, ${name}`, setup: () => {
    const bytes = Buffer.from(text, 'latin1');
    const head = new RequestHead();
    const target = new Target();
    if (parseRequestHead(bytes, 0, bytes.length, head, headLimits, false) !== 1 || readTarget(head, target, '') !== 0) throw new Error('the head was refused');
    const peer = { ip: '203.0.113.7', scheme: 'http', localPort: 80, isTrusted: false, forwardedFields: 'X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nX-Real-IP: 203.0.113.7\r\nVia: 1.1 netloom\r\n', forwardedElement: '', isExcess: false };
    const exchange = { head, target, peer, engine: { nextRequestID: () => '0123456789abcdef' }, bodyKind: 0, isRequestWhole: true, isTargetChanged: false, upstreamHost: undefined, requestID: '' } as unknown as Exchange;
    // The flat bytes are what is written to the socket, so flattening belongs to the cost.
    const out = Buffer.alloc(8_192);
    return () => out.latin1Write(buildRequest(exchange), 0);
  } };
}

export const benches: MicroBench[] = [
  readsRequest('4 fields', small), readsRequest('browser, 14 fields', browser),
  writesRequest('4 fields', small), writesRequest('browser, 14 fields', browser),
  { name: 'proxy/http read response head', setup: () => {
    const bytes = Buffer.from(answer, 'latin1');
    const head = new ResponseHead();
    return () => { if (parseResponseHead(bytes, 0, bytes.length, head, responseLimits) !== 1) throw new Error('the head was refused'); return head.end; };
  } },
  { name: 'proxy/http read response head and write it', setup: () => {
    const bytes = Buffer.from(answer, 'latin1');
    const head = new ResponseHead();
    return () => { if (parseResponseHead(bytes, 0, bytes.length, head, responseLimits) !== 1) throw new Error('the head was refused'); return responseText(bytes, head, false).length; };
  } },
];
