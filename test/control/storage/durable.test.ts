// The promise behind every acknowledgement, seen from the kernel: between the last bytes written to the log and the answer
// lies an fsync of the log; and a group of writes shares one.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sqliteDriver } from './drivers.ts';

const hasStrace = spawnSync('strace', ['-V']).status === 0 && spawnSync('strace', ['-f', '-o', '/dev/null', 'true']).status === 0;
const source = (path: string): string => new URL(`../../../${path}`, import.meta.url).pathname;

/** System calls of a process that writes `rounds` times `writers` objects and says "ack" after each round. */
function trace(dataDir: string, rounds: number, writers: number): string[] {
  const output = join(dataDir, 'trace');
  const script = `
    import { writeSync } from 'node:fs';
    import { openStorage } from '${source('control/storage/open.ts')}';
    import { systemClock as clock } from '${source('api/clock.ts')}';
    import { silentLog as log } from '${source('api/log.ts')}';
    const storage = await openStorage({ kind: 'sqlite', dataDir: '${dataDir}', clock, log });
    writeSync(1, 'ack open');
    for (let round = 0; round < ${rounds}; round++) {
      await Promise.all(Array.from({ length: ${writers} }, (_, writer) => storage.create('services', 'shop/s' + round + '-' + writer, { metadata: { name: 's' } })));
      writeSync(1, 'ack ' + round);
    }
    process.kill(process.pid, 'SIGKILL');`;
  spawnSync('strace', ['-f', '-y', '-s', '16', '-e', 'trace=pwrite64,write,fsync,fdatasync', '-o', output, process.execPath, '--input-type=module-typescript', '-e', script]);
  return spawnSync('cat', [output], { encoding: 'utf8' }).stdout.split('\n');
}

describe.skipIf(!hasStrace)('embedded store', () => {
  test.each([[20, 1], [5, 50]])('an fsync lies between the log and each answer, one per group (%i rounds of %i writers)', async (rounds, writers) => {
    const driver = sqliteDriver();
    let isDirty = false;
    let syncCount = 0;
    const acknowledged: number[] = [];
    for (const line of trace(driver.dataDir, rounds, writers)) {
      if (line.includes('pwrite64(') && line.includes('netloom.db-wal')) isDirty = true;
      if (/f(data)?sync\(/.test(line) && line.includes('netloom.db-wal')) { isDirty = false; syncCount += 1; }
      if (!line.includes('write(1') || !line.includes('"ack ')) continue;
      expect(isDirty, line).toBe(false);
      acknowledged.push(syncCount);
      syncCount = 0;
    }
    await driver.dispose();
    expect(acknowledged).toHaveLength(rounds + 1);
    for (const count of acknowledged.slice(1)) expect(count).toBeGreaterThanOrEqual(1);
    expect(acknowledged.slice(1).reduce((sum, count) => sum + count, 0)).toBeLessThan(rounds * 3);
  });
});
