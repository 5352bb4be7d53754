// Names, ports, addresses and keys: what each check takes and what it refuses.

import { describe, expect, test } from 'vitest';
import * as names from '../../../control/validation/names.ts';

const cases: [string, (text: string) => string[], string[], string[]][] = [
  ['DNS label', names.checkDnsLabel, ['a', 'a-b', '0', 'a'.repeat(63)], ['', 'A', '-a', 'a-', 'a.b', 'a_b', 'a'.repeat(64), 'a\n', 'é']],
  ['DNS-1035 label', names.checkDns1035Label, ['a', 'a1'], ['1a', 'a-', '', 'A']],
  ['subdomain', names.checkSubdomain, ['a.b-c.d', '1.2'], ['a..b', '.a', 'a.', 'A.b', 'a b', 'a'.repeat(254)]],
  ['wildcard', names.checkWildcard, ['*.a.b'], ['*', '*a.b', 'a.*.b', '*.*.a', '*.A']],
  ['path segment', names.checkPathSegment, ['a:b', 'A B', 'system:node'], ['.', '..', 'a/b', 'a%b']],
  ['qualified name', names.checkQualifiedName, ['a', 'A_b.c-d', 'x.y/z', 'a'.repeat(63)], ['', '/', 'a/', '/a', 'a/b/c', 'X.y/z', '-a', 'a'.repeat(64), '__proto__']],
  ['label value', names.checkLabelValue, ['', 'a', 'A.b_c-d'], ['-a', 'a-', 'a b', 'a'.repeat(64)]],
  ['port name', names.checkPortName, ['http', 'a-b', 'p80'], ['', '80', 'A', 'a--b', '-a', 'a-', 'abcdefghijklmnop']],
  ['IP', names.checkIP, ['10.0.0.1', '::1', 'fd00::1', '::'], ['', '010.0.0.1', '10.0.0', '10.0.0.256', '1.2.3.4/8', ' 10.0.0.1', '::ffff:10.0.0.1', '::ffff:7f00:1', '0:0:0:0:0:ffff:a00:1', 'fe80::1%eth0', '0x7f.0.0.1', '2130706433']],
  ['CIDR', names.checkCidr, ['10.0.0.0/8', 'fd00::/64'], ['10.0.0.0', '10.0.0.0/33', '010.0.0.0/8', '10.0.0.0/08', '/8']],
  ['non-special address', names.checkNonSpecialIP, ['10.0.0.1', '192.0.2.1', 'fd00::1', '1.1.1.1', '255.255.255.254'], ['0.0.0.0', '127.0.0.1', '127.255.0.1', '169.254.169.254', '224.0.0.1', '239.1.1.1', '::', '::1', 'fe80::1', 'FE80::1', 'ff02::1', 'ff0e::1']],
  ['config key', names.checkConfigKey, ['a', 'A.b_c-d', '.x', 'constructor'], ['', 'a b', 'a/b', '.', '..', '..a', '__proto__', 'a'.repeat(254)]],
  ['domain path', names.checkDomainPath, ['a.b/c', 'a.b/c/d'], ['', 'a', 'a/', '/a', 'A.b/c', 'a.b/c d']],
  ['environment name', names.checkEnvName, ['A', 'a.b', '1', 'A B'], ['', 'A=B', 'A\n']],
];

describe.each(cases)('%s', (_name, check, good, bad) => {
  test.each(good)('takes %j', (text) => { expect(check(text)).toEqual([]); });
  test.each(bad)('refuses %j', (text) => { expect(check(text).length).toBeGreaterThan(0); });
});

test('ports are 1 to 65535', () => {
  for (const port of [1, 65535]) expect(names.checkPortNumber(port)).toEqual([]);
  for (const port of [0, -1, 65536]) expect(names.checkPortNumber(port)).toEqual(['must be between 1 and 65535, inclusive']);
});
