// The `paths` part of OpenAPI v3 documents: the operations of each kind, with the facts that kubectl reads from them
// (x-kubernetes-group-version-kind, the query parameters of PATCH, the patch media types). Called by `openapi`. Pure.
// Source: cli-runtime query_param_verifier_v3.go, kubectl apply/patcher.go (what is read).

/** A kind as a document needs it. `hasStrategicMerge` is false for custom kinds. */
export interface PathKind {
  readonly group: string; readonly version: string; readonly kind: string; readonly plural: string; readonly isNamespaced: boolean;
  readonly sub: readonly string[]; readonly isCreateOnly: boolean; readonly schemaName: string; readonly hasStrategicMerge: boolean;
}

type Json = Record<string, unknown>;
const writeParameters = ['pretty', 'dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({ name, in: 'query', schema: { type: name === 'force' ? 'boolean' : 'string', uniqueItems: true } }));

/** All paths of the kinds, sorted. Kinds that are only bodies of subresources have none. */
export function openApiPaths(kinds: readonly PathKind[]): Json {
  const paths: Json = {};
  for (const kind of kinds) {
    const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
    const base = `${root}${kind.isNamespaced ? '/namespaces/{namespace}' : ''}/${kind.plural}`;
    if (kind.isCreateOnly) { paths[base] = { post: operation(kind, 'post', 'create') }; continue; }
    paths[base] = { get: operation(kind, 'list', 'list'), post: operation(kind, 'post', 'create') };
    const item = { get: operation(kind, 'get', 'read'), put: operation(kind, 'put', 'replace'), patch: patchOperation(kind), delete: operation(kind, 'delete', 'delete') };
    paths[`${base}/{name}`] = item;
    for (const sub of kind.sub) paths[`${base}/{name}/${sub}`] = { get: operation(kind, 'get', `read ${sub}`), put: operation(kind, 'put', `replace ${sub}`), patch: patchOperation(kind) };
  }
  return Object.fromEntries(Object.entries(paths).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function gvk(kind: PathKind): Json { return { group: kind.group, version: kind.version, kind: kind.kind }; }

function operation(kind: PathKind, action: string, verb: string): Json {
  const schema = { $ref: `#/components/schemas/${kind.schemaName}` };
  const out: Json = { description: `${verb} ${kind.kind}`, responses: { 200: { description: 'OK', content: { 'application/json': { schema: action === 'list' ? { type: 'object' } : schema } } } } };
  if (action === 'post' || action === 'put') {
    out['requestBody'] = { content: { '*/*': { schema } }, required: true };
    out['parameters'] = writeParameters.slice(0, 4);
  }
  return { ...out, 'x-kubernetes-action': action, 'x-kubernetes-group-version-kind': gvk(kind) };
}

function patchOperation(kind: PathKind): Json {
  const types = ['application/apply-patch+yaml', 'application/json-patch+json', 'application/merge-patch+json', ...(kind.hasStrategicMerge ? ['application/strategic-merge-patch+json'] : [])];
  const schema = { type: 'object' };
  return {
    description: `partially update ${kind.kind}`, parameters: writeParameters,
    requestBody: { content: Object.fromEntries(types.map((type) => [type, { schema }])), required: true },
    responses: { 200: { description: 'OK', content: { 'application/json': { schema: { $ref: `#/components/schemas/${kind.schemaName}` } } } } },
    'x-kubernetes-action': 'patch', 'x-kubernetes-group-version-kind': gvk(kind),
  };
}
