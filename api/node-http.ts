// node:http for every file that needs its values: an `import` of it reads all its exports, among them WebSocket, for which
// Node then loads its own copy of a whole HTTP client (5 MB, 35 ms in each thread). Types come from node:http as usual.

/** The module node:http. */
export const http: typeof import('node:http') = process.getBuiltinModule('node:http');
