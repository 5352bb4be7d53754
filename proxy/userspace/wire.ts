// One TCP connection as the relay needs it, in two makes: wire-raw.ts (the runtime's stream handles directly, a fifth of
// the cost per connection) and wire-socket.ts (net.Socket, for runtimes that do not give the handles out).
// Reading goes into one buffer per thread; the owner takes the bytes out before it returns.

/** Handle of an accepted connection, as net gives it to `onconnection`. */
export interface TcpHandle {
  getpeername(out: PeerName): number;
  getsockname(out: PeerName): number;
  setNoDelay(isOn: boolean): number;
  close(): void;
  reset?(done: () => void): number;
}
export interface PeerName { address: string; port: number; family?: string }

export interface WireOwner {
  onConnected(): void;
  /** The first `count` bytes of the read buffer; false stops reading until startReading(). */
  onBytes(count: number): boolean;
  /** The other end sends no more. */
  onEnd(): void;
  /** A write that write() had answered with false is done. */
  onWritten(): void;
  /** Failed for good; `code` as in Node's errors. Nothing else is called afterwards. */
  onFailed(code: string | undefined): void;
}

export interface Wire {
  startReading(): void;
  /** True when the kernel took all of it; false = onWritten follows, and nothing may be written until then. */
  write(bytes: Buffer): boolean;
  /** Sends FIN after what was written. */
  end(): void;
  /** Closes in order; no callback follows. */
  close(): void;
  /** Closes with a reset; no callback follows. */
  reset(): void;
  /** Lets the kernel ask a silent peer whether it is still there. */
  keepAlive(): void;
  localName(): PeerName;
}

export interface WireFactory {
  readonly kind: 'raw' | 'socket';
  readonly buffer: Buffer;
  accept(handle: TcpHandle, owner: WireOwner): Wire;
  connect(ip: string, port: number, owner: WireOwner): Wire;
}

export const readBufferBytes = 65_536;
/** Silence after which keepAlive() has the kernel ask. */
export const keepAliveSeconds = 60;

export function resetHandle(handle: TcpHandle): void {
  if (handle.reset === undefined || handle.reset(doNothing) !== 0) handle.close();
}

export function doNothing(): void {}
