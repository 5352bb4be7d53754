// Rules of Pod volumes: a unique name and exactly one source with its required parts. Called by `pod`.
// Source: kubernetes pkg/apis/core/validation ValidateVolumes, validateVolumeSource.

import type { Fields } from './fields.ts';
import { maybePart, number, part, parts, text } from './fields.ts';
import { checkConfigKey, checkDnsLabel } from './names.ts';
import type { Problems } from './problems.ts';

const hostPathTypes = ['', 'BlockDevice', 'CharDevice', 'Directory', 'DirectoryOrCreate', 'File', 'FileOrCreate', 'Socket'];
/** Source → its field that must be set, where there is one. */
const requiredFields: Readonly<Record<string, string>> = {
  hostPath: 'path', secret: 'secretName', configMap: 'name', persistentVolumeClaim: 'claimName', csi: 'driver', iscsi: 'targetPortal', gcePersistentDisk: 'pdName', awsElasticBlockStore: 'volumeID', cephfs: 'monitors',
};

/** Checks the volumes and returns their names. */
export function validateVolumes(volumes: readonly Fields[], path: string, problems: Problems): Set<string> {
  const names = new Set<string>();
  volumes.forEach((volume, index) => {
    const at = `${path}[${index}]`;
    const name = text(volume, 'name');
    if (name === '') problems.required(`${at}.name`); else problems.invalidEach(`${at}.name`, name, checkDnsLabel(name));
    if (names.has(name)) problems.duplicate(`${at}.name`, name);
    names.add(name);
    const sources = Object.keys(volume).filter((field) => field !== 'name');
    if (sources.length === 0) problems.required(at, 'must specify a volume type');
    sources.slice(1).forEach((source) => problems.forbidden(`${at}.${source}`, 'may not specify more than 1 volume type'));
    for (const source of sources) validateSource(source, part(volume, source), `${at}.${source}`, problems);
  });
  return names;
}

function validateSource(kind: string, source: Fields, path: string, problems: Problems): void {
  const field = requiredFields[kind];
  if (field !== undefined && (source[field] === undefined || source[field] === '')) problems.required(`${path}.${field}`);
  const mode = number(source, 'defaultMode');
  if (mode !== undefined && (mode < 0 || mode > 0o777)) problems.invalid(`${path}.defaultMode`, mode, 'must be a number between 0 and 0777 (octal), both inclusive');
  if (kind === 'hostPath') {
    if (text(source, 'path').split('/').includes('..')) problems.invalid(`${path}.path`, text(source, 'path'), "must not contain '..'");
    if (!hostPathTypes.includes(text(source, 'type'))) problems.notSupported(`${path}.type`, text(source, 'type'), hostPathTypes);
  }
  if (kind === 'nfs') {
    for (const name of ['server', 'path']) if (text(source, name) === '') problems.required(`${path}.${name}`);
    if (text(source, 'path') !== '' && !text(source, 'path').startsWith('/')) problems.invalid(`${path}.path`, text(source, 'path'), 'must be an absolute path');
  }
  if (kind === 'secret' || kind === 'configMap') parts(source, 'items').forEach((item, index) => validateItem(item, `${path}.items[${index}]`, problems));
  if (kind === 'projected') parts(source, 'sources').forEach((entry, index) => {
    const kinds = Object.keys(entry).filter((name) => maybePart(entry, name) !== undefined);
    kinds.slice(1).forEach((name) => problems.forbidden(`${path}.sources[${index}].${name}`, 'may not specify more than 1 volume type'));
  });
}

function validateItem(item: Fields, path: string, problems: Problems): void {
  const key = text(item, 'key');
  const place = text(item, 'path');
  if (key === '') problems.required(`${path}.key`); else problems.invalidEach(`${path}.key`, key, checkConfigKey(key));
  if (place === '') problems.required(`${path}.path`);
  else if (place.startsWith('/')) problems.invalid(`${path}.path`, place, 'must be a relative path');
  else if (place.split('/').includes('..')) problems.invalid(`${path}.path`, place, "must not contain '..'");
}
