// Wires over net.Socket, used where the raw handles are not available. Sockets are built from the accepted handle, read
// with `onread` and written with `_write`: there is never more than one write on the way, so the stream's own queue
// is not needed.

import net from 'node:net';
import { doNothing, keepAliveSeconds, readBufferBytes, type PeerName, type TcpHandle, type Wire, type WireFactory, type WireOwner } from './wire.ts';

type WireNetSocket = net.Socket & { wire: SocketWire };
/** What the stream machinery itself passes along with Buffers. */
const bufferEncoding = 'buffer' as BufferEncoding;

class SocketWire implements Wire {
  readonly socket: WireNetSocket;
  readonly owner: WireOwner;
  #isWriting = false;
  #isAsync = false;
  #hasStarted = false;
  readonly #onWritten: (error?: Error | null) => void;

  constructor(socket: net.Socket, owner: WireOwner) {
    this.socket = socket as WireNetSocket;
    this.socket.wire = this;
    this.owner = owner;
    this.#onWritten = (error) => {
      this.#isWriting = false;
      if (error !== undefined && error !== null) this.#fail((error as NodeJS.ErrnoException).code);
      else if (this.#isAsync) { this.#isAsync = false; this.owner.onWritten(); }
    };
    socket.on('end', onEnd);
    socket.on('error', onError);
    socket.on('close', onClose);
  }

  startReading(): void {
    if (this.#hasStarted) this.socket.resume(); else this.socket.read(0);
    this.#hasStarted = true;
  }

  write(bytes: Buffer): boolean {
    if (this.socket.destroyed) return true;
    this.#isWriting = true;
    this.socket._write(bytes, bufferEncoding, this.#onWritten);
    this.#isAsync = this.#isWriting;
    return !this.#isAsync;
  }

  end(): void { this.socket.end(); }
  close(): void { this.#silence(); this.socket.destroySoon(); }
  reset(): void { this.#silence(); if (this.socket.connecting) this.socket.destroy(); else this.socket.resetAndDestroy(); }
  keepAlive(): void { this.socket.setKeepAlive(true, keepAliveSeconds * 1000); }
  localName(): PeerName { return { address: this.socket.localAddress ?? '', port: this.socket.localPort ?? 0 }; }
  failed(code: string | undefined): void { this.#fail(code); }

  #fail(code: string | undefined): void {
    this.#silence();
    this.socket.destroy();
    this.owner.onFailed(code);
  }

  #silence(): void {
    for (const event of ['end', 'close', 'connect']) this.socket.removeAllListeners(event);
    this.socket.removeListener('error', onError);
    this.socket.on('error', doNothing);
  }
}

/** Shares one read buffer over all wires of the thread. */
export function socketWires(): WireFactory {
  const buffer = Buffer.allocUnsafeSlow(readBufferBytes);
  const onread = { buffer, callback: onBytes as (bytes: number, buffer: Uint8Array) => boolean };
  return {
    kind: 'socket', buffer,
    accept: (handle: TcpHandle, owner) => new SocketWire(new net.Socket({ handle, allowHalfOpen: true, manualStart: true, onread } as unknown as net.SocketConstructorOpts), owner),
    connect: (ip, port, owner) => {
      const socket = new net.Socket({ allowHalfOpen: true, noDelay: true, onread } as unknown as net.SocketConstructorOpts);
      const wire = new SocketWire(socket, owner);
      // Reading waits for startReading(), as with every wire.
      socket.pause();
      socket.on('connect', onConnect);
      socket.connect({ host: ip, port });
      return wire;
    },
  };
}

function onBytes(this: WireNetSocket, count: number): boolean { return this.wire.owner.onBytes(count); }
function onConnect(this: WireNetSocket): void { this.wire.owner.onConnected(); }
function onEnd(this: WireNetSocket): void { this.wire.owner.onEnd(); }
function onError(this: WireNetSocket, error: NodeJS.ErrnoException): void { this.wire.failed(error.code); }
/** A socket that has ended both ways closes by itself, which is no failure. */
function onClose(this: WireNetSocket): void { if (!this.readableEnded || !this.writableFinished) this.wire.failed(undefined); }
