import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SaxesParser } from 'saxes';
import { Vm } from 'tsvisor';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { keyGuest } from '../support/bare-guest.ts';
import { CommandRig } from '../support/command-rig.ts';

// `vm.clock()`, and `tsvisor clock` about a guest that asks for the time at each key. Each verb is a process of its own.

const CLI = new URL('../../dist/cli/main.js', import.meta.url);
let rig: CommandRig;
let kernel = '';

beforeAll(() => {
  // The virtual counter, then a counter that is none, which is no answer (specification of ptp, ARM-3); then the key comes back.
  const ask = (counter: number) => `ldr x0, =0x86000001\n mov x1, #${counter}\n hvc #0`;
  rig = new CommandRig(CLI, keyGuest('', `mov w9, w2\n ${ask(0)}\n ${ask(2)}\n ldr x1, =0x09000000\n str w9, [x1]`));
  kernel = rig.kernel;
});
afterAll(() => rig[Symbol.asyncDispose]());
afterEach(() => rig.endAll());

/** Starts the guest and waits for its prompt. */
async function start(name: string, ...args: string[]) {
  const { child, exit, said } = await rig.start('>', '--engine', 'emu', '--name', name, ...args);
  /** Types keys, and waits for the last of them to come back. */
  const type = (keys: string) => {
    child.stdin.write(keys);
    return said(keys);
  };
  return { exit, type };
}

const verb = (...args: string[]) => rig.verb(...args);

const samplesOf = (out: string) =>
  out
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));

test('EMU-X6: a sample has both clocks of one moment, and the offset of a pause', async () => {
  await using vm = await Vm.create({ kernel, engine: 'emu', name: 'lib' });
  await vm.start();
  await vm.console.waitFor('>');
  const before = BigInt(Date.now()) * 1_000_000n;
  const first = await vm.clock();
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  expect(first).toMatchObject({ name: 'lib', engine: 'emu', state: 'running', mode: 'host' });
  expect(first.ptp).toEqual({ answeredBy: 'tsvisor', calls: 0 });
  const error = BigInt(Math.ceil(first.errorNs));
  expect(first.wallNs + error).toBeGreaterThanOrEqual(before);
  expect(first.wallNs - error).toBeLessThanOrEqual(after);
  expect(first.offsetErrorNs).toBeGreaterThanOrEqual(first.errorNs);
  // The clocks of this host run alike, or nothing here could be said.
  expect(Math.abs(first.offsetNs)).toBeLessThanOrEqual(first.offsetErrorNs + 1e6);

  await vm.pause();
  const paused = await vm.clock();
  await new Promise(resolve => setTimeout(resolve, 50));
  const later = await vm.clock();
  await vm.resume();
  const resumed = await vm.clock();
  expect(paused.state).toBe('paused');
  // Its time stands, the wall clock goes on: all of what that has gone is offset.
  expect(later.timeNs).toBe(paused.timeNs);
  expect(later.offsetNs - paused.offsetNs).toBe(Number(later.wallNs - paused.wallNs));
  expect(later.offsetNs - paused.offsetNs).toBeGreaterThanOrEqual(45e6);
  expect(resumed.offsetNs).toBeGreaterThanOrEqual(later.offsetNs - later.errorNs - resumed.errorNs);

  // A guest that starts anew takes its time from the real-time clock.
  const prompt = vm.console.waitFor('>');
  await vm.reset();
  await prompt;
  const reset = await vm.clock();
  expect(reset.timeNs).toBeGreaterThan(resumed.timeNs);
  expect(Math.abs(reset.offsetNs)).toBeLessThanOrEqual(reset.offsetErrorNs + 1e6);
  await vm.stop();
  await expect(vm.clock()).rejects.toMatchObject({ code: 'ERR_STATE' });
});

test('a fork is late by what its parent was, and by the time that it took', async () => {
  await using vm = await Vm.create({ kernel, engine: 'emu', memory: '64M' });
  await vm.start();
  await vm.console.waitFor('>');
  await vm.pause();
  await new Promise(resolve => setTimeout(resolve, 30));
  await vm.resume();
  const parent = await vm.clock();
  const began = performance.now();
  await using fork = await vm.fork();
  const child = await fork.clock();
  const tookNs = (performance.now() - began) * 1e6;
  expect(parent.offsetNs).toBeGreaterThanOrEqual(25e6);
  const error = parent.errorNs + child.errorNs;
  expect(child.offsetNs).toBeGreaterThanOrEqual(parent.offsetNs - error);
  expect(child.offsetNs).toBeLessThanOrEqual(parent.offsetNs + tookNs + error);
});

test('a virtual clock is not late, ever', async () => {
  await using vm = await Vm.create({ kernel, engine: 'emu', clock: 'virtual' });
  await vm.start();
  await vm.console.waitFor('>');
  await vm.pause();
  const sample = await vm.clock();
  expect(sample).toMatchObject({ mode: 'virtual', source: 'virtual', errorNs: 0, offsetNs: 0, offsetErrorNs: 0 });
  // 2020-01-01.
  expect(sample.wallNs).toBe(1_577_836_800_000_000_000n + BigInt(Math.floor(sample.timeNs)));
});

test('clock shows who answers how often, with a line for each sample', async () => {
  const { type } = await start('one');
  await type('abc');
  const once = verb('clock', 'one', '--once', '--json');
  expect(once).toMatchObject({ code: 0, err: '' });
  const [sample] = samplesOf(once.out);
  expect(sample).toMatchObject({ name: 'one', engine: 'emu', state: 'running', mode: 'host', spanNs: 0 });
  // Of each two calls one is for a counter that there is.
  expect(sample.ptp).toEqual({ answeredBy: 'tsvisor', calls: 3 });
  expect(sample.bracket).toEqual({
    nowNs: 2 * sample.errorNs,
    medianNs: 2 * sample.errorNs,
    p99Ns: 2 * sample.errorNs,
  });
  expect(sample.wallNs).toMatch(/^\d{19}$/);

  const lines = verb('clock', '--count', '3', '--interval', '20ms');
  expect(lines).toMatchObject({ code: 0, err: '' });
  const [what, who, head, ...rows] = lines.out.trimEnd().split('\n');
  expect(what).toMatch(/^one: emu, running; clock host, (native|estimated) /);
  expect(who).toBe('ptp_kvm: tsvisor answers');
  expect(head).toMatch(/^ +TIME +OFFSET +DRIFT PPM +BRACKET +MEDIAN +P99 +CALLS +CALLS\/S$/);
  expect(rows).toHaveLength(3);
  const time = String.raw`\d+(\.\d)? [num]s`;
  for (const row of rows) {
    expect(row).toMatch(new RegExp(`^ +[\\d.]+ s +[+-]?${time} +(-|[+-]?\\d+\\.\\d{3})( +${time}){3} +3 +(-|0\\.0)$`));
  }
});

test('EMU-X7: clock says that nobody answers, and why', async () => {
  await start('off', '--no-ptp');
  const [sample] = samplesOf(verb('clock', '--once', '--json').out);
  expect(sample.ptp).toEqual({ answeredBy: 'nobody', reason: expect.stringContaining('switched off') });
  expect(verb('clock', '--once').out).toContain('ptp_kvm: nobody answers: switched off');
});

test('clock sees a pause, ends with the VM, and leaves a picture', async () => {
  const { exit } = await start('two');
  const picture = join(rig.folder, 'two.svg');
  const clock = spawn(process.execPath, [rig.cli, 'clock', '--json', '--interval', '20ms', '--svg', picture], {
    env: rig.env,
  });
  let err = '';
  clock.stderr.on('data', b => {
    err += b;
  });
  const code = new Promise(resolve => clock.on('close', resolve));
  const offsets: number[] = [];
  let seen = 0;
  for await (const line of createInterface(clock.stdout)) {
    const { state, offsetNs } = JSON.parse(line);
    if (state === 'paused') offsets.push(offsetNs);
    if (++seen === 3) expect(verb('pause', 'two').code).toBe(0);
    if (offsets.length === 3) {
      offsets.push(Number.POSITIVE_INFINITY);
      expect(verb('stop', 'two').code).toBe(0);
    }
  }
  expect({ code: await code, err }).toEqual({ code: 0, err: '' });
  expect(await exit).toBe(0);
  expect(offsets.length).toBeGreaterThanOrEqual(4);
  expect(offsets[2]! - offsets[0]!).toBeGreaterThan(0);
  const parser = new SaxesParser();
  parser.on('error', e => {
    throw e;
  });
  const svg = readFileSync(picture, 'utf8');
  parser.write(svg).close();
  expect(svg).toContain('<title>Clock of two</title>');
  expect(svg.match(/<polyline class="line"/g)).toHaveLength(2);
});

test('clock ends by a signal with its exit code, and the picture is there', async () => {
  await start('three');
  const picture = join(rig.folder, 'three.svg');
  const clock = spawn(process.execPath, [rig.cli, 'clock', '--interval', '20ms', '--svg', picture], { env: rig.env });
  const code = new Promise(resolve => clock.on('close', resolve));
  let rows = 0;
  for await (const line of createInterface(clock.stdout)) {
    if (/^ +\d/.test(line) && ++rows === 3) clock.kill('SIGINT');
  }
  expect(await code).toBe(130);
  expect(readFileSync(picture, 'utf8')).toContain('<polyline class="line"');
});

// A terminal: util-linux's script(1) makes one.
const scriptWorks =
  process.platform === 'linux' && spawnSync('script', ['-qec', 'true', '/dev/null'], { stdio: 'ignore' }).status === 0;
if (!scriptWorks) console.log("skipped: the terminal tests need util-linux's script(1)");

for (const [key, typed] of [
  ['q', 'q'],
  ['Ctrl-c', '\x03'],
] as const) {
  test.skipIf(!scriptWorks)(`on a terminal clock draws plots as large as that, and ends with ${key}`, async () => {
    await start('five');
    // One sample: what is drawn anew is drawn for the new size.
    const clock = `'${process.execPath}' '${rig.cli}' clock --interval 1h`;
    const shell = `tty; stty rows 30 cols 90; before=$(stty -g); ${clock}; code=$?; [ "$before" = "$(stty -g)" ] && echo "CODE $code"`;
    const child = spawn('script', ['-qec', shell, '/dev/null'], { env: { ...rig.env, SHELL: '/bin/sh' } });
    rig.onEnd(() => child.kill('SIGKILL'));
    let out = '';
    const said = async (text: string | RegExp) => {
      while (out.search(text) < 0) out += (await once(child.stdout, 'data'))[0];
      return out;
    };
    const frame = () => out.split('\x1b[H\x1b[J').at(-1)!.split('\r\n');
    const [, tty] = /^(\/dev\/\S+)/.exec(await said('\n'))!;
    await said(/bracket, \w+\r\n([^\r]*\r\n){9}/);
    expect(frame()[0]).toMatch(/^five: emu, running; clock host, /);
    expect(frame().some(l => l.startsWith('offset, '))).toBe(true);
    // Room for one plot.
    out = '';
    expect(spawnSync('stty', ['-F', tty!, 'rows', '14', 'cols', '30']).status).toBe(0);
    await said(/clock host\r\n.*offset, \w+\r\n([^\r]*\r\n){3}/s);
    for (const line of frame()) expect(line.length).toBeLessThanOrEqual(30);
    expect(frame().length).toBeLessThanOrEqual(14);
    expect(frame().some(l => l.startsWith('bracket, '))).toBe(false);
    child.stdin.write(typed);
    await said('CODE 0');
    expect(out).toContain('\x1b[?1049l');
  });
}

test('mistakes are told at once', async () => {
  expect(verb('clock', 'none', '--once')).toMatchObject({
    code: 4,
    err: expect.stringContaining("no running VM 'none'"),
  });
  expect(verb('clock', '--once')).toMatchObject({ code: 4, err: expect.stringContaining('there is no running VM') });
  expect(verb('clock', '--interval', 'soon')).toMatchObject({ code: 2 });
  for (const count of ['0', 'x', '1.5', '-1']) {
    expect(verb('clock', `--count=${count}`)).toMatchObject({ code: 2, err: expect.stringContaining('count: ') });
  }
  await start('four');
  const nowhere = verb('clock', '--svg', join(rig.folder, 'none', 'a.svg'));
  expect(nowhere).toMatchObject({ code: 2, err: expect.stringContaining('clock: cannot write') });
});
