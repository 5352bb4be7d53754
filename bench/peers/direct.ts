// No proxy at all: the speed of light of each path. Its CPU column stays empty.

import { backendPort, type Bed, type Contender } from '../lib/contender.ts';

export const direct: Contender = {
  name: 'direct',
  missing: () => undefined,
  start: async (bed: Bed, row: string) => ({ host: bed.backendHost, port: backendPort(bed, row), pid: 0, stop: async () => {} }),
};
