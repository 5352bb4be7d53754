// Makes dist/ for packing: compiled JavaScript, since Node does not strip types below node_modules, with the data files.
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
rmSync(join(root, 'dist'), { recursive: true, force: true });
const result = spawnSync('npx', ['tsc'], { cwd: root, stdio: 'inherit' });
if (result.status !== 0) process.exit(result.status ?? 1);
cpSync(join(root, 'control/schema/data'), join(root, 'dist/control/schema/data'), { recursive: true });
cpSync(join(root, 'package.json'), join(root, 'dist/package.json'));
for (const folder of ['test']) rmSync(join(root, 'dist', folder), { recursive: true, force: true });
