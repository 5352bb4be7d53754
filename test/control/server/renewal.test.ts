// Certificates that run out are made anew under the running server: open connections stay, new ones see the new one.

import { connect as connectTls } from 'node:tls';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createAuthority } from '../../../control/certificates.ts';
import { httpTransport } from '../../../api/client.ts';
import { systemClock, type Clock, type TimerHandle } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { Renewal, renewalPeriodMs } from '../../../control/renewal.ts';
import { VirtualClock } from '../../lib/virtual-clock.ts';
import { configMap, startWorld, until } from './harness.ts';

const dayMs = 86_400_000;
const realPair = createAuthority('renewed', systemClock.nowMs());

/** Real timers with a wall clock that tests shift; the hourly look is called by hand. */
class ShiftedClock implements Clock {
  shiftMs = 0;
  readonly looks: (() => void)[] = [];
  nowMs(): number { return systemClock.nowMs() + this.shiftMs; }
  monotonicMs(): number { return systemClock.monotonicMs(); }
  after(delayMs: number, callback: () => void, isRef?: boolean): TimerHandle { return systemClock.after(delayMs, callback, isRef); }
  every(periodMs: number, callback: () => void, isRef?: boolean): TimerHandle {
    if (periodMs === renewalPeriodMs) this.looks.push(callback);
    return systemClock.every(periodMs, callback, isRef);
  }
}

function shown(port: number, ca: string): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, ca, servername: 'localhost' }, () => { resolve(new X509Certificate(socket.getPeerX509Certificate()?.raw ?? '')); socket.destroy(); });
    socket.once('error', reject);
  });
}

test('the serving and the admin certificate are swapped near their end, and an open watch goes on', async () => {
  const clock = new ShiftedClock();
  clock.shiftMs = -340 * dayMs;
  const world = await startWorld({ clock, isControllersOn: false });
  try {
    const { control } = world;
    const before = await shown(control.port, control.caPem);
    const kubeconfig = readFileSync(control.kubeconfigPath, 'utf8');
    const client = httpTransport({ server: control.url, caPem: control.caPem, ...pairOf(kubeconfig) });
    const watch = await client.request({ method: 'GET', path: '/api/v1/namespaces/default/configmaps', query: 'watch=true&resourceVersion=0' });
    let seen = '';
    const reading = (async () => { for await (const chunk of watch.body) seen += Buffer.from(chunk).toString(); })().catch(() => {});
    for (const look of clock.looks) look();
    expect((await shown(control.port, control.caPem)).serialNumber).toBe(before.serialNumber);
    clock.shiftMs = 0;
    for (const look of clock.looks) look();
    const after = await shown(control.port, control.caPem);
    expect(after.serialNumber).not.toBe(before.serialNumber);
    expect(Date.parse(after.validTo) - Date.parse(before.validTo)).toBeGreaterThan(300 * dayMs);
    await world.call('POST', '/api/v1/namespaces/default/configmaps', { body: configMap('after-the-swap') });
    await until('the event on the old connection', () => seen.includes('after-the-swap'));
    expect(readFileSync(control.kubeconfigPath, 'utf8')).not.toBe(kubeconfig);
    expect((await world.kubectl('get cm after-the-swap -o name')).out).toBe('configmap/after-the-swap\n');
    await client.close();
    await reading;
  } finally { await world.stop(); }
});

test('fresh certificates are left alone; a failed renewal is tried again at the next look, and nothing runs after stop', async () => {
  const clock = new VirtualClock();
  const endMs = clock.nowMs() + 3 * renewalPeriodMs;
  let made = 0;
  const told: string[] = [];
  const renewal = new Renewal({
    clock, log: silentLog, isFresh: () => made > 2 || clock.nowMs() < endMs, onRenewed: (name) => told.push(name),
    pairs: { one: () => { made += 1; if (made === 2) throw new Error('disk full'); return realPair; } },
  });
  expect(renewal.get('one')).toBe(renewal.get('one'));
  renewal.start();
  await clock.advance(2 * renewalPeriodMs);
  expect([made, told]).toEqual([1, []]);
  await clock.advance(renewalPeriodMs);
  expect([made, told]).toEqual([2, []]);
  await clock.advance(3 * renewalPeriodMs);
  expect([made, told]).toEqual([3, ['one']]);
  renewal.stop();
  expect(clock.timerCount).toBe(0);
});

function pairOf(kubeconfig: string): { certPem: string; keyPem: string } {
  const part = (name: string): string => Buffer.from(new RegExp(`${name}: (\\S+)`).exec(kubeconfig)?.[1] ?? '', 'base64').toString();
  return { certPem: part('client-certificate-data'), keyPem: part('client-key-data') };
}
