// Custom kinds through real kubectl: install, use, scale, remove.

import { afterAll, beforeAll, describe } from 'vitest';
import { bind, startConformanceWorld } from './rows.ts';
import type { World } from '../server/harness.ts';

let world: World;
beforeAll(async () => { world = await startConformanceWorld(); });
afterAll(() => world.stop());
const { rows } = bind(() => world);

describe('custom kinds', () => {
  const crd = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.crew, statusReplicasPath: .status.crew}}
    additionalPrinterColumns: [{name: Length, type: integer, jsonPath: .spec.length}, {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [length]
            properties: {length: {type: integer, description: metres from bow to stern, minimum: 1}, crew: {type: integer}, color: {type: string, default: white}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
`;
  const boat = 'apiVersion: example.com/v1\nkind: Boat\nmetadata: {name: b}\nspec: {length: 7}\n';
  rows('install, use by short name, explain, scale, status, columns, remove', [
    ['apply -f -', 'created', crd], ['wait --for=condition=Established crd/boats.example.com --timeout=5s', 'condition met'], ['apply -f -', 'boat.example.com/b created', boat], ['get bt', /NAME +LENGTH +READY\nb +7/],
    ['get all', 'boat.example.com/b'], ['explain boat.spec.length', 'metres from bow to stern'], ['scale boat b --replicas=3', 'scaled'], [`patch boat b --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'`, 'patched'],
    ['get bt b', /b +7 +True/], ['wait --for=condition=Ready boat/b --timeout=5s', 'met'], ['!apply -f -', /spec\.length: Invalid value: 0/, boat.replace('length: 7', 'length: 0')], ['!apply -f -', 'unknown field', boat.replace('length: 7', 'length: 7, sails: 2')],
    ['get boat b -o jsonpath={.spec.color}', 'white'], ['apply --server-side -f -', 'serverside-applied', boat], ['delete crd boats.example.com', 'deleted'], ['!get boats', /NotFound|resource type/],
  ]);
});

describe('definitions', () => {
  const definition = (plural: string, kind: string, short: string, more = ''): string => `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ${plural}.names.example}
spec:
  group: names.example
  scope: Namespaced
  names: {plural: ${plural}, singular: ${kind.toLowerCase()}, kind: ${kind}, shortNames: [${short}]}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object${more}}}}]
`;
  const conditions = "get crd ferries.names.example -o jsonpath='{range .status.conditions[*]}{.type}={.status}:{.reason} {end}'";
  rows('a name that is taken is not accepted and not served, until it is free', [
    ['apply -f -', 'created', definition('rafts', 'Raft', 'rf')], ['apply -f -', 'created', definition('ferries', 'Ferry', 'rf')],
    [conditions, 'NamesAccepted=False:ShortNamesConflict Established=False:NotAccepted'], ['describe crd ferries.names.example', '"rf" is already in use'],
    ['!get ferries', 'doesn\'t have a resource type'], ['get rf', 'No resources found'], ['delete crd rafts.names.example', 'deleted'],
    ['wait --for=condition=Established crd/ferries.names.example --timeout=5s', 'condition met'], ['get ferries', 'No resources found'], ['get rf', 'No resources found'], [conditions, 'NamesAccepted=True:NoConflicts'],
  ]);
  rows('what is served stays served when a later change asks for a taken name', [
    ['apply -f -', 'created', definition('rafts', 'Raft', 'rt')], ['apply -f -', 'configured', definition('ferries', 'Ferry', 'rt')],
    [conditions, 'NamesAccepted=False:ShortNamesConflict Established=True'], ['get ferries', 'No resources found'], ['api-resources --api-group=names.example', /ferries +rf +names/], ['!apply -f -', 'kind and listKind may not be the same', definition('barges', 'Barge', 'bg').replace('kind: Barge,', 'kind: Barge, listKind: Barge,')],
    ['apply -f -', 'created', definition('barges', 'Raft', 'bg')], ['get crd barges.names.example -o yaml', 'ListKindConflict'], ['delete crd barges.names.example rafts.names.example ferries.names.example', 'deleted'],
  ]);
  rows('a rule that cannot be evaluated is named in a warning', [
    ['apply -f -', /Warning: spec\.versions\[0\].*not enforced: url\(self\.s\)/, definition('skiffs', 'Skiff', 'sk', ', properties: {s: {type: string}}, x-kubernetes-validations: [{rule: \'url(self.s).getHost() == "x"\'}]')],
    ['apply -f -', /^customresourcedefinition\S+ created\n$/, definition('canoes', 'Canoe', 'cn', ', properties: {n: {type: integer}}, x-kubernetes-validations: [{rule: \'self.n > 1\'}]')],
  ]);
});
