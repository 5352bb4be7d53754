// Named places where a test makes the process die or the disk fail: NETLOOM_FAIL=point:action:count, comma-separated.
// Without the variable a fail point costs one comparison. Points: store.begin, store.commit, store.committed,
// store.sync, store.synced, store.checkpoint, store.compact, store.restore. Actions: `kill` (SIGKILL to this process), `eio`, `full` (the disk's answer).
// The count says at which passing it acts, once.

import { NetloomError } from '../../api/errors.ts';

interface Plan { point: string; action: 'kill' | 'eio' | 'full'; remaining: number }

let plans: Plan[] | undefined = parsePlans(process.env['NETLOOM_FAIL']);

/** Sets the plans of this process anew: for tests that need no process of their own. */
export function armFailPoints(text: string | undefined): void { plans = parsePlans(text); }

/** Does what NETLOOM_FAIL asks for at this point; nothing without it. */
export function failPoint(point: string): void {
  if (plans === undefined) return;
  for (const plan of plans) {
    if (plan.point !== point || --plan.remaining !== 0) continue;
    if (plan.action === 'kill') process.kill(process.pid, 'SIGKILL');
    // SQLITE_FULL, or SQLITE_IOERR_FSYNC.
    else throw Object.assign(new Error(`fail point ${point}`), { errcode: plan.action === 'full' ? 13 : 1034 });
  }
}

function parsePlans(text: string | undefined): Plan[] | undefined {
  if (text === undefined || text === '') return undefined;
  return text.split(',').map((part) => {
    const [point = '', action = '', count = '1'] = part.split(':');
    if (!['kill', 'eio', 'full'].includes(action) || !(Number(count) > 0)) {
      throw new NetloomError('ConfigInvalid', `NETLOOM_FAIL: "${part}" is not point:kill|eio|full:count`);
    }
    return { point, action: action as Plan['action'], remaining: Number(count) };
  });
}
