// Points this machine's resolver at netloom and back again (`netloom dns install|uninstall`). Where systemd-resolved runs,
// a drop-in makes it ask us for the cluster's domain and reverse zones; else resolv.conf is rewritten, with the old one
// put aside whole (a symbolic link stays a symbolic link). Doing it twice is the same as once.
// Called by the cli; paths and the process runner come in, so that tests never touch the machine.

import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isIPv6 } from 'node:net';
import { parseCIDR } from '../api/address.ts';
import { NetloomError } from '../api/errors.ts';
import { backupPath, installMark, parseResolvConf } from './resolv-conf.ts';

export interface InstallPaths { readonly resolvConf: string; readonly backup: string; readonly resolvedRuntime: string; readonly dropIn: string }

export const systemPaths: InstallPaths = Object.freeze({
  resolvConf: '/etc/resolv.conf', backup: backupPath, resolvedRuntime: '/run/systemd/resolve/resolv.conf', dropIn: '/etc/systemd/resolved.conf.d/netloom.conf',
});

export interface InstallOptions {
  readonly address: string;
  readonly port: number;
  readonly clusterDomain: string;
  /** Networks whose reverse names are ours: Services and Pods. */
  readonly networks: readonly string[];
  readonly paths?: InstallPaths;
  /** Runs a command and returns its exit code. */
  readonly run: (command: string, args: readonly string[]) => number;
}

export type InstallMethod = 'systemd-resolved' | 'resolv.conf' | 'none';
export interface InstallState { readonly method: InstallMethod; readonly detail: string }

/** What is installed now. */
export function installState(paths: InstallPaths = systemPaths): InstallState {
  if (existsSync(paths.dropIn)) return { method: 'systemd-resolved', detail: paths.dropIn };
  if (readText(paths.resolvConf)?.startsWith(installMark) === true) return { method: 'resolv.conf', detail: `${paths.resolvConf}, the old one is ${paths.backup}` };
  return { method: 'none', detail: 'this machine does not ask netloom for names' };
}

/** Installs and returns how. Throws ConfigInvalid or PermissionDenied. */
export function installResolver(options: InstallOptions): InstallState {
  const { paths = systemPaths, run } = options;
  try {
    if (existsSync(paths.resolvedRuntime)) {
      writeAtomically(paths.dropIn, dropInText(options));
      if (run('systemctl', ['reload-or-restart', 'systemd-resolved']) !== 0) {
        throw new NetloomError('ToolMissing', 'systemd-resolved could not be reloaded', { source: 'config', hint: 'run: systemctl restart systemd-resolved' });
      }
    } else installResolvConf(options, paths);
  } catch (error) {
    throw permission(error, 'install');
  }
  return installState(paths);
}

/** Puts everything back as it was. Returns false when nothing was installed. */
export function uninstallResolver(run: InstallOptions['run'], paths: InstallPaths = systemPaths): boolean {
  const { method } = installState(paths);
  try {
    if (method === 'systemd-resolved') {
      rmSync(paths.dropIn, { force: true });
      run('systemctl', ['reload-or-restart', 'systemd-resolved']);
    } else if (method === 'resolv.conf') {
      if (!existsSync(paths.backup) && !isLink(paths.backup)) throw new NetloomError('NotFound', `${paths.backup} is gone, so ${paths.resolvConf} cannot be put back`, { source: 'config', hint: `write your nameservers into ${paths.resolvConf}` });
      putBack(paths);
    }
  } catch (error) {
    throw permission(error, 'uninstall');
  }
  return method !== 'none';
}

/** The drop-in of systemd-resolved: our address for our domains (`~` = routing only). */
export function dropInText({ address, port, clusterDomain, networks }: InstallOptions): string {
  const domains = [clusterDomain, ...networks.flatMap(reverseZones)].map((domain) => `~${domain}`);
  const server = `${isIPv6(address) ? `[${address}]` : address}${port === 53 ? '' : `:${port}`}`;
  return `${installMark}; "netloom dns uninstall" removes it\n[Resolve]\nDNS=${server}\nDomains=${domains.join(' ')}\n`;
}

/** Reverse zones that cover a network, cut at octet or nibble borders: 10.96.0.0/12 gives sixteen. */
export function reverseZones(network: string): string[] {
  const cidr = parseCIDR(network);
  if (cidr === undefined) return [];
  const unit = cidr.family === 'IPv4' ? 8 : 4;
  const digits = cidr.family === 'IPv4' ? [...cidr.bytes] : [...cidr.bytes].flatMap((octet) => [octet >> 4, octet & 15]);
  const count = Math.ceil(cidr.prefixLength / unit);
  const spread = 2 ** (count * unit - cidr.prefixLength);
  const suffix = cidr.family === 'IPv4' ? 'in-addr.arpa' : 'ip6.arpa';
  const text = (digit: number): string => (unit === 8 ? String(digit) : digit.toString(16));
  return Array.from({ length: count === 0 ? 1 : spread }, (_, offset) => {
    const labels = digits.slice(0, count).map((digit, index) => text(index === count - 1 ? digit + offset : digit)).reverse();
    return [...labels, suffix].join('.');
  });
}

function installResolvConf(options: InstallOptions, paths: InstallPaths): void {
  const { address, port } = options;
  if (port !== 53) {
    throw new NetloomError('ConfigInvalid', `resolv.conf cannot name a port, and netloom's DNS listens on ${port}`, { source: 'config', hint: 'start netloom as root with --dns-port 53, or use systemd-resolved' });
  }
  const old = readText(paths.resolvConf) ?? '';
  const isOurs = old.startsWith(installMark);
  if (!isOurs) {
    rmSync(paths.backup, { force: true });
    if (isLink(paths.resolvConf)) {
      symlinkSync(readlinkSync(paths.resolvConf), paths.backup);
      rmSync(paths.resolvConf);
    } else if (existsSync(paths.resolvConf)) writeFileSync(paths.backup, old);
    else writeFileSync(paths.backup, '');
  }
  const { search, options: settings } = parseResolvConf(old);
  const lines = [`${installMark}; "netloom dns uninstall" puts ${paths.backup} back`, `nameserver ${address}`];
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  if (settings.length > 0) lines.push(`options ${settings.join(' ')}`);
  writeAtomically(paths.resolvConf, `${lines.join('\n')}\n`);
}

/** The backup takes the file's place; a file that is a mount point gets its text back instead. */
function putBack(paths: InstallPaths): void {
  try {
    renameSync(paths.backup, paths.resolvConf);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    writeFileSync(paths.resolvConf, readText(paths.backup) ?? '');
    rmSync(paths.backup, { force: true });
  }
}

/** Beside and rename; where the file is a mount point (containers) it is written in place. */
function writeAtomically(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.netloom-new`, text, { mode: 0o644 });
  try {
    renameSync(`${path}.netloom-new`, path);
  } catch (error) {
    rmSync(`${path}.netloom-new`, { force: true });
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    writeFileSync(path, text);
  }
}

function readText(path: string): string | undefined {
  try { return readFileSync(path, 'utf8'); } catch { return undefined; }
}

function isLink(path: string): boolean {
  try { return lstatSync(path).isSymbolicLink(); } catch { return false; }
}

function permission(error: unknown, verb: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') return error;
  return new NetloomError('PermissionDenied', `the resolver's files may not be changed`, { source: 'config', cause: error, hint: `run as root: sudo netloom dns ${verb}` });
}
