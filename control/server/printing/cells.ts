// Small texts that many columns share: ages, counts of a list, label sets, selectors.
// Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go, apimachinery util/duration.

import type { LabelSelector } from '../../../api/types.ts';

/** `<none>` and `<unknown>` as kubectl's users know them. */
export const none = '<none>';
export const unknown = '<unknown>';

/** 119s, 9m59s, 179m, 7h59m, 47h, 7d23h, 100d, 3y4d. */
export function formatDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.trunc(seconds / 60);
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.trunc(minutes / 60);
  if (hours < 8) return minutes % 60 === 0 ? `${hours}h` : `${hours}h${minutes % 60}m`;
  if (hours < 48) return `${hours}h`;
  if (hours < 192) return hours % 24 === 0 ? `${hours / 24}d` : `${Math.trunc(hours / 24)}d${hours % 24}h`;
  const days = Math.trunc(hours / 24);
  if (days < 730) return `${days}d`;
  const years = Math.trunc(days / 365);
  if (days < 365 * 8) return days % 365 === 0 ? `${years}y` : `${years}y${days % 365}d`;
  return `${years}y`;
}

/** Time since an RFC 3339 instant. */
export function age(since: string | null | undefined, nowMs: number): string {
  if (since === undefined || since === null || since === '') return unknown;
  const ms = Date.parse(since);
  return Number.isNaN(ms) ? unknown : formatDuration(nowMs - ms);
}

export function formatLabels(labels: Readonly<Record<string, string>> | undefined): string {
  const entries = Object.entries(labels ?? {});
  return entries.length === 0 ? none : entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}=${value}`).join(',');
}

/** A LabelSelector in kubectl's selector syntax. */
export function formatSelector(selector: LabelSelector | undefined): string {
  if (selector === undefined) return none;
  const parts = Object.entries(selector.matchLabels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}=${value}`);
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    if (operator === 'Exists') parts.push(key);
    else if (operator === 'DoesNotExist') parts.push(`!${key}`);
    else parts.push(`${key} ${operator === 'In' ? 'in' : 'notin'} (${(values ?? []).join(',')})`);
  }
  return parts.length === 0 ? none : parts.join(',');
}

/** The first `max` and how many more. */
export function firstFew(items: readonly string[], max: number, empty: string): string {
  if (items.length === 0) return empty;
  return items.length <= max ? items.join(',') : `${items.slice(0, max).join(',')} + ${items.length - max} more...`;
}

/** Wide cells that are long lists are cut like this, unless the column has the width for all. */
export function joinOr(items: readonly string[] | undefined, empty: string): string {
  return items === undefined || items.length === 0 ? empty : items.join(',');
}
