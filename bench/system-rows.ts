// Rows that measure netloom as a whole: start-up, the API under load, change to first routed packet, memory and scale.
// Each returns named values; a row that needs root or a tool says so.

import { apiRow } from './scenarios/api.ts';
import { convergeRow } from './scenarios/converge.ts';
import { dnsChangeRow, dnsMemoryRow } from './scenarios/dns-change.ts';
import { generatorRow } from './scenarios/generator.ts';
import { idleRow } from './scenarios/idle.ts';
import { churnRow, kernelScaleRow } from './scenarios/kernel-scale.ts';
import { memoryRow } from './scenarios/memory.ts';
import { routesRow } from './scenarios/routes.ts';
import { startRow } from './scenarios/start.ts';

export interface SystemContext { isQuick: boolean; isSmoke: boolean; say: (line: string) => void }
export interface SystemRow { name: string; title: string; goal?: string; isHeavy: boolean; missing(): string | undefined; measure(context: SystemContext): Promise<Record<string, number | string>> }

export const systemRows: SystemRow[] = [generatorRow, startRow, convergeRow, apiRow, kernelScaleRow, churnRow, idleRow, routesRow, dnsChangeRow, dnsMemoryRow, memoryRow];
