// The way a command ends the process with a code of its own after it has printed everything itself.

import { NetloomError } from '../api/errors.ts';

/** 1 failed, 2 usage, 3 not running, 4 not found, 5 the thing explained does not work. */
export class ExitCode extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

/** The code of an error that is printed by main: 1, or what the thrower put into its context as `exitCode`. */
export function exitCodeOf(error: unknown): number {
  const code = error instanceof NetloomError ? error.context['exitCode'] : undefined;
  return typeof code === 'number' ? code : 1;
}
