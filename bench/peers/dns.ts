// DNS contenders: dnsmasq with host records and dns2's own server, both answering the same names as netloom.

import { join } from 'node:path';
import { createSocket } from 'node:dgram';
import { launch } from '../lib/launch.ts';
import { encodeQuery } from '../lib/dns-client.ts';
import { freePort, writeIn, type Bed, type Contender } from '../lib/contender.ts';
import { findProgram } from '../lib/proc.ts';

export const dnsName = 'web.bench.svc.cluster.local';

export const dnsmasq: Contender = {
  name: 'dnsmasq',
  missing: () => (findProgram('dnsmasq') === undefined ? 'not installed' : undefined),
  async start(bed: Bed) {
    const port = await freePort();
    const path = writeIn(bed.folder, 'dnsmasq.conf', `no-resolv\nno-hosts\nport=${port}\nlisten-address=127.0.0.1\nbind-interfaces\nlocal=/cluster.local/\nhost-record=${dnsName},10.96.1.1\nsrv-host=_http._tcp.${dnsName},${dnsName},80\n${Array.from({ length: 3 }, (_, index) => `host-record=direct.bench.svc.cluster.local,10.244.0.${index + 2}`).join('\n')}\ncache-size=10000\n`);
    return launch({ core: bed.contenderCore, file: findProgram('dnsmasq') ?? 'dnsmasq', args: ['-k', '-C', path, '-u', 'root', '-x', join(bed.folder, 'dnsmasq.pid')], port, isUp: () => answersDns('127.0.0.1', port) });
  },
};

export const dns2: Contender = {
  name: 'dns2',
  missing: () => undefined,
  async start(bed: Bed) {
    const port = await freePort();
    return launch({ core: bed.contenderCore, file: process.execPath, args: [join(import.meta.dirname, 'programs', 'dns2.ts'), String(port)], port, isUp: () => answersDns('127.0.0.1', port) });
  },
};

/** Whether a query gets any answer within 200 ms. */
export function answersDns(host: string, port: number, name = dnsName): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const end = (isUp: boolean): void => { clearTimeout(timer); socket.close(); resolve(isUp); };
    const timer = setTimeout(() => end(false), 200);
    socket.once('message', () => end(true));
    socket.on('error', () => end(false));
    socket.send(encodeQuery(name, 1, 1), port, host);
  });
}
