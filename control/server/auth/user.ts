// Who makes a request. Made by the authenticator, read by authorization, admission, audit and limits.

/** `method` says how the caller was recognised; it goes into the audit log, never into decisions about rights. */
export interface UserInfo {
  readonly username: string;
  readonly groups: readonly string[];
  readonly uid?: string | undefined;
  readonly extra?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Who really calls, when they act as this user. */
  readonly impersonator?: UserInfo | undefined;
  readonly method: 'certificate' | 'token' | 'serviceAccount' | 'bootstrapToken' | 'inProcess' | 'anonymous';
}

export const groupMasters = 'system:masters';
export const groupAuthenticated = 'system:authenticated';
export const groupUnauthenticated = 'system:unauthenticated';
export const groupNodes = 'system:nodes';
export const groupBootstrappers = 'system:bootstrappers';
export const groupServiceAccounts = 'system:serviceaccounts';
export const nodeUserPrefix = 'system:node:';
export const serviceAccountUserPrefix = 'system:serviceaccount:';

/** The caller without credentials. */
export const anonymous: UserInfo = Object.freeze({ username: 'system:anonymous', groups: [groupUnauthenticated], method: 'anonymous' });
