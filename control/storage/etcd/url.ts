// The address of an etcd store as people write it:
//   etcd://host:2379,host:2379[/prefix]      plain HTTP
//   etcds://user:password@host:2379[/prefix][?ca=FILE&cert=FILE&key=FILE]      TLS, with own CA and client certificate
// Called by control/config.ts. Trades away credentials per host: all members share them, as etcd's own clients do.

import { readFileSync } from 'node:fs';
import { NetloomError } from '../../../api/errors.ts';

export interface EtcdAddress {
  endpoints: string[];
  keyPrefix?: string;
  tls?: { caPem?: string; certPem?: string; keyPem?: string };
  username?: string; password?: string;
}

const shape = /^etcd(?<secure>s?):\/\/(?:(?<username>[^:@/?]+):(?<password>[^@/?]*)@)?(?<hosts>[^/?@]+)(?<path>\/[^?]*)?(?:\?(?<query>.*))?$/;
const fileParameters = { ca: 'caPem', cert: 'certPem', key: 'keyPem' } as const;

/** Reads the address and the files that it names. Throws ConfigInvalid. */
export function parseEtcdUrl(given: string): EtcdAddress {
  const parts = shape.exec(given)?.groups;
  const text = given.replace(/:[^:@/]*@/, ':***@');
  if (parts === undefined) throw new NetloomError('ConfigInvalid', `"${text}" is not like etcd://host:2379,host:2379`, { source: 'config' });
  const scheme = parts['secure'] === 's' ? 'https' : 'http';
  const address: EtcdAddress = { endpoints: (parts['hosts'] ?? '').split(',').map((host) => endpointOf(scheme, host, text)) };
  const prefix = (parts['path'] ?? '').replace(/\/+$/, '');
  if (prefix !== '') address.keyPrefix = prefix;
  if (parts['username'] !== undefined) {
    address.username = decodeURIComponent(parts['username']);
    address.password = decodeURIComponent(parts['password'] ?? '');
  }
  const tls = readTls(new URLSearchParams(parts['query'] ?? ''), text);
  if (tls !== undefined && scheme === 'http') throw new NetloomError('ConfigInvalid', `"${text}" names certificates but no TLS: write etcds://`, { source: 'config' });
  if (tls !== undefined) address.tls = tls;
  return address;
}

function endpointOf(scheme: string, host: string, text: string): string {
  const endpoint = `${scheme}://${/:\d+$/.test(host) ? host : `${host}:2379`}`;
  if (!URL.canParse(endpoint)) throw new NetloomError('ConfigInvalid', `"${host}" in "${text}" is not a host and port`, { source: 'config' });
  return endpoint;
}

function readTls(query: URLSearchParams, text: string): EtcdAddress['tls'] {
  const tls: NonNullable<EtcdAddress['tls']> = {};
  for (const [name, file] of query) {
    const field = fileParameters[name as keyof typeof fileParameters];
    if (field === undefined) throw new NetloomError('ConfigInvalid', `"${text}": no such parameter ${name}, only ca, cert and key`, { source: 'config' });
    try {
      tls[field] = readFileSync(file, 'utf8');
    } catch (error) {
      throw new NetloomError('ConfigInvalid', `"${text}": cannot read ${file}: ${(error as Error).message}`, { source: 'config', cause: error });
    }
  }
  return query.size === 0 ? undefined : tls;
}
