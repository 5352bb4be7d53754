// One probe attempt: HTTP, TCP, gRPC health or exec. Only ever to the Pod's own address; a `host` field is ignored and
// redirects are not followed, so that a Pod's author cannot make the agent talk to other hosts. At most 10 KiB of an
// answer are read. Source: core/v1 Probe; grpc.health.v1 Check.

import { connect as http2Connect } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect as tcpConnect } from 'node:net';
import type { Clock } from '../../api/clock.ts';
import { http } from '../../api/node-http.ts';
import type { Container, Probe } from '../../api/types.ts';

export interface ProbeResult { readonly isSuccess: boolean; readonly message: string }
/** Runs a command inside the container and resolves with its exit code and the start of its output. */
export type ExecRunner = (argv: readonly string[], timeoutMs: number) => Promise<{ exitCode: number; output: string }>;

export interface ProbeTarget { container: Container; address: string; exec: ExecRunner; clock: Clock }

const answerBytesMax = 10 * 1024;
const success: ProbeResult = Object.freeze({ isSuccess: true, message: '' });
const failure = (message: string): ProbeResult => ({ isSuccess: false, message });

/** Never rejects. */
export async function runProbe(probe: Probe, target: ProbeTarget): Promise<ProbeResult> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.httpGet !== undefined) return await withTimeout(target.clock, timeoutMs, (signal) => probeHttp(probe.httpGet as NonNullable<Probe['httpGet']>, target, signal));
    if (probe.tcpSocket !== undefined) return await withTimeout(target.clock, timeoutMs, (signal) => probeTcp(portOf(probe.tcpSocket?.port, target.container), target.address, signal));
    if (probe.grpc !== undefined) return await withTimeout(target.clock, timeoutMs, (signal) => probeGrpc(probe.grpc?.port ?? 0, probe.grpc?.service ?? '', target.address, signal));
    if (probe.exec !== undefined) return await probeExec(probe.exec.command ?? [], target, timeoutMs);
    return success;
  } catch (error) {
    return failure((error as Error).message);
  }
}

/** Resolves a port number or the name of one of the container's ports; 0 when there is no such name. */
export function portOf(port: number | string | undefined, container: Container): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find((each) => each.name === port)?.containerPort;
  return named ?? (/^\d+$/.test(port ?? '') ? Number(port) : 0);
}

async function withTimeout(clock: Clock, timeoutMs: number, attempt: (signal: AbortSignal) => Promise<ProbeResult>): Promise<ProbeResult> {
  const abort = new AbortController();
  const timer = clock.after(timeoutMs, () => abort.abort(), true);
  try {
    return await attempt(abort.signal);
  } catch (error) {
    return failure(abort.signal.aborted ? `timeout after ${timeoutMs} ms` : (error as Error).message);
  } finally {
    timer.cancel();
  }
}

function probeHttp(action: NonNullable<Probe['httpGet']>, target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult> {
  const isTls = action.scheme?.toUpperCase() === 'HTTPS';
  const port = portOf(action.port, target.container);
  const headers: Record<string, string> = { 'user-agent': 'kube-probe/1.32', accept: '*/*', connection: 'close' };
  for (const { name, value } of action.httpHeaders ?? []) headers[name.toLowerCase()] = value;
  const path = action.path === undefined || action.path === '' ? '/' : action.path.startsWith('/') ? action.path : `/${action.path}`;
  return new Promise((resolve, reject) => {
    const options = { host: target.address, port, path, headers, signal, agent: false as const, setHost: headers['host'] === undefined };
    const request = isTls ? httpsRequest({ ...options, rejectUnauthorized: false }) : http.request(options);
    request.on('error', reject);
    request.on('response', (response) => {
      const code = response.statusCode ?? 0;
      const isGood = code >= 200 && code < 400;
      let bytes = 0;
      const finish = (): void => { response.destroy(); resolve(isGood ? success : failure(`HTTP probe failed with statuscode: ${code}`)); };
      response.on('data', (data: Buffer) => { bytes += data.length; if (bytes >= answerBytesMax) finish(); });
      response.on('end', finish);
      response.on('error', finish);
    });
    request.end();
  });
}

function probeTcp(port: number, address: string, signal: AbortSignal): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const socket = tcpConnect({ host: address, port });
    const abort = (): void => { socket.destroy(new Error('aborted')); };
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', reject);
    socket.on('connect', () => { signal.removeEventListener('abort', abort); socket.destroy(); resolve(success); });
  });
}

async function probeExec(argv: readonly string[], target: ProbeTarget, timeoutMs: number): Promise<ProbeResult> {
  const { exitCode, output } = await target.exec(argv, timeoutMs);
  return exitCode === 0 ? success : failure(output.trim().slice(0, 1024) || `command exited with ${exitCode}`);
}

const statusNames = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

function probeGrpc(port: number, service: string, address: string, signal: AbortSignal): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const session = http2Connect(`http://${address.includes(':') ? `[${address}]` : address}:${port}`);
    const abort = (): void => { session.destroy(new Error('aborted')); };
    signal.addEventListener('abort', abort, { once: true });
    session.on('error', reject);
    const stream = session.request({ ':method': 'POST', ':path': '/grpc.health.v1.Health/Check', 'content-type': 'application/grpc', te: 'trailers', 'user-agent': 'kube-probe/1.32' });
    const chunks: Buffer[] = [];
    let grpcStatus = '';
    stream.on('response', (headers) => { grpcStatus = String(headers['grpc-status'] ?? ''); });
    stream.on('trailers', (headers) => { grpcStatus = String(headers['grpc-status'] ?? grpcStatus); });
    stream.on('data', (data: Buffer) => { if (chunks.length < 16) chunks.push(data); });
    stream.on('error', reject);
    stream.on('end', () => {
      signal.removeEventListener('abort', abort);
      session.close();
      const body = Buffer.concat(chunks);
      // Frame: 1 byte flags, 4 bytes length; message HealthCheckResponse {1: status}.
      const status = body.length >= 7 && body[5] === 0x08 ? body[6] as number : 0;
      resolve(grpcStatus === '0' && status === 1 ? success : failure(`gRPC health: status ${statusNames[status] ?? status}, grpc-status ${grpcStatus}`));
    });
    const name = Buffer.from(service);
    const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([frame, message]));
  });
}
