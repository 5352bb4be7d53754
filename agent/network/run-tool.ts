// Runs one system tool (ip, nsenter) to its end without a shell. Calls of the network drivers only.

import { spawn } from 'node:child_process';
import { NetloomError } from '../../api/errors.ts';

const outputBytesMax = 64 * 1024;

export interface ToolResult { code: number; stdout: string; stderr: string }

/** Resolves with the exit code, also when it is not 0. Throws ToolMissing when the program is not installed. */
export function runTool(argv: readonly string[], input = ''): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data: Buffer) => { if (stdout.length < outputBytesMax) stdout += data.toString(); });
    child.stderr.on('data', (data: Buffer) => { if (stderr.length < outputBytesMax) stderr += data.toString(); });
    child.stdin.on('error', () => {});
    child.on('error', (cause: NodeJS.ErrnoException) => {
      const code = cause.code === 'ENOENT' ? 'ToolMissing' : 'PermissionDenied';
      reject(new NetloomError(code, `cannot run ${argv[0]}: ${cause.message}`, { source: 'kernel', cause, hint: `install ${argv[0]} (Debian: apt install iproute2 util-linux) or use loopback Pod addresses` }));
    });
    child.on('close', (exitCode) => resolve({ code: exitCode ?? 1, stdout, stderr }));
    child.stdin.end(input);
  });
}

/** Like runTool, but a failure throws KernelRejected with what the tool said. */
export async function mustRun(argv: readonly string[], input = ''): Promise<string> {
  const result = await runTool(argv, input);
  if (result.code === 0) return result.stdout;
  const code = /not permitted|Permission denied/i.test(result.stderr) ? 'PermissionDenied' : 'KernelRejected';
  throw new NetloomError(code, `${argv.slice(0, 3).join(' ')} failed: ${result.stderr.trim().split('\n')[0] ?? ''}`, { source: 'kernel', context: { exitCode: result.code } });
}
