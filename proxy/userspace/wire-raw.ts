// Wires over the runtime's own TCP handles, past net.Socket and streams: a small exchange and above all a new
// connection cost a fraction of the JavaScript work. The handles come from `process.binding`, which Node deprecates
// in its documentation but serves; the runtime's version is pinned by this package, every name that is used is checked at start, and
// wire-socket.ts takes over where one is missing.
//
// Contract of the handles (lib/internal/stream_base_commons.js of Node 26): `onread` is called with `this` = handle
// after each read, with the byte count or error in streamBaseState; a write is asynchronous only when the state says so.

import { getSystemErrorName } from 'node:util';
import { doNothing, keepAliveSeconds, readBufferBytes, resetHandle, type PeerName, type TcpHandle, type Wire, type WireFactory, type WireOwner } from './wire.ts';

interface RawHandle extends TcpHandle {
  wire: RawWire; onread: (this: RawHandle) => void;
  readStart(): number; readStop(): number; useUserBuffer(buffer: Uint8Array): void;
  writeBuffer(request: RawRequest, bytes: Uint8Array): number; shutdown(request: RawRequest): number;
  setKeepAlive(isOn: boolean, delaySeconds: number): number;
  connect(request: RawRequest, ip: string, port: number): number; connect6(request: RawRequest, ip: string, port: number): number;
}
interface RawRequest { wire: RawWire; oncomplete: (this: RawRequest, status: number) => void }
interface Bindings {
  state: Int32Array; readIndex: number; asyncIndex: number; endOfFile: number;
  TCP: new (kind: number) => RawHandle; socketKind: number;
  WriteWrap: new () => RawRequest; ShutdownWrap: new () => RawRequest; TCPConnectWrap: new () => RawRequest;
}

class RawWire implements Wire {
  readonly handle: RawHandle;
  readonly owner: WireOwner;
  isClosed = false;
  readonly #bindings: Bindings;

  constructor(handle: RawHandle, owner: WireOwner, bindings: Bindings, buffer: Buffer) {
    this.handle = handle;
    this.owner = owner;
    this.#bindings = bindings;
    handle.wire = this;
    handle.onread = onReadOf(bindings);
    handle.useUserBuffer(buffer);
  }

  startReading(): void { if (!this.isClosed) this.handle.readStart(); }

  write(bytes: Buffer): boolean {
    if (this.isClosed) return true;
    const bindings = this.#bindings;
    const request = spareRequest ?? new bindings.WriteWrap();
    const error = this.handle.writeBuffer(request, bytes);
    if (error !== 0) { this.fail(error); return true; }
    if (bindings.state[bindings.asyncIndex] === 0) {
      // The request was not needed: the kernel took everything at once.
      spareRequest = request;
      return true;
    }
    spareRequest = undefined;
    request.wire = this;
    request.oncomplete = onWritten;
    return false;
  }

  end(): void {
    if (this.isClosed) return;
    const request = new this.#bindings.ShutdownWrap();
    request.wire = this;
    request.oncomplete = doNothing;
    this.handle.shutdown(request);
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.handle.close();
  }

  reset(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    resetHandle(this.handle);
  }

  keepAlive(): void { if (!this.isClosed) this.handle.setKeepAlive(true, keepAliveSeconds); }

  localName(): PeerName {
    const name: PeerName = { address: '', port: 0 };
    this.handle.getsockname(name);
    return name;
  }

  /** Closes and tells the owner, in a later turn when it may be in the middle of something. */
  fail(error: number): void {
    if (this.isClosed) return;
    this.close();
    this.owner.onFailed(getSystemErrorName(error));
  }
}

/** One per thread, reused as long as writes are taken at once. */
let spareRequest: RawRequest | undefined;
let readCallback: ((this: RawHandle) => void) | undefined;

function onReadOf(bindings: Bindings): (this: RawHandle) => void {
  const { state, readIndex, endOfFile } = bindings;
  return readCallback ??= function onRead(this: RawHandle): void {
    const { wire } = this;
    if (wire.isClosed) return;
    const count = state[readIndex] as number;
    if (count > 0) { if (!wire.owner.onBytes(count) && !wire.isClosed) this.readStop(); }
    else if (count === endOfFile) { this.readStop(); wire.owner.onEnd(); }
    else if (count < 0) wire.fail(count);
  };
}

function onWritten(this: RawRequest, status: number): void {
  const { wire } = this;
  if (wire.isClosed) return;
  if (status < 0) wire.fail(status); else wire.owner.onWritten();
}

function onConnected(this: RawRequest, status: number): void {
  const { wire } = this;
  if (wire.isClosed) return;
  if (status < 0) { wire.fail(status); return; }
  wire.handle.setNoDelay(true);
  wire.owner.onConnected();
}

/** Undefined when this runtime does not offer everything that is needed. */
export function rawWires(): WireFactory | undefined {
  const bindings = loadBindings();
  if (bindings === undefined) return undefined;
  const buffer = Buffer.allocUnsafeSlow(readBufferBytes);
  return {
    kind: 'raw', buffer,
    accept: (handle, owner) => new RawWire(handle as RawHandle, owner, bindings, buffer),
    connect: (ip, port, owner) => {
      const handle = new bindings.TCP(bindings.socketKind);
      const wire = new RawWire(handle, owner, bindings, buffer);
      const request = new bindings.TCPConnectWrap();
      request.wire = wire;
      request.oncomplete = onConnected;
      const error = ip.includes(':') ? handle.connect6(request, ip, port) : handle.connect(request, ip, port);
      if (error !== 0) setImmediate(() => wire.fail(error));
      return wire;
    },
  };
}

function loadBindings(): Bindings | undefined {
  try {
    const load = (process as unknown as { binding(name: string): Record<string, unknown> }).binding.bind(process);
    const stream = load('stream_wrap');
    const tcp = load('tcp_wrap');
    const endOfFile = load('uv')['UV_EOF'];
    const constants = tcp['constants'] as Record<string, number> | undefined;
    const { streamBaseState: state, kReadBytesOrError: readIndex, kLastWriteWasAsync: asyncIndex, WriteWrap, ShutdownWrap } = stream;
    const { TCP, TCPConnectWrap } = tcp;
    const isComplete = state instanceof Int32Array && typeof readIndex === 'number' && typeof asyncIndex === 'number' && typeof endOfFile === 'number' && typeof constants?.['SOCKET'] === 'number'
      && [WriteWrap, ShutdownWrap, TCP, TCPConnectWrap].every((each) => typeof each === 'function')
      && ['readStart', 'readStop', 'useUserBuffer', 'writeBuffer', 'shutdown', 'connect', 'close', 'setNoDelay', 'setKeepAlive', 'getpeername', 'getsockname'].every((name) => name in (TCP as { prototype: object }).prototype);
    if (!isComplete) return undefined;
    return { state, readIndex, asyncIndex, endOfFile, socketKind: constants['SOCKET'] as number, TCP, TCPConnectWrap, WriteWrap, ShutdownWrap } as unknown as Bindings;
  } catch { return undefined; }
}
