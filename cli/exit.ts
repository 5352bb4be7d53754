// The way a command ends the process with a code of its own after it has printed everything itself.

/** 1 failed, 2 usage, 3 not running, 4 not found, 5 the thing explained does not work. */
export class ExitCode extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}
