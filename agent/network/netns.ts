// Pod networks for root on Linux: one network namespace per Pod, joined to the host by a veth pair and a host route.
//
//   pod netns:  eth0 10.244.0.5/32 ── veth ── host routing, ClusterIP rules     netloom0 (bridge): 10.244.0.1, the gateway
//
// The veth ends are routed one by one and not enslaved to the bridge: traffic between two Pods of a node always passes
// the host's routing, so that the answers of a ClusterIP connection are translated back, whether or not the host runs
// br_netfilter (which translates inside a bridge, past the route). The bridge only holds the gateway address, which
// the host answers for on every veth. The rest of the Pod range is unreachable, so that a connection to a Pod that
// has ended fails at once. Two `ip -batch` runs make a Pod's network, about 10 ms.
// A Pod's processes enter by exec alone (nsenter, unshare, sh), so the process id stays the one that was spawned; a
// private mount namespace carries resolv.conf and hosts, a private UTS namespace the host name.

import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NetloomError } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import { AddressPool } from './address-pool.ts';
import type { NetworkDriver, Sandbox, SandboxRequest } from './network.ts';
import { mustRun, runTool } from './run-tool.ts';

export interface NetnsNetworkOptions {
  podCIDR: string;
  /** At most 15 bytes; one per agent on a host. */
  bridgeName: string;
  /** Marks the namespaces and links of this agent, e.g. `nl3fa9`; at most 6 bytes. */
  prefix: string;
  /** Where resolv.conf and hosts files of the Pods are kept. */
  dataDir: string;
  log: Log;
}

interface Attachment { readonly namespace: string; readonly podIP: string; readonly directory: string }

const forwardingPath = '/proc/sys/net/ipv4/ip_forward';
// Runs inside the Pod's namespaces. $1 host name or '', $2 directory with resolv.conf and hosts; the rest is executed.
const enterScript = 'if [ -n "$1" ]; then echo "$1" >/proc/sys/kernel/hostname; fi 2>/dev/null; '
  + 'for f in resolv.conf hosts; do if [ -f "$2/$f" ] && [ -e "/etc/$f" ]; then mount --bind "$2/$f" "/etc/$f"; fi; done 2>/dev/null; shift 2; exec "$@"';

export class NetnsNetwork implements NetworkDriver {
  readonly mode = 'netns';
  readonly #options: NetnsNetworkOptions;
  readonly #log: Log;
  readonly #pool: AddressPool;
  readonly #attachments = new Map<string, Attachment>();
  #hasEnabledForwarding = false;

  constructor(options: NetnsNetworkOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#pool = new AddressPool(options.podCIDR);
  }

  async start(): Promise<void> {
    const { bridgeName, podCIDR } = this.#options;
    await this.#removeLeftovers();
    await mustRun(['ip', '-batch', '-'], [
      `link add ${bridgeName} type bridge`,
      `addr add ${this.#pool.gateway}/32 dev ${bridgeName}`, `link set ${bridgeName} up`, `route add unreachable ${podCIDR} metric 4096`, '',
    ].join('\n'));
    if ((await readFile(forwardingPath, 'utf8')).trim() === '0') {
      await writeFile(forwardingPath, '1');
      this.#hasEnabledForwarding = true;
      this.#log.info('ip forwarding switched on', { bridge: bridgeName });
    }
  }

  async attach(request: SandboxRequest): Promise<Sandbox> {
    const directory = join(this.#options.dataDir, 'net', request.podUid);
    if (request.isHostNetwork) return this.#attachHost(request, directory);
    let attachment = this.#attachments.get(request.podUid);
    if (attachment === undefined) {
      attachment = { namespace: `${this.#options.prefix}-${shortHash(request.podUid)}`, podIP: this.#pool.take(), directory };
      this.#attachments.set(request.podUid, attachment);
      try { await this.#build(attachment, request); } catch (error) {
        await this.detach(request.podUid);
        throw error;
      }
    }
    const { namespace } = attachment;
    return {
      podIP: attachment.podIP,
      wrap: (argv) => ['nsenter', `--net=/run/netns/${namespace}`, '--', 'unshare', '--mount', '--uts', '--', 'sh', '-c', enterScript, 'sh', request.hostname, directory, ...argv],
    };
  }

  async #attachHost(request: SandboxRequest, directory: string): Promise<Sandbox> {
    if (request.resolvConf === undefined) return { podIP: '', wrap: (argv) => argv };
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, 'resolv.conf'), request.resolvConf);
    return { podIP: '', wrap: (argv) => ['unshare', '--mount', '--', 'sh', '-c', enterScript, 'sh', '', directory, ...argv] };
  }

  async #build(attachment: Attachment, request: SandboxRequest): Promise<void> {
    const { namespace, podIP, directory } = attachment;
    const link = `${this.#options.prefix}v${shortHash(request.podUid)}`;
    const files = mkdir(directory, { recursive: true }).then(() => Promise.all([
      writeFile(join(directory, 'hosts'), `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n${podIP}\t${request.hostname}\n`),
      request.resolvConf === undefined ? undefined : writeFile(join(directory, 'resolv.conf'), request.resolvConf),
    ]));
    // One process of ours for both halves: each fork of a large process holds up the main thread for milliseconds.
    await mustRun(['sh', '-e'], [
      'ip -batch - <<END', `netns add ${namespace}`,
      `link add ${link} type veth peer name eth0 netns ${namespace}`,
      `link set ${link} up`, `route add ${podIP}/32 dev ${link}`, 'END',
      `exec nsenter --net=/run/netns/${namespace} -- ip -batch - <<END`,
      'link set lo up', `addr add ${podIP}/32 dev eth0`, 'link set eth0 up',
      `route add ${this.#pool.gateway} dev eth0 scope link`, `route add default via ${this.#pool.gateway} src ${podIP}`, 'END', '',
    ].join('\n'));
    await files;
  }

  async detach(podUid: string): Promise<void> {
    const attachment = this.#attachments.get(podUid);
    this.#attachments.delete(podUid);
    if (attachment === undefined) return;
    // The veth pair lives until the namespace is really gone, which open sockets can delay: remove it by itself.
    await runTool(['ip', '-force', '-batch', '-'], `link del ${this.#options.prefix}v${shortHash(podUid)}\nnetns del ${attachment.namespace}\n`);
    await rm(attachment.directory, { recursive: true, force: true });
    this.#pool.release(attachment.podIP);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#attachments.keys()].map((uid) => this.detach(uid)));
    await this.#removeLeftovers();
    await rm(join(this.#options.dataDir, 'net'), { recursive: true, force: true });
    if (this.#hasEnabledForwarding) await writeFile(forwardingPath, '0').catch(() => {});
  }

  async #removeLeftovers(): Promise<void> {
    const result = await runTool(['sh', '-c', this.cleanupScript()]);
    if (result.code !== 0) throw new NetloomError('KernelRejected', `cannot clean up Pod networks: ${result.stderr.trim()}`, { source: 'kernel' });
  }

  cleanupScript(): string {
    const { prefix, bridgeName, podCIDR } = this.#options;
    // `ip` is asked instead of /sys/class/net, which may show another network namespace than the one we are in.
    return `for l in $(ip -o link show type veth | sed -n 's/^[0-9]*: \\(${prefix}v[^@:]*\\).*/\\1/p'); do ip link del "$l"; done 2>/dev/null; `
      + `for n in /run/netns/${prefix}-*; do [ -e "$n" ] && ip netns del "\${n##*/}"; done; ip link del ${bridgeName} 2>/dev/null && ip route del unreachable ${podCIDR} metric 4096; true`;
  }
}

/** 8 hexadecimal digits: with a 6 byte prefix and a letter it just fits into a link name. */
function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8);
}
