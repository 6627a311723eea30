import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { installed } from '../support/debs.ts';
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

test('examples/chrony.ts: a guest follows the clock of the host', async ctx => {
  const image = await debian();
  if (typeof image === 'string') ctx.skip(image);
  if (!installed('apt-get') || !installed('dpkg-deb')) ctx.skip('there is no apt or no dpkg to get chrony with');
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'examples/chrony.ts'], {
    cwd: root,
    encoding: 'utf8',
    timeout: 500_000,
  });
  const unreachable = /^E: (Failed to fetch|Unable to locate package).*/m.exec(stderr);
  if (unreachable) {
    console.log(`skipped: examples/chrony.ts: ${unreachable[0]}`);
    ctx.skip(unreachable[0]);
  }
  expect(status, `${stdout}${stderr}`).toBe(0);
  expect(stdout).toMatch(/^#\* PHC0 /m);
  const ahead = [...stdout.matchAll(/^host \d+\.\d{9} {2}guest \d+\.\d{9} {2}host ahead by (-?\d+) ns\r$/gm)];
  expect(ahead).toHaveLength(5);
});
