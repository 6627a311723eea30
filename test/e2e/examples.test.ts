import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { debian } from './debian.ts';

// The examples' own tests, run as their first lines say.

const root = fileURLToPath(new URL('../..', import.meta.url));

test('examples/doorbell: a guest uses the device, as a module and as closures', async ctx => {
  const image = await debian();
  if (typeof image === 'string') ctx.skip(image);
  const args = ['--import', 'tsx', '--test', 'examples/doorbell/test.ts'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    timeout: 500_000,
  });
  expect(status, `${stdout}${stderr}`).toBe(0);
  expect(stdout).toMatch(/^# pass 2$/m);
});
