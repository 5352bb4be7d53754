// etcd behind TLS with client certificates, and with user and password; the address of an etcd store.

import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { parseEtcdUrl } from '../../../control/storage/etcd/url.ts';
import { openStorage } from '../../../control/storage/open.ts';
import { object, temporaryFolder } from './drivers.ts';
import { hasEtcd, startEtcd } from './etcd-process.ts';

const folder = temporaryFolder();
afterAll(() => { rmSync(folder, { recursive: true }); });
const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
const file = (name: string): string => join(folder, name);

function openssl(...parts: string[]): void {
  const { status, stderr } = spawnSync('openssl', parts, { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

/** A CA, a server certificate for 127.0.0.1 and a client certificate. */
function makeCertificates(): void {
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca', '-days', '2');
  writeFileSync(file('server.ext'), 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n');
  for (const name of ['server', 'client']) {
    openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.pem`, '-days', '2', '-extfile', 'server.ext');
  }
}

function openAt(url: string): ReturnType<typeof openStorage> {
  return openStorage({ kind: 'etcd', ...parseEtcdUrl(url), clock: systemClock, log: silentLog });
}

describe.skipIf(!hasEtcd)('etcd store', () => {
  test.skipIf(!hasOpenssl)('over TLS with a client certificate; without one it is refused', { timeout: 40_000 }, async () => {
    makeCertificates();
    const { members: [member], dispose } = await startEtcd(1, ['--cert-file', file('server.pem'), '--key-file', file('server.key'), '--client-cert-auth', '--trusted-ca-file', file('ca.pem')], 'https');
    try {
      const { host } = new URL(member?.endpoint ?? '');
      const storage = await openAt(`etcds://${host}?ca=${file('ca.pem')}&cert=${file('client.pem')}&key=${file('client.key')}`);
      const created = await storage.create('services', 'shop/a', object('a'));
      expect(storage.get('services', 'shop/a')?.revision).toBe(created.revision);
      await storage.close();
      await expect(openAt(`etcds://${host}?ca=${file('ca.pem')}`)).rejects.toMatchObject({ code: 'ConnectFailed' });
      await expect(openAt(`etcds://${host}`)).rejects.toMatchObject({ code: 'ConnectFailed' });
    } finally {
      await dispose();
    }
  });

  test('with user and password, also when the token ran out meanwhile', { timeout: 40_000 }, async () => {
    const { members: [member], dispose } = await startEtcd(1, ['--auth-token-ttl', '1']);
    const post = (path: string, body: object): Promise<unknown> => fetch(`${member?.endpoint}${path}`, { method: 'POST', body: JSON.stringify(body) });
    await post('/v3/auth/user/add', { name: 'root', password: 'pw' });
    await post('/v3/auth/role/add', { name: 'root' });
    await post('/v3/auth/user/grant', { user: 'root', role: 'root' });
    await post('/v3/auth/enable', {});
    const { host } = new URL(member?.endpoint ?? '');
    try {
      const storage = await openAt(`etcd://root:pw@${host}/mine`);
      await storage.create('services', 'shop/a', object('a'));
      // Time itself is the condition here: the token lives one second.
      await new Promise((resolve) => { systemClock.after(2_500, () => resolve(undefined), true); });
      await storage.create('services', 'shop/b', object('b'));
      expect(storage.count('services')).toBe(2);
      await storage.close();
      await expect(openAt(`etcd://root:wrong@${host}`)).rejects.toMatchObject({ code: 'ConnectFailed' });
      await expect(openAt(`etcd://${host}`)).rejects.toMatchObject({ code: 'ConnectFailed' });
    } finally {
      await dispose();
    }
  });
});

describe('etcd address', () => {
  test('hosts, ports, prefix, credentials', () => {
    expect(parseEtcdUrl('etcd://one,two:4001,[::1]:2379')).toEqual({ endpoints: ['http://one:2379', 'http://two:4001', 'http://[::1]:2379'] });
    expect(parseEtcdUrl('etcds://me:p%40ss@one/other/')).toEqual({ endpoints: ['https://one:2379'], keyPrefix: '/other', username: 'me', password: 'p@ss' });
  });

  test.each(['etcd://', 'http://one', 'etcd://one?ca=/x', 'etcds://one?ca=/no/such/file', 'etcds://one?what=x', 'etcd://one:port', 'etcd://me:secret@one:port'])('%s is refused in one line', (text) => {
    expect(() => parseEtcdUrl(text)).toThrow(expect.objectContaining({ code: 'ConfigInvalid', message: expect.not.stringMatching(/\n|secret/) }));
  });
});
