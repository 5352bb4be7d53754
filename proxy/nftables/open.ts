// Puts the nftables engine together for this machine: picks the mechanism, derives the static program from the
// configuration, makes one FamilyEngine per family. Called by proxier; everything it makes is behind Backend.

import { networkInterfaces } from 'node:os';
import type { Cidr } from '../../api/address.ts';
import { isLoopback } from '../../api/address.ts';
import type { Clock } from '../../api/clock.ts';
import { NetloomError } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import type { IPFamily } from '../../api/types.ts';
import type { NodePortAddresses } from '../backend.ts';
import { parseCIDRs } from '../config.ts';
import { ConntrackCleaner } from './conntrack.ts';
import { FamilyEngine } from './engine.ts';
import type { Libraries } from './ffi.ts';
import { loadLibraries } from './ffi.ts';
import { HostSettings } from './host.ts';
import { NetlinkPort } from './kernel.ts';
import { NftablesEngine } from './nftables.ts';
import type { KernelPort, Ownership } from './port.ts';
import { InteractiveNft, runNft, TextPort } from './text-port.ts';

export interface OpenOptions {
  readonly families: readonly IPFamily[];
  readonly nodeName: string;
  readonly nodeIPs: readonly string[];
  readonly serviceCIDRs: readonly Cidr[];
  /** Empty = no way to tell Pods from other sources. */
  readonly clusterCIDRs: readonly Cidr[];
  readonly nodePorts: NodePortAddresses['kernel'];
  readonly bind: string;
  readonly isMasqueradeAll: boolean;
  readonly ownership: Ownership;
  readonly driftPeriodMs: number;
  readonly isSysctlOn: boolean;
  readonly isServiceRouteOn: boolean;
  /** How the kernel is reached; auto = the fastest that works. */
  readonly mechanism?: 'auto' | 'netlink' | 'nft-interactive' | 'nft-file' | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Throws PermissionDenied or ToolMissing when this machine has no usable nftables. */
export async function openNftables(options: OpenOptions): Promise<NftablesEngine> {
  if (process.platform !== 'linux') throw new NetloomError('ToolMissing', 'nftables exists on Linux only', { source: 'config' });
  const mechanism = await chooseMechanism(options);
  const families = options.families.map((family) => {
    const ofFamily = (cidrs: readonly Cidr[]): Cidr[] => cidrs.filter((cidr) => cidr.family === family);
    return new FamilyEngine({
      port: mechanism.makePort(family),
      program: {
        family, serviceCIDRs: ofFamily(options.serviceCIDRs), localClients: options.clusterCIDRs.length === 0 ? undefined : ofFamily(options.clusterCIDRs),
        nodePorts: options.nodePorts === 'all' ? 'all' : ofFamily(parseCIDRs('nodePortAddresses', options.nodePorts)),
        isMasqueradeAll: options.isMasqueradeAll, isExternalServed: !isLoopback(options.bind),
      },
      ownership: options.ownership, nodeName: options.nodeName, nodeIPs: options.nodeIPs, log: options.log,
    });
  });
  return new NftablesEngine({
    families, companions: [
      new HostSettings({ isSysctlOn: options.isSysctlOn, isServiceRouteOn: options.isServiceRouteOn, serviceCIDRs: options.serviceCIDRs.filter((cidr) => options.families.includes(cidr.family)), nodeIPs: options.nodeIPs, log: options.log }),
      ...(mechanism.libraries === undefined ? [] : [new ConntrackCleaner(mechanism.libraries, { log: options.log, isNodeAddress: isHostAddress })]),
    ], driftPeriodMs: mechanism.isSlow ? options.driftPeriodMs * slowDriftFactor : options.driftPeriodMs, clock: options.clock, log: options.log,
  });
}

interface Mechanism { readonly libraries: Libraries | undefined; readonly isSlow: boolean; makePort(family: IPFamily): KernelPort }

/** Asking a new `nft` process costs milliseconds, so it is asked less often. */
const slowDriftFactor = 8;

/** The best mechanism that works here, or the one that was asked for; the log says why a better one does not. */
async function chooseMechanism({ mechanism = 'auto', log }: OpenOptions): Promise<Mechanism> {
  let libraries: Libraries | undefined;
  if (mechanism === 'auto' || mechanism === 'netlink') {
    try {
      libraries = await loadLibraries();
      const loaded = libraries;
      if (loaded.nft !== undefined) return { libraries, isSlow: false, makePort: (family) => new NetlinkPort(loaded, family) };
      throw new NetloomError('ToolMissing', `libnftables is missing: ${libraries.missing}`, { source: 'config', hint: 'apt install libnftables1' });
    } catch (error) {
      if (mechanism === 'netlink') throw error;
      log.warn('rules go through the nft program, which is slower', { err: error });
    }
  }
  const check = await runNft(['--version']);
  if (!check.isOk) throw new NetloomError('ToolMissing', 'neither libnftables nor the nft program is installed', { source: 'config', hint: 'apt install nftables, or use --proxy-mode userspace' });
  return { libraries, isSlow: true, makePort: (family) => new TextPort(family, mechanism === 'nft-file' ? undefined : new InteractiveNft()) };
}

function isHostAddress(ip: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((item) => item.address === ip));
}
