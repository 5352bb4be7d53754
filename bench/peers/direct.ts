// No proxy at all: the speed of light of each path. Its CPU column stays empty.

import type { Bed, Contender } from '../lib/contender.ts';

export const direct: Contender = {
  name: 'direct',
  missing: () => undefined,
  start: async (bed: Bed, row: string) => ({ host: bed.backendHost, port: portOf(bed, row), pid: 0, stop: async () => {} }),
};

function portOf(bed: Bed, row: string): number {
  return row.startsWith('tcp') ? bed.tcpPort : row.includes('1mb') ? bed.bigPort : row.includes('websocket') ? bed.websocketPort : bed.httpPort;
}
