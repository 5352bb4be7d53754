// One request and its reply as the API server's handlers see them, whatever carried them: TLS over HTTP/2 or HTTP/1.1
// (./listener.ts) or a call from the same process (./in-process.ts). Handlers never touch sockets or node:http types,
// except the upgrade subresources, which take the raw socket through `upgrade`.

import type { Duplex } from 'node:stream';
import type { UserInfo } from '../auth/user.ts';

/** Header names are lower case; repeated fields are joined by ', '. */
export type Headers = Readonly<Record<string, string | undefined>>;

/** What carries the bytes back. `head` once, then `write` any number of times, then `end`. */
export interface Reply {
  /** False as soon as `head` was called. */
  readonly isOpen: boolean;
  /** True when the client went away or the reply ended. */
  readonly isClosed: boolean;
  /** Status code once `head` was called. */
  readonly status: number;
  /** Sends status and headers at once: watchers wait for them. */
  head(status: number, headers: Record<string, string | string[]>): void;
  /** False asks the caller to wait for `onDrain`. */
  write(chunk: Uint8Array | string): boolean;
  end(chunk?: Uint8Array | string): void;
  /** Calls back once, when buffered bytes have left after `write` returned false, or when nobody is there any more. */
  onDrain(callback: () => void): void;
  /** Calls back once, when the client went away or the reply ended; at once if that has happened. */
  onClose(callback: () => void): void;
  /** Cuts the connection or stream: the reply cannot be completed. */
  destroy(): void;
}

/** The raw socket of an upgrade request, before any byte of the answer was written. */
export interface UpgradeSocket { socket: Duplex; head: Buffer; rawHeaders: readonly string[] }

export interface Exchange {
  readonly method: string;
  /** Path as sent, percent-encoding untouched, without query. */
  readonly path: string;
  readonly queryText: string;
  readonly query: URLSearchParams;
  readonly headers: Headers;
  /** Who calls; undefined until the listener's authenticator has run. In-process callers bring their own. */
  user: UserInfo | undefined;
  /** Credentials of the connection, for the authenticator. */
  readonly peer: { readonly certificate: PeerCertificate | undefined; readonly address: string; readonly isInProcess: boolean };
  /** The whole body. Throws RequestEntityTooLarge beyond `bytesMax`. */
  readBody(bytesMax: number): Promise<Buffer>;
  readonly reply: Reply;
  readonly upgrade: UpgradeSocket | undefined;
  /** The body as a stream, for forwarding. */
  bodyStream(): AsyncIterable<Uint8Array> | undefined;
}

/** The verified client certificate's subject. `fingerprint` is SHA-256 of the certificate. */
export interface PeerCertificate { commonName: string; organizations: readonly string[]; fingerprint: string; notAfterMs: number }
