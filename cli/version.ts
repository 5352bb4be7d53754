// `netloom version`: versions of netloom, Node, kernel and what the system offers.

import { release } from 'node:os';
import { print } from './output.ts';

export function printVersion(flags: Record<string, unknown>, version: string): void {
  const info = { netloom: version, kubernetesAPI: 'v1.32', node: process.version, kernel: release(), platform: `${process.platform}/${process.arch}` };
  if (flags['output'] === 'json') print(JSON.stringify(info));
  else for (const [name, value] of Object.entries(info)) print(`${name}: ${value}`);
}
