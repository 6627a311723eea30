import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { keyGuest } from '../support/bare-guest.ts';

// `tsvisor top`, `pause` and `resume` about a guest that looks at its UART all the time. Each verb is a process of its own.

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
let folder = '';
let kernel = '';
const ends: (() => Promise<unknown>)[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-top-'));
  kernel = join(folder, 'kernel');
  // Each key comes back, and its SMCCC version is asked for.
  const key = 'str w2, [x1]\n ldr x0, =0x80000000\n hvc #0';
  writeFileSync(kernel, keyGuest('mov w2, #0x3e\n str w2, [x1]', key));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const env = (): NodeJS.ProcessEnv => ({ ...process.env, XDG_RUNTIME_DIR: folder });

/** Starts the guest and waits for its prompt. */
async function start(name: string, ...args: string[]) {
  const child = spawn(process.execPath, [CLI, 'run', '-k', kernel, '--engine', 'emu', '--name', name, ...args], {
    env: env(),
  });
  const exit = new Promise<number | null>(resolve => child.on('close', resolve));
  ends.push(() => {
    child.kill('SIGKILL');
    return exit;
  });
  let out = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (b: Buffer) => {
      out += b;
      if (out.includes('>')) resolve();
    });
    child.on('close', () => reject(new Error(`ended: ${out}`)));
  });
  return { child, exit };
}

/** Runs a verb to its end. */
function verb(...args: string[]) {
  const r = spawnSync(process.execPath, [CLI, ...args], { env: env(), encoding: 'utf8', timeout: 60_000 });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

test('top shows which registers are used, how often, and where the time goes', async () => {
  await start('one');
  const once = verb('top', 'one', '--once', '--json', '--interval', '300ms');
  expect(once).toMatchObject({ code: 0, err: '' });
  const sample = JSON.parse(once.out);
  expect(sample).toMatchObject({ name: 'one', engine: 'emu', state: 'running' });
  // The guest does nothing but read UARTFR.
  expect(sample.accesses).toHaveLength(1);
  expect(sample.accesses[0]).toMatchObject({ space: 'memory', device: 'pl011', offset: 0x18, writesPerSecond: 0 });
  expect(sample.accesses[0].readsPerSecond).toBeGreaterThan(0);
  expect(sample.accesses[0].meanNs).toBeGreaterThan(0);
  expect(sample.accesses[0].p99Ns).toBeGreaterThan(0);
  // Four instructions to each read.
  const [{ mips }] = sample.vcpus;
  expect(sample.accesses[0].readsPerSecond).toBeLessThan(mips * 1e6);
  const { guest, exits, eventLoop, idle } = sample.thread;
  expect(guest + exits + eventLoop + idle).toBeCloseTo(1);
  expect(guest).toBeGreaterThan(0);
  expect(exits).toBeGreaterThan(0);
  const table = verb('top', '--once', '--interval', '100ms');
  expect(table).toMatchObject({ code: 0, err: '' });
  expect(table.out).toMatch(/^one: emu, running, \d+ exits\/s\nthread: guest /);
  expect(table.out).toMatch(/^VCPU +STATE +MIPS\n0 +on +\d/m);
  expect(table.out).toMatch(/^pl011 +0x18 +\d+ +0 +/m);
});

test('a VM that is paused does nothing, and goes on', async () => {
  const { child } = await start('two');
  expect(verb('pause')).toEqual({ code: 0, out: '', err: '' });
  expect(verb('pause', 'two')).toMatchObject({ code: 4, err: expect.stringContaining('is paused already') });
  expect(verb('ps').out).toMatch(/^two +\d+ +paused /);
  const idle = JSON.parse(verb('top', '--once', '--json', '--interval', '100ms').out);
  expect(idle).toMatchObject({ state: 'paused', exitsPerSecond: 0, accesses: [], vcpus: [{ mips: 0 }] });
  expect(idle.thread).toMatchObject({ guest: 0, exits: 0 });
  const echo = new Promise(resolve => child.stdout.once('data', (b: Buffer) => resolve(String(b))));
  child.stdin.write('k');
  expect(verb('resume')).toEqual({ code: 0, out: '', err: '' });
  expect(await echo).toBe('k');
  expect(verb('resume')).toMatchObject({ code: 4, err: expect.stringContaining('is not paused') });
});

test('top ends with the VM', async () => {
  const { child, exit } = await start('three');
  const top = spawn(process.execPath, [CLI, 'top', '--json', '--interval', '50ms'], { env: env() });
  let err = '';
  top.stderr.on('data', b => {
    err += b;
  });
  const code = new Promise(resolve => top.on('close', resolve));
  let typed = 0;
  const seen: string[] = [];
  for await (const line of createInterface(top.stdout)) {
    for (const a of JSON.parse(line).accesses) seen.push(`${a.device} 0x${a.offset.toString(16)}`);
    if (typed++ < 3) child.stdin.write('k');
    else if (typed === 4) expect(verb('stop', 'three').code).toBe(0);
  }
  expect({ code: await code, err }).toEqual({ code: 0, err: '' });
  expect(await exit).toBe(0);
  expect(seen).toContain('pl011 0x0');
  expect(seen).toContain('hypercalls 0x80000000');
});

test('there must be such a VM', () => {
  expect(verb('top', 'none', '--once')).toMatchObject({
    code: 4,
    err: expect.stringContaining("no running VM 'none'"),
  });
  expect(verb('top', '--once')).toMatchObject({ code: 4, err: expect.stringContaining('there is no running VM') });
  expect(verb('top', '--interval', 'soon')).toMatchObject({ code: 2 });
});
