// When a cron schedule is due: the next time after a given one, in a time zone. Pure; the schedule's fields come from
// the parser in control/sweeps.ts.

/** Sorted lists of what matches; days also `L` forms of the parser, which are not matched here. */
export interface CronFields { minute: readonly number[]; hour: readonly number[]; dayOfMonth: readonly (number | string)[]; month: readonly number[]; dayOfWeek: readonly (number | string)[] }

const dayMs = 86_400_000;
/** A schedule that is not due within this time never is, such as on 30 February. */
const horizonDays = 366 * 5;

interface Local { minute: number; hour: number; day: number; month: number; weekday: number }

/** First due time after `afterMs`; undefined when there is none. Whole minutes. */
export function nextCronTime(fields: CronFields, afterMs: number, timeZone: string): number | undefined {
  const local = localReader(timeZone);
  let ms = Math.floor(afterMs / 60_000) * 60_000 + 60_000;
  const endMs = ms + horizonDays * dayMs;
  const isAnyDay = fields.dayOfMonth.length >= 31;
  const isAnyWeekday = new Set(fields.dayOfWeek.map((day) => (day === 7 ? 0 : day))).size >= 7;
  while (ms < endMs) {
    const now = local(ms);
    const isDay = fields.dayOfMonth.includes(now.day);
    const isWeekday = fields.dayOfWeek.includes(now.weekday) || (now.weekday === 0 && fields.dayOfWeek.includes(7));
    // As in crontab: when both days are restricted, either of them is enough.
    const isDue = fields.month.includes(now.month) && (isAnyDay || isAnyWeekday ? isDay && isWeekday : isDay || isWeekday);
    if (!isDue) { ms += 60_000 * (60 - now.minute) + (now.hour < 22 ? 3_600_000 * (22 - now.hour) : 0); continue; }
    if (!fields.hour.includes(now.hour)) { ms += 60_000 * (60 - now.minute); continue; }
    if (fields.minute.includes(now.minute)) return ms;
    ms += 60_000;
  }
  return undefined;
}

/** Reads the wall clock of a zone. Throws RangeError for an unknown one. */
function localReader(timeZone: string): (ms: number) => Local {
  const format = new Intl.DateTimeFormat('en-US', { timeZone, hourCycle: 'h23', minute: 'numeric', hour: 'numeric', day: 'numeric', month: 'numeric', weekday: 'short' });
  const weekdays = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
  return (ms) => {
    const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, value]));
    return { minute: Number(parts['minute']), hour: Number(parts['hour']), day: Number(parts['day']), month: Number(parts['month']), weekday: weekdays.indexOf(parts['weekday'] ?? '') };
  };
}
