import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CommandRig } from '../support/command-rig.ts';

// Verbs that ask a running VM, over the fake machine: each is a process of its own.

const CLI = new URL('./fixtures/cli-fake.mjs', import.meta.url);
let rig: CommandRig;
let folder = '';
let kernel = '';

beforeEach(() => {
  rig = new CommandRig(CLI, 'guest');
  ({ folder, kernel } = rig);
});
afterEach(() => rig[Symbol.asyncDispose]());

/** Starts a VM and waits for its prompt. */
const start = (...args: string[]) => rig.start('fake# ', ...args);
const verb = (...args: string[]) => rig.verb(...args);

test('ps, lspci, plug, unplug and stop ask the VM that runs', async () => {
  expect(verb('ps')).toMatchObject({ code: 0, out: '' });
  expect(verb('lspci')).toMatchObject({ code: 4, err: expect.stringContaining('there is no running VM') });
  const { exit } = await start('--name', 'one');
  expect(verb('ps').out).toMatch(/^one +\d+ +running +emu +1 vCPU +512 MiB/);
  expect(JSON.parse(verb('ps', '--json').out)).toMatchObject({ name: 'one', state: 'running' });
  const disk = join(folder, 'disk.img');
  expect(verb('plug', '--disk', disk)).toMatchObject({ code: 0, out: 'disk0\n' });
  expect(verb('plug', '--disk', disk)).toMatchObject({ code: 0, out: 'disk1\n' });
  expect(verb('lspci').out).toContain(
    [
      '   00:01.0 disk0 [1af4:1042] class 018000',
      '           decode: I/O- Mem+ BusMaster+ DisINTx+',
      '           BAR 0: mem32, 4 KiB at 0x10000000',
      '           BAR 4: mem64 prefetchable, 16 KiB at 0x8000000000 (dead)',
      '           ROM: mem32, 1 MiB at not assigned',
      '           capabilities: MSI-X@40 AER@100',
      '           MSI-X enabled: 2 vectors, 1 unmasked, 1 pending',
      '           INTA',
    ].join('\n'),
  );
  expect(verb('unplug', 'disk0')).toMatchObject({ code: 0 });
  expect(verb('lspci', '--json').out).not.toContain('disk0');
  expect(verb('plug')).toMatchObject({ code: 2, err: expect.stringContaining('give one device') });
  expect(verb('plug', '--rng', '--balloon').code).toBe(2);
  expect(verb('stop')).toMatchObject({ code: 0 });
  expect(await exit).toBe(0);
  expect(readdirSync(join(folder, 'tsvisor'))).toEqual([]);
});

test('PIN-5: pins tells who holds what memory of the VM that runs, and draws it', async () => {
  await start('--name', 'a&b', '--pin-limit', '256M', '-m', '512M');
  expect(verb('pins')).toEqual({
    code: 0,
    err: '',
    out: [
      'OWNER          ADDRESS      SIZE  KIND   FOR    AGE',
      'disk0 queue 0  0x40001000  4 KiB  short  write  12 ms',
      'edu0 <DMA>     0x48000800  1 MiB  long   read   2.0 s',
      'pinned: 1 MiB; long-term of that: 1 MiB of 256 MiB',
      'pages so far: 1000 pinned, 742 released',
      'discards: 3 pages done, 2 waited for a pin (1 of them cancelled), 4 left to a pin; 5 pins revoked',
      '',
    ].join('\n'),
  });
  const report = JSON.parse(verb('pins', 'a&b', '--json').out);
  expect(report).toMatchObject({ name: 'a&b', pinLimitBytes: 2 ** 28, stats: { current: 258 }, omitted: 0 });
  expect(report.pins.map((p: { base: number }) => p.base)).toEqual([0x4000_1000, 0x4800_0800]);
  expect(report).not.toHaveProperty('map');

  const file = join(folder, 'pins.svg');
  expect(verb('pins', '--svg', file)).toMatchObject({ code: 0, out: expect.stringContaining('edu0 <DMA>') });
  const svg = readFileSync(file, 'utf8');
  expect(svg).toContain('Pinned memory of a&amp;b');
  expect(svg).toContain('edu0 &lt;DMA&gt;: 1 MiB');
  expect(svg).toContain('0x40000000, of 512 pages: 1 short, 1 write');
  expect(svg).toContain('0x48000000, of 512 pages: 257 long');
  const nowhere = verb('pins', '--svg', join(folder, 'no', 'such', 'folder.svg'));
  expect(nowhere).toMatchObject({ code: 2, out: '', err: expect.stringContaining('ENOENT') });
});

test('several VMs are told apart by name, also two that want the same one; a dead socket is not in the way', async () => {
  const first = await start('--name', 'same');
  await start('--name', 'same');
  const names = verb('ps')
    .out.split('\n')
    .flatMap(l => /^\S+/.exec(l)?.[0] ?? []);
  expect(names).toHaveLength(2);
  expect(names).toContain('same');
  expect(verb('lspci')).toMatchObject({ code: 4, err: expect.stringContaining('several running VMs') });
  expect(verb('lspci', 'same').out).toContain('host-bridge');
  first.child.kill('SIGKILL');
  await first.exit;
  expect(existsSync(join(folder, 'tsvisor', 'same.sock'))).toBe(true);
  expect(verb('lspci', 'same').code).toBe(4);
  await start('--name', 'same');
  expect(verb('lspci', 'same').code).toBe(0);
});

test('the socket is for its user alone, and rubbish on it harms nobody', async () => {
  await start('--name', 'x/../y');
  const path = join(folder, 'tsvisor', 'x-..-y.sock');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, 'tsvisor')).mode & 0o777).toBe(0o700);
  const ask = (text: string) =>
    new Promise<string>(resolve => {
      let answer = '';
      const socket = connect(path, () => socket.write(text));
      socket.on('data', b => {
        answer += b;
        if (answer.endsWith('\n')) socket.end();
      });
      socket.on('close', () => resolve(answer));
      socket.on('error', () => undefined);
    });
  expect(await ask('nonsense\n')).toContain('ERR_USAGE');
  expect(await ask('{"verb":"fly"}\n')).toContain('ERR_USAGE');
  expect(await ask('{"verb":"plug","device":{"disk":5}}\n')).toContain('ERR_USAGE');
  expect(await ask('x'.repeat(100_000))).toBe('');
  expect(verb('lspci').code).toBe(0);
});

test('a folder that others may write to is not used; the VM says so and runs', async () => {
  mkdirSync(join(folder, 'tsvisor'));
  chmodSync(join(folder, 'tsvisor'), 0o777);
  const r = spawnSync(process.execPath, [rig.cli, 'run', '-k', kernel], {
    env: rig.env,
    encoding: 'utf8',
    input: 'poweroff\n',
  });
  expect(r.status).toBe(0);
  expect(r.stderr).toContain('others may write to it');
  expect(r.stderr).toContain('XDG_RUNTIME_DIR');
  expect(readdirSync(join(folder, 'tsvisor'))).toEqual([]);
});
