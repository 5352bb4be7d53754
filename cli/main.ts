// The `netloom` command: its subcommands and flags, exit codes (0 ok, 1 failed, 2 usage, 3 not running, 4 not found,
// 5 the thing explained does not work) and the one place where an error becomes text for a person.
// Every subcommand's code is imported only when it runs, so that reading commands start fast.

import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { ExitCode, exitCodeOf } from './exit.ts';
import { addControlFlags, addDataDirFlag, addManifestFlags, addNodeFlags, addOutputFlag } from './flags.ts';
import { printError } from './output.ts';
import { version } from './version.ts';

type Flags = Record<string, unknown>;

export function buildProgram(): Command {
  const program = new Command('netloom')
    .description('Kubernetes service networking for plain processes on plain hosts')
    .version(version, '-V, --version')
    .showHelpAfterError('(add --help for the flags)')
    .configureHelp({ sortSubcommands: false })
    .exitOverride();
  addRunCommands(program);
  addLookCommands(program);
  addChangeCommands(program);
  return program;
}

function addRunCommands(program: Command): void {
  const up = program.command('up').summary('start a control plane and a node here')
    .description('Starts a control plane and one node in this process and serves until Ctrl-C.\n\nExamples:\n  netloom up -f examples/shop\n  netloom up --ephemeral --api-port 0 --http-port 0 --dns-port 0 --ready-file /tmp/ready.json');
  addNodeFlags(addControlFlags(addManifestFlags(addDataDirFlag(up))));
  up.action(async (flags: Flags) => (await import('./up.ts')).up(flags, 'up'));

  const server = program.command('server').summary('start a control plane alone')
    .description('Starts the Kubernetes API server, store and controllers.\n\nExamples:\n  netloom server --bind 192.0.2.10\n  netloom server --store etcd://127.0.0.1:2379');
  addControlFlags(addManifestFlags(addDataDirFlag(server)));
  server.action(async (flags: Flags) => (await import('./up.ts')).up(flags, 'server'));

  const node = program.command('node').summary('join this host to a control plane, or run beside a real cluster')
    .description('Starts agent, Service proxy, DNS and Ingress for this host.\n\nExamples:\n  netloom node --server https://192.0.2.10:6443 --token TOKEN\n  netloom node --kubeconfig ~/.kube/config --proxy-only');
  addNodeFlags(addDataDirFlag(node))
    .option('--server <url>', 'API server to join').option('--token <token>', 'join token made by "netloom token create"')
    .option('--kubeconfig <file>', 'credentials of an existing cluster').option('--context <name>', 'context of that kubeconfig')
    .option('--proxy-only', 'Service proxy alone: uses nothing that a real API server lacks');
  node.action(async (flags: Flags) => (await import('./up.ts')).up(flags, 'node'));

  const dns = program.command('dns').summary('cluster DNS alone, or point this host at it');
  addNodeFlags(addDataDirFlag(dns.command('serve', { isDefault: true }).summary('answer names of the cluster of a kubeconfig')))
    .option('--kubeconfig <file>', 'credentials of the cluster').option('--context <name>', 'context of that kubeconfig')
    .action(async (flags: Flags) => (await import('./up.ts')).up(flags, 'dns'));
  for (const verb of ['install', 'uninstall'] as const) {
    addDataDirFlag(dns.command(verb).summary(verb === 'install' ? "point this host's resolver at netloom" : 'undo install'))
      .action(async (flags: Flags) => (await import('./dns-install.ts')).dnsInstall(verb, flags));
  }
}

function addLookCommands(program: Command): void {
  const look = (name: string, summary: string): Command => addOutputFlag(addDataDirFlag(program.command(name).summary(summary).description(summary)));
  look('status', 'what runs here and where it listens').action(async (flags: Flags) => (await import('./status.ts')).status(flags));
  const check = look('check', 'what is wrong and how to mend it').option('--wait <duration>', 'wait up to this long for all to be well, e.g. 30s').option('--strict', 'warnings count as failures');
  check.action(async (flags: Flags) => (await import('./check.ts')).check(flags));
  addOutputFlag(check.command('ingress').summary('how the Ingress objects of a file would be served: annotations honoured, approximated or refused'))
    .requiredOption('-f, --file <file...>', 'manifest files')
    .action(async (flags: Flags) => (await import('./check-ingress.ts')).checkIngress(flags));
  look('explain', 'why a connection, request or name goes where it goes')
    .argument('<what>', 'svc, ingress or dns').argument('<name>', 'Service name, URL or DNS name')
    .option('-n, --namespace <namespace>', 'namespace of a Service', 'default').option('--from <pod>', 'the Pod that asks (dns)')
    .action(async (what: string, name: string, flags: Flags) => (await import('./explain.ts')).explain(what, name, flags));
  addDataDirFlag(program.command('kubeconfig').summary('print the path of the kubeconfig'))
    .option('--merge', 'add it to ~/.kube/config (or $KUBECONFIG) and make it current').option('--raw', 'print the content')
    .action(async (flags: Flags) => (await import('./kubeconfig.ts')).kubeconfig(flags));
  addOutputFlag(program.command('version').summary('print versions')).action(async (flags: Flags) => (await import('./version.ts')).printVersion(flags));
  program.command('completion').summary('shell completion script').argument('<shell>', 'bash, zsh or fish')
    .action(async (shell: string) => (await import('./completion.ts')).completion(shell, program));
}

function addChangeCommands(program: Command): void {
  addDataDirFlag(program.command('run').summary('run a plain process behind a Service'))
    .description('Runs a command as a Deployment behind a Service, without YAML.\n\nExample:\n  netloom run --name web --replicas 3 --port 8080 -- node app.js')
    .requiredOption('--name <name>', 'name of the Deployment and Service').option('--replicas <count>', 'processes', parseCount, 1)
    .option('--port <port>', 'port the process listens on, also given as $PORT', parseCount, 8080)
    .option('--service-port <port>', 'port of the Service', parseCount, 80).option('-n, --namespace <namespace>', 'namespace', 'default')
    .option('--env <name=value...>', 'environment').option('--rm', 'delete it again and stop the processes')
    .argument('[command...]', 'command and arguments, after --')
    .action(async (command: string[], flags: Flags) => (await import('./run.ts')).run(command, flags));
  addDataDirFlag(program.command('expose').summary('put listeners that already run behind a Service'))
    .description('Makes a Service without selector and an EndpointSlice for existing listeners.\n\nExample:\n  netloom expose web --to 192.0.2.4:3000,192.0.2.5:3000')
    .argument('<name>', 'name of the Service').requiredOption('--to <ip:port,...>', 'addresses').option('--port <port>', 'port of the Service', parseCount, 80)
    .option('-n, --namespace <namespace>', 'namespace', 'default')
    .action(async (name: string, flags: Flags) => (await import('./run.ts')).expose(name, flags));
  addDataDirFlag(program.command('token').summary('join tokens for nodes').argument('<verb>', 'create'))
    .action(async (verb: string, flags: Flags) => (await import('./kubeconfig.ts')).token(verb, flags));
  for (const verb of ['backup', 'restore'] as const) {
    addDataDirFlag(program.command(verb).summary(verb === 'backup' ? 'copy the store of a running or stopped control plane' : 'replace the store of a stopped control plane').argument('<file>', 'backup file'))
      .action(async (file: string, flags: Flags) => (await import('./backup.ts'))[verb](file, flags));
  }
  addNodeFlags(addDataDirFlag(program.command('cleanup').summary('remove kernel rules, addresses and processes that netloom left on this host')))
    .action(async (flags: Flags) => (await import('./cleanup.ts')).cleanup(flags));
  program.command('bench').summary('latency of every path').allowUnknownOption().allowExcessArguments().helpOption(false).argument('[args...]')
    .action(async () => (await import('./bench.ts')).bench(process.argv.slice(process.argv.indexOf('bench') + 1)));
}

function parseCount(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('must be a whole number');
  return Number(text);
}

/** Runs the command line and resolves to the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  process.stdout.on('error', swallowBrokenPipe);
  process.stderr.on('error', swallowBrokenPipe);
  try {
    await buildProgram().parseAsync(args as string[], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof ExitCode) return error.exitCode;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    printError(error);
    return exitCodeOf(error);
  }
}

function swallowBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
}

if (import.meta.main || process.argv[1]?.endsWith('netloom.js') === true || process.argv[1]?.endsWith('/netloom') === true) {
  process.exitCode = await main(process.argv.slice(2));
}
