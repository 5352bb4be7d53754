// Where netloom's time goes in a row: one more run of it under --cpu-prof, apart from the timed ones, so that no figure
// includes the profiler. Names the costliest functions of the busiest thread and writes a flame graph.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeBed } from './lib/bed.ts';
import type { Row } from './lib/contender.ts';
import { flamePage } from './lib/flame.ts';
import { runLoad } from './lib/load.ts';
import { defaultPlan } from './lib/plan.ts';
import { pinSelf } from './lib/proc.ts';
import { busiestThread, costliest, type FunctionCost } from './lib/profile.ts';

export interface RowProfile { row: string; costs: FunctionCost[]; file: string }
const namedCount = 3;

/** Profiles each row in which netloom takes part; files are written to `folder`, their names begin with `stamp`. */
export async function profileRows(rows: readonly Row[], folder: string, stamp: string, durationMs: number): Promise<RowProfile[]> {
  const profiles: RowProfile[] = [];
  for (const row of rows) {
    const contender = row.contenders.find((item) => item.name === 'netloom');
    if (contender === undefined) continue;
    const { bed, stop } = await makeBed();
    const profileFolder = mkdtempSync(join(tmpdir(), 'netloom-profile-'));
    try {
      pinSelf(bed.loadCore);
      const running = await contender.start({ ...bed, profileFolder }, row.name);
      try {
        const result = await runLoad({ ...defaultPlan, host: running.host, port: running.port, ...row.plan(running, bed), durationMs });
        if (result.count === 0) throw new Error(`${row.name}: no answer under the profiler`);
      } finally { await running.stop(); }
      const tree = busiestThread(profileFolder);
      if (tree === undefined) throw new Error(`${row.name}: netloom left no profile`);
      mkdirSync(folder, { recursive: true });
      const file = `${stamp}-${row.name}-flame.html`;
      writeFileSync(join(folder, file), flamePage(`netloom, ${row.title}`, tree));
      profiles.push({ row: row.name, costs: costliest(tree, namedCount), file });
    } finally { rmSync(profileFolder, { recursive: true, force: true }); await stop(); }
  }
  return profiles;
}

/** "name (share)" of each, for the tables. */
export function costText(profile: RowProfile): string { return profile.costs.map(({ name, share }) => `${name} ${(share * 100).toFixed(0)} %`).join('; '); }
