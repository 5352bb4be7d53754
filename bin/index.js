// `import { start } from 'netloom'`: the control plane in another project's tests. Takes the sources in a checkout and the
// compiled files in an installed package.
import { existsSync } from 'node:fs';

const source = new URL('../control/start.ts', import.meta.url);
export const { start } = await import(existsSync(source) ? source.href : new URL('../dist/control/start.js', import.meta.url).href);
