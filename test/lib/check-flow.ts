// Compares what an engine observed with a flow of the table; shared by all engines' test files.

import { expect } from 'vitest';
import { endpointAddresses } from '../proxy/flows.cases.ts';
import type { Flow, FlowOutcome } from './flow-engine.ts';

/** Letters of the table as the engine reports them: 'ip port'. */
function addressOf(letter: string): string {
  const [name = '', port = '8080'] = letter.split(':');
  return `${endpointAddresses[name]} ${port}`;
}

/** Compares one outcome with the table; shared with the kernel run. */
export function checkFlow(flow: Flow, outcome: FlowOutcome): void {
  const wanted = flow.expect;
  if (wanted.failure !== undefined) {
    expect({ failure: outcome.failure, reached: [...outcome.reached] }).toEqual({ failure: wanted.failure, reached: [] });
    return;
  }
  const allowed = (wanted.reach ?? []).map(addressOf).sort();
  expect(outcome.failure).toBeUndefined();
  if (wanted.isSticky === true) {
    expect(outcome.reached.size).toBe(1);
    expect(allowed).toContain([...outcome.reached][0]);
  } else expect([...outcome.reached].sort()).toEqual(allowed);
  if (wanted.source !== undefined) expect([...outcome.sources]).toEqual([wanted.source]);
}
