// The answer of /version. Clients choose their behaviour by the Kubernetes minor version, so a real one is reported.

/** What the served API's schemas and behaviour correspond to. */
export const versionInfo = Object.freeze({
  major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: 'netloom', gitTreeState: 'clean', buildDate: '2024-12-11T17:59:15Z',
  goVersion: 'go1.23.3', compiler: 'gc', platform: `${process.platform}/${process.arch === 'x64' ? 'amd64' : process.arch}`,
});
