// Connections to a node's agent: TLS with our client certificate, and the agent must show a certificate of our server
// authority for that very node, so that a forged address in a Node object leads nowhere.

import { connect, type TLSSocket } from 'node:tls';
import { isIP } from 'node:net';
import type { Clock } from '../../../api/clock.ts';
import { isLoopback } from '../../../api/address.ts';
import { NetloomError } from '../../../api/errors.ts';
import type { Node } from '../../../api/types.ts';

export interface NodeLinkOptions {
  caPem: string; clock: Clock;
  /** Our client certificate; asked for at each connection, since it is renewed. */
  pair: () => { certPem: string; keyPem: string };
  /** The API server's own bind address: when it is loopback, so are its agents. */
  bind: string;
}

const connectTimeoutMs = 5_000;

/** Opens connections to agents. */
export class NodeLink {
  readonly #options: NodeLinkOptions;

  constructor(options: NodeLinkOptions) { this.#options = options; }

  /** A verified connection. Throws ServiceUnavailable when the node has no agent or none of its addresses answers. */
  async open(node: Node | undefined, nodeName: string): Promise<TLSSocket> {
    const port = node?.status?.daemonEndpoints?.kubeletEndpoint?.Port;
    if (node === undefined || port === undefined || port === 0) throw unavailable(nodeName, 'it has no agent endpoint');
    const own = (node.status?.addresses ?? []).filter((address) => address.type === 'InternalIP').map((address) => address.address);
    const addresses = isLoopback(this.#options.bind) ? ['127.0.0.1', ...own] : own;
    let last: Error | undefined;
    for (const address of addresses) {
      try { return await this.#connect(address, port, nodeName); } catch (error) { last = error as Error; }
    }
    throw unavailable(nodeName, last?.message ?? 'it has no address');
  }

  #connect(host: string, port: number, nodeName: string): Promise<TLSSocket> {
    const { caPem, clock } = this.#options;
    const { certPem, keyPem } = this.#options.pair();
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, ca: caPem, cert: certPem, key: keyPem, minVersion: 'TLSv1.2', ...(isIP(nodeName) === 0 ? { servername: nodeName } : {}) });
      const timer = clock.after(connectTimeoutMs, () => socket.destroy(new Error('connect timed out')));
      socket.once('secureConnect', () => { timer.cancel(); socket.removeAllListeners('error'); socket.on('error', () => {}); resolve(socket); });
      socket.once('error', (error) => { timer.cancel(); reject(error); });
    });
  }
}

function unavailable(nodeName: string, reason: string): NetloomError {
  return new NetloomError('ServiceUnavailable', `cannot reach the agent of node "${nodeName}": ${reason}`, { source: 'upstream', details: {} });
}
