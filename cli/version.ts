// `netloom version`: versions of netloom, Node, kernel and what the system offers.

import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { print } from './output.ts';

/** The version in package.json. */
export const version: string = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;

export function printVersion(flags: Record<string, unknown>): void {
  const info = { netloom: version, kubernetesAPI: 'v1.32', node: process.version, kernel: release(), platform: `${process.platform}/${process.arch}` };
  if (flags['output'] === 'json') print(JSON.stringify(info));
  else for (const [name, value] of Object.entries(info)) print(`${name}: ${value}`);
}
