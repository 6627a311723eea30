import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { keyGuest } from '../support/bare-guest.ts';
import { CommandRig } from '../support/command-rig.ts';

// `tsvisor top`, `pause` and `resume` about a guest that looks at its UART all the time. Each verb is a process of its own.

const CLI = new URL('../../dist/cli/main.js', import.meta.url);
let rig: CommandRig;

beforeAll(() => {
  // Each key comes back, and its SMCCC version is asked for.
  const key = 'str w2, [x1]\n ldr x0, =0x80000000\n hvc #0';
  rig = new CommandRig(CLI, keyGuest('mov w2, #0x3e\n str w2, [x1]', key));
});
afterAll(() => rig[Symbol.asyncDispose]());
afterEach(() => rig.endAll());

/** Starts the guest and waits for its prompt. */
const start = (name: string) => rig.start('>', '--engine', 'emu', '--name', name);
const verb = (...args: string[]) => rig.verb(...args);

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
  const top = spawn(process.execPath, [rig.cli, 'top', '--json', '--interval', '50ms'], { env: rig.env });
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
