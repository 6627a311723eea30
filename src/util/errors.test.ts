import { expect, test } from 'vitest';
import { VmError } from './errors.ts';

test('an error of another copy of the class is one, too', async () => {
  const copy = './errors.ts?copy';
  const other = (await import(copy)) as { VmError: typeof VmError };
  expect(other.VmError).not.toBe(VmError);
  const error: unknown = new other.VmError('ERR_DEVICE', 'it failed', { hint: 'mend it' });
  expect(error instanceof VmError).toBe(true);
  expect(error instanceof Error).toBe(true);
});

test('other values are none', () => {
  const like = { name: 'VmError', code: 'ERR_DEVICE', message: '', hint: undefined, details: {} };
  for (const value of [new Error('x'), like, undefined, null, 'VmError']) expect(value instanceof VmError).toBe(false);
});

test('what marks it is not printed with it', async () => {
  const { inspect } = await import('node:util');
  expect(inspect(new VmError('ERR_DEVICE', 'it failed'))).not.toContain('Symbol');
});
