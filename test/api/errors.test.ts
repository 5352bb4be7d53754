// Rules of the error table: status, reason and retry follow from the code.

import { expect, test } from 'vitest';
import { errorTable, fromStatus, invalid, isConflict, NetloomError, toStatus } from '../../api/errors.ts';

test('every code turns into a Status with its HTTP code and reason', () => {
  for (const [code, row] of Object.entries(errorTable)) {
    const status = toStatus(new NetloomError(code as keyof typeof errorTable, 'x'));
    expect(status).toMatchObject({ kind: 'Status', status: 'Failure', code: row.httpStatus, reason: row.reason, message: 'x' });
  }
});

test('an unknown error becomes a 500 that shows nothing of the inside', () => {
  const status = toStatus(new Error('secret /path'));
  expect(status.code).toBe(500);
  expect(JSON.stringify(status)).not.toContain('secret');
});

test('a Status from a server becomes the same code again', () => {
  expect(isConflict(fromStatus({ reason: 'Conflict', code: 409, message: 'm' }, 409))).toBe(true);
  expect(fromStatus({}, 404).code).toBe('NotFound');
});

test('field causes are worded as the Kubernetes API server words them', () => {
  const one = invalid('Service', '', 'web', [{ reason: 'FieldValueInvalid', field: 'spec.ports', message: 'Required value' }]);
  expect(one.message).toBe('Service "web" is invalid: spec.ports: Required value');
  const two = invalid('Ingress', 'networking.k8s.io', 'a', [{ field: 'a', message: 'x' }, { field: 'b', message: 'y' }]);
  expect(two.message).toBe('Ingress.networking.k8s.io "a" is invalid: [a: x, b: y]');
});
