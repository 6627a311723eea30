import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { Vm, type VmOptions } from 'tsvisor';
import { beforeAll, expect, test } from 'vitest';
import type { Image } from '../../src/images/index.ts';
import { debian } from './debian.ts';

// Debian's unmodified kernel on the emulator, by the library and by the command.

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const PARAMS = 'earlycon console=ttyAMA0 panic=-1';
const PROMPT = '~ # ';
/** Generous: the machine that runs this may be busy with other tests. */
const BOOT = '180s';

let image: Image | string = '';
beforeAll(async () => {
  image = await debian();
});

/** A test that needs Debian's kernel. */
function withDebian(name: string, body: (image: Image) => Promise<void>): void {
  test(name, async ctx => {
    if (typeof image === 'string') ctx.skip(image);
    else await body(image);
  });
}

function create({ kernel, initrd }: Image, options: Partial<VmOptions> = {}): Promise<Vm> {
  return Vm.create({ kernel, initrd, ...options });
}

for (const cpus of [1, 2, 4]) {
  withDebian(`boots with ${cpus} vCPUs to a shell, runs a command and powers off`, async i => {
    await using vm = await create(i, { cpus });
    await vm.start();
    await vm.console.waitFor(PROMPT, { timeout: BOOT });
    vm.console.write('echo "$(uname -m) $(nproc)"\n');
    expect((await vm.console.waitFor(/\naarch64 \d+/, { timeout: '60s' })).text).toBe(`\naarch64 ${cpus}`);
    vm.console.write('poweroff\n');
    const exit = await vm.exited;
    expect(exit).toMatchObject({ reason: 'shutdown', error: undefined });
    expect(exit.info!.instructions).toBeGreaterThan(1e7);
    expect(vm.console.text).not.toMatch(/\b(Oops|BUG|WARNING: CPU|Call trace)\b/);
  });
}

withDebian('a GICv2 machine boots too', async i => {
  await using vm = await create(i, { gic: 2 });
  await vm.start();
  await vm.console.waitFor(PROMPT, { timeout: BOOT });
  vm.console.write('poweroff\n');
  expect((await vm.exited).reason).toBe('shutdown');
});

withDebian('an idle guest uses less than 3 % of a core', async i => {
  await using vm = await create(i);
  await vm.start();
  await vm.console.waitFor(PROMPT, { timeout: BOOT });
  await new Promise(r => setTimeout(r, 3000));
  const cpu = process.cpuUsage();
  const t = performance.now();
  await new Promise(r => setTimeout(r, 4000));
  const { user, system } = process.cpuUsage(cpu);
  expect((user + system) / 1000 / (performance.now() - t)).toBeLessThan(0.03);
});

withDebian('a panic is a crash, and says which', async i => {
  await using vm = await create(i);
  await vm.start();
  await vm.console.waitFor(PROMPT, { timeout: BOOT });
  vm.console.write('echo c > /proc/sysrq-trigger\n');
  expect(await vm.exited).toMatchObject({
    reason: 'crash',
    detail: 'Kernel panic - not syncing: sysrq triggered crash',
    error: undefined,
  });
});

withDebian('a reboot is a reset', async i => {
  await using vm = await create(i);
  await vm.start();
  await vm.console.waitFor(PROMPT, { timeout: BOOT });
  vm.console.write('reboot\n');
  expect((await vm.exited).reason).toBe('reset');
});

withDebian('two deterministic runs end with the same memory, a third with another seed does not', async i => {
  const run = async (seed: number) => {
    await using vm = await create(i, {
      clock: 'virtual',
      cpus: 2,
      seed,
      memory: '256M',
      params: `${PARAMS} tsvisor.exec="head -c 8 /dev/urandom | od -An -tx1"`,
    });
    await vm.start();
    const exit = await vm.exited;
    expect(exit.reason).toBe('shutdown');
    return { text: vm.console.text, hash: exit.memoryHash, instructions: exit.info!.instructions };
  };
  const first = await run(1);
  expect(first.hash).toMatch(/^[0-9a-f]{64}$/);
  expect(first.text).toMatch(/( [0-9a-f]{2}){8}\r\n/);
  expect(await run(1)).toEqual(first);
  expect((await run(2)).hash).not.toBe(first.hash);
});

withDebian('the command in a pipe: input that is there before the kernel is, exit code 0', async i => {
  const child = spawn(process.execPath, [MAIN, 'run', '-k', i.kernel, '-i', i.initrd, '-c', '2'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (b: Buffer) => {
    out += b;
  });
  child.stderr.on('data', (b: Buffer) => {
    err += b;
  });
  child.stdin.end('echo $((6 * 7))-and-out\npoweroff\n');
  const [code] = await once(child, 'close');
  expect(code).toBe(0);
  expect(out).toContain('\n42-and-out\r\n');
  expect(err).toMatch(/^engine: emu \(.*\)\n$/);
});

withDebian('guests that cannot be loaded are refused in words', async ({ kernel, initrd }) => {
  const image = new Uint8Array(readFileSync(kernel));
  const x86 = new Uint8Array(4096);
  x86.set([0x4d, 0x5a]);
  x86.set([0x55, 0xaa], 0x1fe);
  x86.set(Buffer.from('HdrS'), 0x202);
  const gzip = new Uint8Array(gzipSync(image, { level: 1 }));
  const cases: [string, VmOptions, string][] = [
    ['text', { kernel: Buffer.from('#!/bin/sh\n'.repeat(100)) }, 'ERR_NOT_A_KERNEL'],
    ['nothing', { kernel: new Uint8Array() }, 'ERR_NOT_A_KERNEL'],
    ['x86', { kernel: x86, machine: 'arm-virt' }, 'ERR_WRONG_ARCHITECTURE'],
    ['x86 on the emulator', { kernel: x86, engine: 'emu' }, 'ERR_ENGINE_UNAVAILABLE'],
    ['half a gzip', { kernel: gzip.slice(0, gzip.length >> 1) }, 'ERR_KERNEL_CORRUPT'],
    ['too large an initrd', { kernel, initrd: new Uint8Array(120 * 2 ** 20), memory: '128M' }, 'ERR_MEMORY_TOO_SMALL'],
    ['little RAM', { kernel, initrd, memory: '48M' }, 'ERR_MEMORY_TOO_SMALL'],
  ];
  for (const [what, options, code] of cases) {
    const e = await Vm.create(options).then(
      vm => vm.kill().then(() => 'was accepted'),
      (x: unknown) => x,
    );
    expect(e, what).toMatchObject({
      name: 'VmError',
      code,
      hint: expect.stringMatching(/./),
    });
  }
});
