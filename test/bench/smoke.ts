// Runs rows of the measurement in their smallest size, as a user would.

import { join } from 'node:path';
import { root, runCommand } from '../lib/command.ts';

export async function smoke(only: string): Promise<{ code: number; text: string; words: string }> {
  const result = await runCommand(process.execPath, [join(root, 'bin/netloom.js'), 'bench', '--peers', '--smoke', '--only', only]);
  return { code: result.code, text: result.stdout, words: result.stderr };
}
