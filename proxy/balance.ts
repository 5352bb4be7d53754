// The choice of an endpoint for one connection: power of two choices on outstanding work weighed by a moving average
// of latency, with passive ejection of endpoints that fail and a panic threshold: when most endpoints are ejected, the
// ejections are more likely our own trouble than theirs and are ignored. An endpoint that was slow is tried again after a
// while, because its average fades. Called by userspace/tcp.ts and udp.ts for every connection, by http/endpoints.ts for
// every request.

export interface BalancedEndpoint {
  readonly ip: string; readonly port: number;
  /** Open connections (or UDP sessions) of this thread. */
  outstanding: number;
  /** Moving average of the time to connect, milliseconds; 0 = not known yet. */
  latencyMs: number;
  /** Monotonic time until which it is avoided. */
  ejectedUntilMs: number;
  /** Failures in a row. */
  failureCount: number;
}

export function createEndpoint(ip: string, port: number): BalancedEndpoint {
  return { ip, port, outstanding: 0, latencyMs: 0, ejectedUntilMs: 0, failureCount: 0 };
}

export const balanceLimits = Object.freeze({
  ejectMsMin: 1_000, ejectMsMax: 30_000,
  /** Below this share of endpoints that are not ejected, ejection is ignored. */
  panicShare: 0.3,
  /** Latencies below this count as equal, so that noise does not starve an endpoint. */
  latencyFloorMs: 2,
  /** Weight of the newest latency in the average. */
  latencyWeight: 0.2,
});

/** The better of two endpoints, avoiding `tried` and ejected ones; undefined when all were tried. `firstIndex`: one of the two, when the caller takes turns. `panicShare`: 0 where a failed try costs more than a connect. O(1) usually. */
export function pickEndpoint<T extends BalancedEndpoint>(endpoints: readonly T[], tried: readonly T[] | undefined, nowMs: number, random: () => number, firstIndex = (random() * endpoints.length) | 0, panicShare: number = balanceLimits.panicShare): T | undefined {
  const count = endpoints.length;
  if (count === 0) return undefined;
  if (count === 1) {
    const only = endpoints[0] as T;
    return tried?.includes(only) === true ? undefined : only;
  }
  let secondIndex = (random() * (count - 1)) | 0;
  if (secondIndex >= firstIndex) secondIndex += 1;
  const first = endpoints[firstIndex] as T;
  const second = endpoints[secondIndex] as T;
  const isFirstFit = first.ejectedUntilMs <= nowMs && (tried === undefined || !tried.includes(first));
  const isSecondFit = second.ejectedUntilMs <= nowMs && (tried === undefined || !tried.includes(second));
  if (isFirstFit && isSecondFit) return loadOf(second) < loadOf(first) * 0.999 ? second : first;
  if (tried === undefined && panicShare > 0 && isPanic(endpoints, nowMs, panicShare)) return loadOf(second) < loadOf(first) ? second : first;
  return isFirstFit ? first : isSecondFit ? second : pickByScan(endpoints, tried, nowMs, firstIndex);
}

/** The least loaded of all that may be used, searched from a random place so that ties spread. */
function pickByScan<T extends BalancedEndpoint>(endpoints: readonly T[], tried: readonly T[] | undefined, nowMs: number, start: number): T | undefined {
  const count = endpoints.length;
  let best: T | undefined;
  let lastResort: T | undefined;
  for (let step = 0; step < count; step++) {
    const endpoint = endpoints[(start + step) % count] as T;
    if (tried?.includes(endpoint) === true) continue;
    if (endpoint.ejectedUntilMs > nowMs) {
      if (lastResort === undefined || endpoint.ejectedUntilMs < lastResort.ejectedUntilMs) lastResort = endpoint;
    } else if (best === undefined || loadOf(endpoint) < loadOf(best)) best = endpoint;
  }
  return best ?? lastResort;
}

/** Most are ejected. After one failure the doubt is over, though: another try of the same request goes to one that is known to be well. */
function isPanic(endpoints: readonly BalancedEndpoint[], nowMs: number, panicShare: number): boolean {
  let available = 0;
  for (const endpoint of endpoints) if (endpoint.ejectedUntilMs <= nowMs) available += 1;
  return available / endpoints.length < panicShare;
}

function loadOf(endpoint: BalancedEndpoint): number {
  return (endpoint.outstanding + 1) * (endpoint.latencyMs < balanceLimits.latencyFloorMs ? balanceLimits.latencyFloorMs : endpoint.latencyMs);
}

export function noteSuccess(endpoint: BalancedEndpoint, latencyMs: number): void {
  const { latencyWeight } = balanceLimits;
  endpoint.latencyMs = endpoint.latencyMs === 0 ? latencyMs : endpoint.latencyMs * (1 - latencyWeight) + latencyMs * latencyWeight;
  endpoint.failureCount = 0;
  endpoint.ejectedUntilMs = 0;
}

/** Halves the averages of endpoints: called now and then, it lets an endpoint that was slow, and so gets no work to prove itself, be tried again. */
export function fadeLatencies(endpoints: readonly BalancedEndpoint[]): void {
  for (const endpoint of endpoints) endpoint.latencyMs *= 0.5;
}

/** Ejects the endpoint for a time that doubles with each failure in a row, from the `failuresToEject`th on. */
export function noteFailure(endpoint: BalancedEndpoint, nowMs: number, failuresToEject = 1): void {
  endpoint.failureCount += 1;
  if (endpoint.failureCount < failuresToEject) return;
  const ejectMs = Math.min(balanceLimits.ejectMsMax, balanceLimits.ejectMsMin * 2 ** Math.min(endpoint.failureCount - failuresToEject, 10));
  endpoint.ejectedUntilMs = nowMs + ejectMs;
}

/**
 * The endpoint that this key always gets from this set, whatever thread asks (highest random weight): the first pick
 * of a client with session affinity. Removing an endpoint moves only its own clients. O(endpoints).
 */
export function pickByHash<T extends BalancedEndpoint>(endpoints: readonly T[], key: string, nowMs: number, tried?: readonly T[]): T | undefined {
  let best: T | undefined;
  let bestWeight = -1;
  const mayUseAny = tried === undefined && endpoints.length > 0 && isPanic(endpoints, nowMs, balanceLimits.panicShare);
  for (const endpoint of endpoints) {
    if ((!mayUseAny && endpoint.ejectedUntilMs > nowMs) || tried?.includes(endpoint) === true) continue;
    const weight = hashText(`${key}|${endpoint.ip}:${endpoint.port}`, 0x9747b28c);
    if (weight > bestWeight) { bestWeight = weight; best = endpoint; }
  }
  return best ?? endpoints.find((endpoint) => tried?.includes(endpoint) !== true);
}

/** 32-bit hash of a short text (FNV-1a with a final mix); unsigned. */
export function hashText(text: string, seed: number): number {
  let hash = seed ^ 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
