// A joining node for tests: checks the server by the CA hash in the token, then asks for credentials. It is written
// against the documented requests alone, with node:https, so that the command's own client is not its only judge.

import { request } from 'node:https';
import { NetloomError } from '../../../api/errors.ts';
import { fingerprintOf, type KeyPair } from '../../../control/certificates.ts';

export interface JoinAnswer {
  nodeName: string; caPem: string; certPem: string; keyPem: string;
  serving: KeyPair & { clientCaPem: string };
  cluster: { serviceCIDRs: string[]; podCIDR: string; clusterDomain: string; dnsServiceIP: string };
}
export interface JoinOptions { server: string; token: string; nodeName: string; addresses: readonly string[] }

const timeoutMs = 15_000;
const answerBytesMax = 1 << 20;

/** Joins. Throws ConfigInvalid for a bad token or a server that is not the token's, ConnectFailed, and the server's own errors. */
export async function joinCluster(options: JoinOptions): Promise<JoinAnswer> {
  const parts = options.token.split('.');
  const wanted = parts[2];
  if (parts.length !== 3 || wanted === undefined || !/^[0-9a-f]{64}$/.test(wanted)) throw new NetloomError('ConfigInvalid', 'this is not a join token', { source: 'config', hint: 'make one on the server with "netloom token create"' });
  const caPem = await call('GET', `${options.server}/cacerts`, {});
  let found: string;
  try { found = fingerprintOf(caPem); } catch { throw new NetloomError('ConfigInvalid', `${options.server} is no netloom server`, { source: 'config', hint: 'check the URL' }); }
  if (found !== wanted) throw new NetloomError('ConfigInvalid', `${options.server} is not the server that the token was made on: its CA has another hash`, { source: 'config', hint: 'check the URL, or make a new token on that server' });
  const body = JSON.stringify({ nodeName: options.nodeName, addresses: options.addresses });
  const answer = await call('POST', `${options.server}/netloom/v1/join`, { caPem, body, token: options.token });
  return JSON.parse(answer) as JoinAnswer;
}

function call(method: string, url: string, options: { caPem?: string; body?: string; token?: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => reject(new NetloomError('ConnectFailed', `cannot reach ${url}: ${cause.message}`, { source: 'api', cause, hint: 'check the URL and that the server runs' }));
    let outgoing;
    try {
      outgoing = request(url, {
        method, timeout: timeoutMs, ...(options.caPem === undefined ? { rejectUnauthorized: false } : { ca: options.caPem }),
        headers: { accept: '*/*', ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }), ...(options.body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(options.body) }) },
      });
    } catch (error) { fail(error as Error); return; }
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', fail);
    outgoing.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => { text += chunk; if (text.length > answerBytesMax) outgoing.destroy(new Error('the answer is too long')); });
      response.on('end', () => {
        if (response.statusCode === 200) { resolve(text); return; }
        let message = `${url} answered ${response.statusCode}`;
        try { message = (JSON.parse(text) as { message?: string }).message ?? message; } catch { /* not from an API server */ }
        reject(new NetloomError(response.statusCode === 401 ? 'Unauthorized' : response.statusCode === 409 ? 'Conflict' : 'ConnectFailed', message, { source: 'api', hint: response.statusCode === 401 ? 'the token is unknown or expired: make a new one with "netloom token create"' : 'see the server\'s log' }));
      });
    });
    outgoing.end(options.body);
  });
}
