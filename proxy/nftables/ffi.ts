// The door to the C libraries: netlink sockets through libc and the rule language through libnftables, both by koffi.
// Nothing else in the project imports koffi. Called by netlink (batches, dumps) and kernel (static rules). When koffi
// or a library is missing, `loadLibraries` says so and the engine falls back to the `nft` program.
//
// Libnftables opens one netlink socket per context. We send our own element batches through that same socket, since
// the kernel lets only the socket that owns a table change it.

import { readdirSync } from 'node:fs';
import { NetloomError } from '../../api/errors.ts';

interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  send(fd: number, buffer: Uint8Array, length: number, flags: number): number;
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint8Array): number;
  close(fd: number): number;
  errno(): number;
}

interface NftLibrary {
  open(): unknown;
  run(context: unknown, text: string): number;
  error(context: unknown): string;
  free(context: unknown): void;
}

/** `nft` is undefined when libnftables is not installed; `missing` says what and why. */
export interface Libraries { readonly libc: Libc; readonly nft: NftLibrary | undefined; readonly missing: string | undefined }

const afNetlink = 16;
const sockRawCloseOnExec = 3 | 0o2000000;
const solSocket = 1;
const solNetlink = 270;
const soSendBuffer = 7;
const soSendBufferForce = 32;
const soReceiveBufferForce = 33;
const soProtocol = 38;
const soDomain = 39;
const capAck = 10;
const extendedAck = 11;
const dontWait = 0x40;
/** One batch is one message to the kernel, so the buffer bounds the batch; 30,000 Services need about 16 MB. */
const sendBufferBytes = 128 * 1024 * 1024;
const receiveBufferBytes = 4 * 1024 * 1024;

export const protocols = Object.freeze({ route: 0, netfilter: 12 });

/** Loads koffi and the libraries; throws ToolMissing when there is no FFI at all. */
export async function loadLibraries(): Promise<Libraries> {
  let koffi: typeof import('koffi').default;
  try {
    koffi = (await import('koffi')).default;
  } catch (cause) {
    throw new NetloomError('ToolMissing', 'the koffi package does not load on this platform', { source: 'config', cause });
  }
  const open = (names: readonly string[]): ReturnType<typeof koffi.load> => {
    let last: unknown;
    for (const name of names) try { return koffi.load(name); } catch (error) { last = error; }
    throw new NetloomError('ToolMissing', `cannot load ${names[0]}`, { source: 'config', cause: last });
  };
  const c = open(['libc.so.6', `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`]);
  const libc: Libc = {
    socket: c.func('int socket(int, int, int)'),
    send: c.func('int64_t send(int, const void *, size_t, int)'),
    recv: c.func('int64_t recv(int, _Out_ void *, size_t, int)'),
    setsockopt: c.func('int setsockopt(int, int, int, const void *, uint32_t)'),
    getsockopt: c.func('int getsockopt(int, int, int, _Out_ void *, _Inout_ void *)'),
    close: c.func('int close(int)'),
    errno: () => koffi.errno(),
  };
  try {
    const lib = open(['libnftables.so.1']);
    const make = lib.func('void *nft_ctx_new(uint32_t)');
    const bufferOutput = lib.func('int nft_ctx_buffer_output(void *)');
    const bufferError = lib.func('int nft_ctx_buffer_error(void *)');
    const errorBuffer = lib.func('const char *nft_ctx_get_error_buffer(void *)');
    const run = lib.func('int nft_run_cmd_from_buffer(void *, const char *)');
    const free = lib.func('void nft_ctx_free(void *)');
    return {
      libc, missing: undefined,
      nft: {
        open: (): unknown => { const context: unknown = make(0); bufferOutput(context); bufferError(context); return context; },
        run: (context, text) => run(context, text) as number,
        error: (context) => errorBuffer(context) as string,
        free: (context) => { free(context); },
      },
    };
  } catch (error) {
    return { libc, nft: undefined, missing: error instanceof Error ? error.message : String(error) };
  }
}

/** A netlink socket whose answers are queued by the time `send` returns, so that reading never blocks. */
export class NetlinkSocket {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #isBorrowed: boolean;
  readonly #receiveBuffer = Buffer.allocUnsafeSlow(256 * 1024);

  constructor(libc: Libc, fd: number, isBorrowed: boolean) {
    this.#libc = libc;
    this.#fd = fd;
    this.#isBorrowed = isBorrowed;
    this.#set(solSocket, soSendBuffer, sendBufferBytes);
    this.#set(solSocket, soSendBufferForce, sendBufferBytes);
    this.#set(solSocket, soReceiveBufferForce, receiveBufferBytes);
    this.#set(solNetlink, capAck, 1);
    this.#set(solNetlink, extendedAck, 1);
  }

  static open(libc: Libc, protocol: number): NetlinkSocket {
    const fd = libc.socket(afNetlink, sockRawCloseOnExec, protocol);
    if (fd < 0) throw new NetloomError('PermissionDenied', `cannot open a netlink socket (errno ${libc.errno()})`, { source: 'kernel' });
    return new NetlinkSocket(libc, fd, false);
  }

  /** Sends the first `length` bytes as one message; throws KernelRejected on errno. */
  send(buffer: Uint8Array, length: number): void {
    if (this.#libc.send(this.#fd, buffer, length, 0) === length) return;
    const errno = this.#libc.errno();
    throw new NetloomError('KernelRejected', `netlink send of ${length} bytes failed (errno ${errno})`, { source: 'kernel', context: { errno } });
  }

  /** The next queued datagram, valid until the next call; undefined when nothing is queued. Overruns throw. */
  receive(): Buffer | undefined {
    const length = Number(this.#libc.recv(this.#fd, this.#receiveBuffer, this.#receiveBuffer.length, dontWait));
    if (length >= 0) return this.#receiveBuffer.subarray(0, length);
    const errno = this.#libc.errno();
    if (errno === 11) return undefined;
    if (errno === 4) return this.receive();
    throw new NetloomError('KernelRejected', `netlink receive failed (errno ${errno})`, { source: 'kernel', context: { errno } });
  }

  close(): void { if (!this.#isBorrowed) this.#libc.close(this.#fd); }

  #set(level: number, name: number, value: number): void {
    const bytes = new Uint8Array(new Int32Array([value]).buffer);
    this.#libc.setsockopt(this.#fd, level, name, bytes, 4);
  }
}

/** One libnftables context and the netlink socket inside it. Not to be shared between threads. */
export class NftContext {
  readonly #nft: NftLibrary;
  readonly #context: unknown;
  readonly socket: NetlinkSocket;

  constructor(libraries: Libraries) {
    if (libraries.nft === undefined) throw new NetloomError('ToolMissing', `libnftables is missing: ${libraries.missing}`, { source: 'config', hint: 'apt install libnftables1' });
    const before = new Set(netfilterSockets(libraries.libc));
    this.#nft = libraries.nft;
    this.#context = libraries.nft.open();
    const fd = netfilterSockets(libraries.libc).find((candidate) => !before.has(candidate));
    if (fd === undefined) throw new NetloomError('ToolMissing', 'libnftables did not open a netlink socket', { source: 'kernel' });
    this.socket = new NetlinkSocket(libraries.libc, fd, true);
  }

  /** Runs nft commands as one transaction; throws KernelRejected with the library's first complaint. */
  run(text: string): void {
    if (this.#nft.run(this.#context, text) === 0) return;
    throw new NetloomError('KernelRejected', `nft: ${this.#nft.error(this.#context).trim().split('\n').slice(0, 3).join(' | ')}`, { source: 'kernel' });
  }

  close(): void { this.#nft.free(this.#context); }
}

/** Open descriptors of this process that are netfilter netlink sockets. */
function netfilterSockets(libc: Libc): number[] {
  const read = (fd: number, name: number): number => {
    const value = new Uint8Array(4);
    const length = new Uint8Array(new Uint32Array([4]).buffer);
    return libc.getsockopt(fd, solSocket, name, value, length) === 0 ? new DataView(value.buffer).getInt32(0, true) : -1;
  };
  return readdirSync('/proc/self/fd').map(Number).filter((fd) => read(fd, soDomain) === afNetlink && read(fd, soProtocol) === protocols.netfilter);
}
