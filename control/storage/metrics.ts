// The store's figures for /metrics, read from `stats()` when scraped. Names follow apiserver_storage_* where the meaning is
// the same. Registered by control/metrics.ts.

import { Gauge } from 'prom-client';
import type { Registry } from 'prom-client';
import type { Storage, StorageStats } from './store.ts';

type Row = [name: string, help: string, value: (stats: StorageStats) => number];

const rows: Row[] = [
  ['netloom_store_revision', 'Revision of the last change', (stats) => stats.revision],
  ['netloom_store_writable', '1 while writes are accepted, 0 when the disk is full or lost', (stats) => stats.isWritable ? 1 : 0],
  ['netloom_store_pending_writes', 'Writes waiting for a commit', (stats) => stats.pendingWriteCount],
  ['netloom_store_commits', 'Durable commits since start', (stats) => stats.commitCount],
  ['netloom_store_writes', 'Changes made durable since start', (stats) => stats.writeCount],
  ['netloom_store_commit_batch_size_mean', 'Changes per durable commit', (stats) => stats.batchSizeMean],
  ['netloom_store_commit_batch_size_max', 'Largest durable commit', (stats) => stats.batchSizeMax],
  ['netloom_store_commit_duration_p50_seconds', 'Median duration of the last 1,024 commits', (stats) => stats.commitMsP50 / 1000],
  ['netloom_store_commit_duration_p99_seconds', '99th percentile of the last 1,024 commits', (stats) => stats.commitMsP99 / 1000],
  ['netloom_store_wal_bytes', 'Size of the write-ahead log', (stats) => stats.walBytes],
  ['netloom_store_file_bytes', 'Size of the store file', (stats) => stats.fileBytes],
  ['netloom_store_slow_watchers_closed', 'Watches ended because they fell behind the history', (stats) => stats.slowWatchersClosedCount],
];

/** Adds the store's metrics; everything is computed at scrape time. */
export function registerStorageMetrics(registry: Registry, storage: Storage): void {
  for (const [name, help, value] of rows) {
    new Gauge({ name, help, registers: [registry], collect() { this.set(value(storage.stats())); } });
  }
  const perKind: [string, string, (stats: StorageStats['kinds'][string]) => number][] = [
    ['apiserver_storage_objects', 'Stored objects', (kind) => kind.objectCount],
    ['netloom_store_history_events', 'Events held in memory for watches that resume', (kind) => kind.historyCount],
    ['netloom_store_history_bytes', 'Bytes of the events held in memory', (kind) => kind.historyBytes],
    ['netloom_store_watchers', 'Running watches', (kind) => kind.watcherCount],
  ];
  for (const [name, help, value] of perKind) {
    new Gauge({ name, help, labelNames: ['resource'], registers: [registry], collect() {
      this.reset();
      for (const [resource, kind] of Object.entries(storage.stats().kinds)) this.set({ resource }, value(kind));
    } });
  }
}
