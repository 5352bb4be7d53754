// The choice of an endpoint for one connection: power of two choices on outstanding work weighed by a moving average
// of latency, with passive ejection of endpoints that fail and a panic threshold: when most endpoints are ejected, the
// ejections are more likely our own trouble than theirs and are ignored. Called by userspace/tcp.ts and udp.ts for
// every connection; the HTTP engine keeps endpoints of its own (http/endpoints.ts), because it chooses per request.

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

/** The better of two random endpoints, avoiding `tried` and ejected ones; undefined when all were tried. O(1) usually. */
export function pickEndpoint<T extends BalancedEndpoint>(endpoints: readonly T[], tried: readonly T[] | undefined, nowMs: number, random: () => number): T | undefined {
  const count = endpoints.length;
  if (count === 0) return undefined;
  if (count === 1) {
    const only = endpoints[0] as T;
    return tried?.includes(only) === true ? undefined : only;
  }
  const firstIndex = (random() * count) | 0;
  let secondIndex = (random() * (count - 1)) | 0;
  if (secondIndex >= firstIndex) secondIndex += 1;
  const first = endpoints[firstIndex] as T;
  const second = endpoints[secondIndex] as T;
  if (first.ejectedUntilMs > nowMs || second.ejectedUntilMs > nowMs || tried !== undefined) return pickByScan(endpoints, tried, nowMs, firstIndex);
  return loadOf(second) < loadOf(first) ? second : first;
}

/** The least loaded of all that may be used, searched from a random place so that ties spread. */
function pickByScan<T extends BalancedEndpoint>(endpoints: readonly T[], tried: readonly T[] | undefined, nowMs: number, start: number): T | undefined {
  const count = endpoints.length;
  // After one failure the doubt is over: the next try goes to one that is known to be well.
  const isPanic = tried === undefined && availableShare(endpoints, nowMs) < balanceLimits.panicShare;
  let best: T | undefined;
  let lastResort: T | undefined;
  for (let step = 0; step < count; step++) {
    const endpoint = endpoints[(start + step) % count] as T;
    if (tried?.includes(endpoint) === true) continue;
    if (!isPanic && endpoint.ejectedUntilMs > nowMs) {
      if (lastResort === undefined || endpoint.ejectedUntilMs < lastResort.ejectedUntilMs) lastResort = endpoint;
    } else if (best === undefined || loadOf(endpoint) < loadOf(best)) best = endpoint;
  }
  return best ?? lastResort;
}

function availableShare(endpoints: readonly BalancedEndpoint[], nowMs: number): number {
  let available = 0;
  for (const endpoint of endpoints) if (endpoint.ejectedUntilMs <= nowMs) available += 1;
  return available / endpoints.length;
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

/** Ejects the endpoint for a time that doubles with each failure in a row. */
export function noteFailure(endpoint: BalancedEndpoint, nowMs: number): void {
  const ejectMs = Math.min(balanceLimits.ejectMsMax, balanceLimits.ejectMsMin * 2 ** Math.min(endpoint.failureCount, 10));
  endpoint.failureCount += 1;
  endpoint.ejectedUntilMs = nowMs + ejectMs;
}

/**
 * The endpoint that this key always gets from this set, whatever thread asks (highest random weight): the first pick
 * of a client with session affinity. Removing an endpoint moves only its own clients. O(endpoints).
 */
export function pickByHash<T extends BalancedEndpoint>(endpoints: readonly T[], key: string, nowMs: number, tried?: readonly T[]): T | undefined {
  let best: T | undefined;
  let bestWeight = -1;
  const isPanic = tried === undefined && endpoints.length > 0 && availableShare(endpoints, nowMs) < balanceLimits.panicShare;
  for (const endpoint of endpoints) {
    if ((!isPanic && endpoint.ejectedUntilMs > nowMs) || tried?.includes(endpoint) === true) continue;
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
