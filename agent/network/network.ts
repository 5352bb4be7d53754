// What the agent needs from a way of giving Pods their addresses. Two drivers keep it: netns.ts (root on Linux, one
// network namespace per Pod) and loopback.ts (any user, one 127.64.x.y address per Pod, shared host network).
// pods/pod-runner.ts asks for one sandbox per Pod and gives it back when the last container has stopped.

/** What a Pod's processes run in. */
export interface Sandbox {
  /** The Pod's address, empty for a hostNetwork Pod. */
  readonly podIP: string;
  /** argv that runs `argv` inside; the same array when nothing has to be entered. */
  wrap(argv: readonly string[]): readonly string[];
}

export interface SandboxRequest {
  /** Unique over the node's life; a restart of the Pod's containers keeps it. */
  readonly podUid: string;
  readonly hostname: string;
  readonly isHostNetwork: boolean;
  /** Lines of the Pod's resolv.conf; undefined leaves the host's. */
  readonly resolvConf: string | undefined;
}

export interface NetworkDriver {
  readonly mode: 'netns' | 'loopback';
  /** Makes what all Pods share and removes what a killed agent left. */
  start(): Promise<void>;
  /** Throws PermissionDenied, ToolMissing or ServiceUnavailable (range full). */
  attach(request: SandboxRequest): Promise<Sandbox>;
  detach(podUid: string): Promise<void>;
  /** Removes everything that start() and attach() made. */
  stop(): Promise<void>;
  /** Shell text that removes the same after the agent was killed; the reaper runs it. */
  cleanupScript(): string;
}
