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
import { loadLibraries } from './ffi.ts';
import { HostSettings } from './host.ts';
import { NetlinkPort } from './kernel.ts';
import { NftablesEngine } from './nftables.ts';
import type { Ownership } from './port.ts';

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
  readonly clock: Clock;
  readonly log: Log;
}

/** Throws PermissionDenied or ToolMissing when this machine has no usable nftables. */
export async function openNftables(options: OpenOptions): Promise<NftablesEngine> {
  if (process.platform !== 'linux') throw new NetloomError('ToolMissing', 'nftables exists on Linux only', { source: 'config' });
  const libraries = await loadLibraries();
  const families = options.families.map((family) => {
    const ofFamily = (cidrs: readonly Cidr[]): Cidr[] => cidrs.filter((cidr) => cidr.family === family);
    return new FamilyEngine({
      port: new NetlinkPort(libraries, family),
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
      new ConntrackCleaner(libraries, { log: options.log, isNodeAddress: isHostAddress }),
    ], driftPeriodMs: options.driftPeriodMs, clock: options.clock, log: options.log,
  });
}

function isHostAddress(ip: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((item) => item.address === ip));
}
