// What one load run is asked to do and what comes out of it: the words shared by the workers, the coordinator and the
// reports. Times are milliseconds unless the name says otherwise; histograms hold nanoseconds.

import type { RecordableHistogram } from 'node:perf_hooks';

export type LoadProtocol = 'http1' | 'http2' | 'tcp' | 'dns-udp' | 'dns-tcp' | 'websocket';

/** A closed loop sends the next request when the last is answered; an open loop sends by the clock, whatever happens. */
export interface LoadPlan {
  protocol: LoadProtocol;
  host: string; port: number; isTls: boolean; serverName: string; path: string; method: string; headers: Record<string, string>; body: string;
  /** Requests per second over all workers; 0 = closed loop. */
  rate: number;
  connections: number;
  /** Streams in flight per HTTP/2 connection, or queries in flight per DNS socket. */
  streams: number;
  durationMs: number; warmupMs: number; timeoutMs: number;
  /** Connections are closed after this many requests; 0 = never. 1 measures new connections. */
  requestsPerConnection: number;
  /** DNS: names asked in turn, and their type number. */
  names: string[]; queryType: number;
  /** What tells endpoints apart: a response header, the body's first line, or nothing. */
  distributeBy: 'none' | 'body' | `header:${string}`;
  /** tcp: bytes sent after connecting, answered by an echo; empty = connect only. */
  payload: string;
}

export interface WorkerReport {
  type: 'progress' | 'done';
  count: number; bytes: number; errors: Record<string, number>; statuses: Record<string, number>; distribution: Record<string, number>;
  /** Since the last report. */
  window: RecordableHistogram; windowErrors: number;
  lag: RecordableHistogram;
  /** Due by the clock, but not sent when the time was over because every connection was busy. */
  unsentCount: number;
  cpuMs: number; elapsedMs: number;
}

export interface Percentiles { p50: number; p90: number; p99: number; p999: number; max: number; mean: number }
export interface TimelinePoint { atMs: number; perSecond: number; p50: number; p99: number; errors: number }

export interface LoadResult {
  name: string; target: string; protocol: LoadProtocol; mode: 'open' | 'closed'; rate: number; connections: number; workers: number; durationMs: number;
  count: number; perSecond: number; bytes: number; unsentCount: number; errorCount: number;
  errors: Record<string, number>; statuses: Record<string, number>; distribution: Record<string, number>;
  latencyMs: Percentiles; lagMs: Percentiles; curve: [number, number][]; timeline: TimelinePoint[];
  isPartial: boolean;
  /** Set when the generator and not the target was the limit: the figures then say nothing about the target. */
  generatorLimit: string | undefined;
  generatorCpuPercent: number;
}

export const defaultPlan: Readonly<LoadPlan> = Object.freeze({
  protocol: 'http1', host: '127.0.0.1', port: 80, isTls: false, serverName: '', path: '/', method: 'GET', headers: {}, body: '',
  rate: 0, connections: 32, streams: 1, durationMs: 10_000, warmupMs: 0, timeoutMs: 10_000, requestsPerConnection: 0,
  names: [], queryType: 1, distributeBy: 'none', payload: '',
});
