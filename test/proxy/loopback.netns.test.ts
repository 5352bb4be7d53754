// Bind on loopback, the default: ClusterIPs by the kernel, NodePorts and host ports on 127.0.0.1 and ::1 by the
// userspace engine beside it, and nothing at all from outside.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { service, slice } from '../lib/builders.ts';
import { isRoot } from '../lib/command.ts';
import { NetnsWorld } from '../lib/netns-world.ts';

const ready = (ip: string): { addresses: string[]; nodeName: string; conditions: { ready: boolean } } => ({ addresses: [ip], nodeName: 'n1', conditions: { ready: true } });

for (const bind of ['127.0.0.1', '0.0.0.0'] as const) {
  describe.skipIf(!isRoot)(`bind ${bind}`, () => {
    const world = new NetnsWorld();
    const { node, ext, pod } = world.hosts;
    beforeAll(async () => {
      await world.start(['node', 'self', 'second', 'pod', 'ext']);
      await node.ask({ do: 'apply', objects: [
        service('ns/web', { clusterIP: '10.96.0.1', type: 'NodePort', ports: [{ name: '', port: 80, protocol: 'TCP', nodePort: 30_080 }, { name: 'u', port: 53, protocol: 'UDP', nodePort: 30_053 }] }),
        slice('ns/web', ['10.244.1.2', '10.244.1.3'].map(ready), { ports: [{ name: '', port: 8080, protocol: 'TCP' }, { name: 'u', port: 8080, protocol: 'UDP' }] }),
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'ns' }, spec: { nodeName: 'n1', containers: [{ name: 'c', ports: [{ containerPort: 8443, hostPort: 9443 }] }] }, status: { phase: 'Running', podIP: '10.244.1.2' } },
      ] });
      await node.ask({ do: 'proxy', options: { nodeName: 'n1', nodeIPs: ['192.168.0.1'], bind, isOwnedTableVanishing: true }, hasWorkers: true });
    });
    afterAll(() => world.stop());
    const reach = async (host: typeof node, to: string, port: number, protocol: 'TCP' | 'UDP' = 'TCP'): Promise<string> => {
      const [result] = await host.connect([{ protocol, to, port, timeoutMs: 800 }]);
      return result?.answer?.split(' ')[0] ?? result?.error ?? '';
    };

    test('curl 127.0.0.1:NodePort works, over TCP and UDP', async () => {
      expect(await reach(node, '127.0.0.1', 30_080)).toMatch(/^10\.244\.1\./);
      expect(await reach(node, '127.0.0.1', 30_053, 'UDP')).toMatch(/^10\.244\.1\./);
    });
    test('a host port is served on loopback', async () => { expect(await reach(node, '127.0.0.1', 9_443)).toBe('10.244.1.2'); });
    test('the ClusterIP is served by the kernel for host processes and Pods', async () => {
      expect(await reach(node, '10.96.0.1', 80)).toMatch(/^10\.244\.1\./);
      expect(await reach(pod, '10.96.0.1', 80)).toMatch(/^10\.244\.1\./);
    });
    test(bind === '0.0.0.0' ? 'NodePort and host port from outside are served' : 'nothing is reachable from outside', async () => {
      const expected = bind === '0.0.0.0' ? /^10\.244\.1\./ : /^(ECONNREFUSED|TIMEOUT)$/;
      expect(await reach(ext, '192.168.0.1', 30_080)).toMatch(expected);
      expect(await reach(ext, '192.168.0.1', 9_443)).toMatch(expected);
      if (bind === '127.0.0.1') expect(await reach(ext, '10.96.0.1', 80)).toBe('TIMEOUT');
    });
    test('health names both engines', async () => {
      expect(JSON.stringify(await node.ask({ do: 'health' }))).toMatch(/nftables IPv4.*userspace engine: NodePorts on loopback/);
    });
  });
}
