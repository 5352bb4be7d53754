// A listener just good enough for real kubectl: discovery and OpenAPI from the schemas under test, reads from a map of prepared
// objects, and a record of every write as it came over the wire. Plain HTTP on a free loopback port.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apiVersionOf, kindsOf, packageGroups, packages } from '../../../control/schema/kinds.ts';
import { openApiDocument, openApiIndex, openApiV2Protobuf } from '../../../control/schema/openapi.ts';

export interface WireRequest { method: string; path: string; type: string; body: Buffer }
export interface FakeApi {
  readonly url: string;
  readonly writes: WireRequest[];
  /** URL path → object that GET answers with. */
  readonly objects: Map<string, unknown>;
  /** Changes a document before it is sent. */
  editDocument: (text: string) => string;
  kubectl(args: string[], input?: string): Promise<{ code: number; stdout: string; stderr: string }>;
  close(): Promise<void>;
}

/** Starts the listener; `minor` is the version that it reports, which picks the kubectl that runs. */
export async function startFakeApi(minor = '32'): Promise<FakeApi> {
  const home = mkdtempSync(join(tmpdir(), 'netloom-kubectl-'));
  const writes: WireRequest[] = [];
  const objects = new Map<string, unknown>();
  const api: { edit: (text: string) => string } = { edit: (text) => text };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = new URL(request.url ?? '/', 'http://x').pathname;
      const method = request.method ?? '';
      const body = Buffer.concat(chunks);
      const send = (code: number, value: unknown): void => { response.writeHead(code, { 'content-type': 'application/json' }).end(typeof value === 'string' ? value : JSON.stringify(value)); };
      if (method !== 'GET') {
        writes.push({ method, path, type: request.headers['content-type'] ?? '', body });
        const object = objects.get(path);
        if (object !== undefined) { send(200, object); return; }
        // What was sent in JSON is echoed; a protobuf body gets a stub of the kind.
        send(201, body[0] === 0x7b ? body.toString() : { apiVersion: 'v1', kind: 'Status', metadata: {}, status: 'Success' });
        return;
      }
      if (path === '/version') { send(200, { major: '1', minor, gitVersion: `v1.${minor}.0`, gitCommit: '', gitTreeState: '', buildDate: '', goVersion: '', compiler: '', platform: '' }); return; }
      if (path === '/openapi/v2') { response.writeHead(200, { 'content-type': 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf' }).end(openApiV2Protobuf); return; }
      if (path.startsWith('/openapi/v3/')) {
        const document = openApiDocument(path.slice('/openapi/v3/'.length));
        send(document === undefined ? 404 : 200, document === undefined ? {} : api.edit(document.json.toString()));
        return;
      }
      const known = path === '/openapi/v3' ? openApiIndex() : discovery(path) ?? objects.get(path);
      if (known === undefined) send(404, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason: 'NotFound', code: 404, message: `${path} not found` });
      else send(200, known);
    });
  });
  await new Promise<void>((done) => { server.listen(0, '127.0.0.1', done); });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url, writes, objects,
    get editDocument() { return api.edit; },
    set editDocument(edit: (text: string) => string) { api.edit = edit; },
    kubectl: (args, input) => new Promise((done) => {
      const child = execFile('kubectl', ['--server', url, '--cache-dir', join(home, 'cache'), ...args], { env: { PATH: process.env['PATH'] ?? '', HOME: home, KUBECONFIG: join(home, 'none') }, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
        done({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
      });
      child.stdin?.end(input ?? '');
    }),
    close: async () => {
      rmSync(home, { recursive: true, force: true });
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function discovery(path: string): unknown {
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  const named = packages.filter((name) => name !== 'core/v1' && name !== 'meta/v1');
  if (path === '/apis') {
    const groups = [...new Set(named.map((name) => packageGroups[name] ?? ''))].map((name) => {
      const versions = named.filter((one) => packageGroups[one] === name).map((one) => ({ groupVersion: apiVersionOf(one), version: one.slice(one.indexOf('/') + 1) }));
      return { name, versions, preferredVersion: versions[0] };
    });
    return { kind: 'APIGroupList', apiVersion: 'v1', groups };
  }
  const packageName = packages.find((name) => path === (name === 'core/v1' ? '/api/v1' : `/apis/${apiVersionOf(name)}`));
  if (packageName === undefined) return undefined;
  const resources = kindsOf(packageName).filter((row) => !['Binding', 'Scale', 'Eviction', 'TokenRequest'].includes(row.kind)).map((row) => ({
    name: row.plural, singularName: row.kind.toLowerCase(), namespaced: row.isNamespaced, kind: row.kind, verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
  }));
  const tokens = packageName === 'core/v1' ? [{ name: 'serviceaccounts/token', singularName: '', namespaced: true, kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] }] : [];
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: apiVersionOf(packageName), resources: [...resources, ...tokens] };
}
