// POST /netloom/v1/join: how a new node gets its credentials. The caller shows a join token; the answer holds a client
// certificate for the node's identity, a serving certificate for its own endpoint, and the cluster's settings.
//   request  {"nodeName": "host-1", "addresses": ["192.0.2.7"]}
//   answer   {"nodeName", "caPem", "certPem", "keyPem", "serving": {"certPem", "keyPem", "clientCaPem"}, "cluster": {…}}
// The node checked the server before it sent its token: GET /cacerts gives the CA whose hash the token carries.

import { isDnsSubdomain } from '../../api/meta.ts';
import { parseIP } from '../../api/address.ts';
import { NetloomError } from '../../api/errors.ts';
import type { Lease } from '../../api/types.ts';
import type { Certificates } from '../certificates.ts';
import type { ControlConfig } from '../config.ts';
import type { Storage } from '../storage/store.ts';
import { groupNodes, nodeUserPrefix } from './auth/user.ts';
import { badRequest } from './errors.ts';
import type { Exchange } from './http/exchange.ts';

const bodyBytesMax = 65_536;
const addressCountMax = 16;
/** A node whose Lease was renewed this recently is alive: its name is not given to another. */
const aliveMs = 40_000;

export interface JoinRequest { nodeName: string; addresses: string[] }

/** Makes the handler. */
export function joinHandler(certificates: Certificates, storage: Storage, config: ControlConfig): (exchange: Exchange) => Promise<object> {
  return async (exchange) => {
    const { nodeName, addresses } = readRequest(await exchange.readBody(bodyBytesMax));
    const lease = storage.get('leases.coordination.k8s.io', `kube-node-lease/${nodeName}`)?.object as Lease | undefined;
    const renewedMs = Date.parse(lease?.spec?.renewTime ?? '');
    if (config.clock.nowMs() - renewedMs < aliveMs) {
      throw new NetloomError('Conflict', `a node named ${nodeName} is alive in this cluster`, { source: 'downstream', hint: 'choose another name with --node-name, or stop the other node and wait a minute' });
    }
    const client = certificates.issueClient(`${nodeUserPrefix}${nodeName}`, [groupNodes]);
    const serving = certificates.issueServing(`${nodeUserPrefix}${nodeName}`, [nodeName, 'localhost', '127.0.0.1', ...addresses]);
    return {
      nodeName, caPem: certificates.serverAuthority.certPem, ...client, serving: { ...serving, clientCaPem: certificates.clientAuthority.certPem },
      cluster: { serviceCIDRs: config.serviceCIDRs, podCIDR: config.podCIDR, clusterDomain: config.clusterDomain, dnsServiceIP: config.dnsServiceIP },
    };
  };
}

function readRequest(bytes: Buffer): JoinRequest {
  let value: Partial<JoinRequest> | null;
  try { value = JSON.parse(bytes.toString('utf8')) as Partial<JoinRequest> | null; } catch { throw badRequest('the body is not JSON'); }
  const nodeName = value?.nodeName;
  const addresses = value?.addresses ?? [];
  if (typeof nodeName !== 'string' || !isDnsSubdomain(nodeName)) throw badRequest('nodeName: must be a DNS name in lower case');
  if (!Array.isArray(addresses) || addresses.length > addressCountMax || !addresses.every((item) => typeof item === 'string' && parseIP(item) !== undefined)) throw badRequest(`addresses: must be at most ${addressCountMax} IP addresses`);
  return { nodeName, addresses };
}
