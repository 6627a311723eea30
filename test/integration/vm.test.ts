import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Vm, VmError, type VmOptions } from 'tsvisor';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

// The Vm, its Worker and its console, over a machine that does what it is told (fixtures/fake-machine.mjs).

const createModule = new URL('./fixtures/fake-machine.mjs', import.meta.url);
let folder = '';
const vms: Vm[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-vm-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  await Promise.all(vms.splice(0).map(vm => vm.kill()));
});

async function create(options: Partial<VmOptions> = {}): Promise<Vm> {
  const vm = await Vm.create({ kernel: new TextEncoder().encode('guest'), ...options }, { createModule });
  vms.push(vm);
  return vm;
}

async function started(options: Partial<VmOptions> = {}): Promise<Vm> {
  const vm = await create(options);
  await vm.start();
  await vm.console.waitFor('fake# ');
  return vm;
}

/** Instructions that the guest has retired; the emulator counts them. */
async function instructions(vm: Vm): Promise<number> {
  const { instructions: n } = await vm.info();
  if (n === undefined) throw new Error('nobody counts instructions');
  return n;
}

/** The VmError that `p` is rejected with. */
async function failure(p: Promise<unknown>): Promise<VmError> {
  const e = await p.then(
    () => undefined,
    (x: unknown) => x,
  );
  expect(e).toBeInstanceOf(VmError);
  return e as VmError;
}

test('a guest boots, obeys its console and powers off', async () => {
  const vm = await create({ params: 'quiet', memory: '256M', cpus: 2, initrd: new Uint8Array(5), seed: 7, gic: 2 });
  expect(vm.state).toBe('created');
  const events: string[] = [];
  vm.on('engine', e => events.push(`engine ${e.kind}`));
  vm.on('start', () => events.push('start'));
  vm.on('log', l => events.push(l));
  vm.on('exit', e => events.push(`exit ${e.reason}`));
  await vm.start();
  expect(vm.state).toBe('running');
  const m = await vm.console.waitFor(/Booting fake (?<what>\w+)/, { timeout: '10s' });
  expect(m.groups).toEqual({ what: 'guest' });
  vm.console.write('params\n');
  expect((await vm.console.waitFor(/quiet\|.*(?=\r\n)/)).text).toBe(`quiet|${256 * 2 ** 20}|2|5|2|7`);
  vm.console.write('poweroff\n');
  const exit = await vm.exited;
  expect(exit).toMatchObject({ reason: 'shutdown', error: undefined, memoryHash: undefined });
  expect(exit.info).toMatchObject({ engine: 'emu', state: 'ended', gic: 2 });
  expect(exit.info!.vcpus).toHaveLength(2);
  expect(events).toEqual(['engine emu', 'start', 'fake machine built', 'exit shutdown']);
  expect(await vm.info()).toEqual(exit.info);
});

test.each([
  ['reboot', 'reset', undefined],
  ['crash', 'crash', 'the guest said so'],
  ['panic', 'crash', 'Kernel panic - not syncing: Attempted to kill init!'],
] as const)('the guest command %s ends with %s', async (command, reason, detail) => {
  const vm = await started();
  vm.console.write(`${command}\n`);
  expect(await vm.exited).toMatchObject({ reason, detail, error: undefined });
});

test('a defect of ours is a crash with ERR_INTERNAL and its stack, and the process lives on', async () => {
  const vm = await started();
  vm.console.write('throw\n');
  const exit = await vm.exited;
  expect(exit.reason).toBe('crash');
  expect(exit.error).toMatchObject({ code: 'ERR_INTERNAL', message: 'the machine failed: a defect in a device' });
  expect(exit.error!.stack).toContain('fake-machine.mjs');
  expect(exit.error!.hint).toContain('report');
});

test('a Worker that ends on its own is not taken for a good end', async () => {
  const vm = await started();
  vm.console.write('exit\n');
  // process.exit() in a Worker ends that thread only.
  expect(await vm.exited).toMatchObject({ reason: 'crash', error: { code: 'ERR_INTERNAL' } });
});

test('an error while the machine is built rejects create()', async () => {
  const e = await failure(create({ kernel: new TextEncoder().encode('not a kernel') }));
  expect(e).toMatchObject({ code: 'ERR_INTERNAL', message: 'the machine failed: this kernel makes the machine throw' });
});

test('files that are wrong are named', async () => {
  const big = join(folder, 'big');
  writeFileSync(big, Buffer.alloc(3 * 2 ** 20));
  const kernel = new Uint8Array(8);
  const cases: [Partial<VmOptions>, string, RegExp][] = [
    [{ kernel: join(folder, 'nothing') }, 'ERR_FILE_NOT_FOUND', /^kernel: .*nothing does not exist/],
    [{ kernel: folder }, 'ERR_FILE_IS_DIRECTORY', /is a directory/],
    [{ kernel, initrd: join(folder, 'no') }, 'ERR_FILE_NOT_FOUND', /^initrd: /],
    [{ kernel, initrd: big, memory: '2M' }, 'ERR_MEMORY_TOO_SMALL', /larger than the guest's RAM/],
    [{ kernel, console: `file:${folder}` }, 'ERR_FILE_UNREADABLE', /cannot write to .*EISDIR/],
    [{ kernel, engine: 'kvm' }, 'ERR_ENGINE_UNAVAILABLE', /kvm is not available/],
  ];
  for (const [options, code, message] of cases) {
    const e = await failure(create(options));
    expect(e.code).toBe(code);
    expect(e.message).toMatch(message);
    expect(e.hint).toBeTruthy();
  }
});

test('waitFor: text cut anywhere, groups, text before, one prompt is found once', async () => {
  const vm = await started();
  vm.console.write('hex abc\n');
  const m = await vm.console.waitFor(/(61)(62)63/);
  expect(m.captures).toEqual(['61', '62']);
  expect(m.before).toBe('\r\n');
  await vm.console.waitFor('fake# ');
  // The prompt that was found is not found again.
  await failure(vm.console.waitFor('fake# ', { timeout: 50 }));
  expect(vm.console.text).toContain('Booting fake guest');
});

test('waitFor finds what was printed before the call', async () => {
  const vm = await create();
  await vm.start();
  while (!vm.console.text.includes('fake# ')) await new Promise(r => setTimeout(r, 5));
  vm.console.write('hex zzz\n');
  while (!vm.console.text.includes('7a7a7a\r\nfake# ')) await new Promise(r => setTimeout(r, 5));
  await vm.console.waitFor('Booting');
  await vm.console.waitFor('7a7a7a', { timeout: 0 });
});

test('waitFor: a timeout tells the last lines; the end of the guest and a signal end it too', async () => {
  const vm = await started();
  const e = await failure(vm.console.waitFor(/login: /i, { timeout: '60ms' }));
  expect(e.code).toBe('ERR_TIMEOUT');
  expect(e.message).toMatch(
    /did not show \/login: \/i within 60 ms; its last lines:\n {4}Booting fake guest\n {4}fake# /,
  );
  expect(e.details).toMatchObject({ timeoutMs: 60, lastLines: ['Booting fake guest', 'fake# '] });
  const abort = new AbortController();
  const aborted = vm.console.waitFor('never', { signal: abort.signal });
  abort.abort(new Error('enough'));
  await expect(aborted).rejects.toThrow('enough');
  expect((await failure(vm.console.waitFor('x', { timeout: 'soon' }))).code).toBe('ERR_USAGE');
  const ended = failure(vm.console.waitFor('never'));
  vm.console.write('poweroff\n');
  expect(await ended).toMatchObject({ code: 'ERR_STATE', details: { reason: 'shutdown' } });
  expect((await ended).message).toContain('the guest ended (shutdown) before the console showed "never"');
});

test('the console is a stream: all output arrives, in order, and ends with the guest', async () => {
  const vm = await create();
  const chunks: Buffer[] = [];
  vm.console.on('data', (b: Buffer) => chunks.push(b));
  const end = once(vm.console, 'end');
  await vm.start();
  vm.console.write('flood 3000\n');
  await vm.console.waitFor('flood over', { timeout: '60s' });
  vm.console.write('poweroff\n');
  await end;
  const text = Buffer.concat(chunks).toString();
  for (let i = 3000; i > 0; i -= 97) expect(text).toContain(`.${i}\r\n`);
  expect(text.length).toBeGreaterThan(3000 * 1024);
});

test('a reader that does not read holds the guest back, until it reads', async () => {
  const vm = await started();
  vm.console.pause();
  vm.console.write('flood 2000\n');
  let before = -1;
  for (let n = await instructions(vm); n !== before; n = await instructions(vm)) {
    before = n;
    await new Promise(r => setTimeout(r, 100));
  }
  expect(vm.console.text.length).toBeLessThan(2 ** 20);
  vm.console.resume();
  await vm.console.waitFor('flood over', { timeout: '60s' });
  expect(vm.console.text.length).toBeGreaterThan(2000 * 1024);
});

test('input of any length goes through the small FIFO in order', async () => {
  const vm = await started();
  const text = 'abcdefgh'.repeat(60);
  await new Promise<void>((resolve, reject) => vm.console.write(`hex ${text}\n`, e => (e ? reject(e) : resolve())));
  await vm.console.waitFor(Buffer.from(text).toString('hex'), { timeout: '10s' });
});

test('console file: and off', async () => {
  const path = join(folder, 'console.log');
  const vm = await started({ console: `file:${path}` });
  vm.console.write('poweroff\n');
  await vm.exited;
  expect(readFileSync(path, 'utf8')).toBe('Booting fake guest\r\nfake# \r\n');
  const silent = await create({ console: 'off' });
  await silent.start();
  silent.console.write('poweroff\n');
  expect((await silent.exited).reason).toBe('shutdown');
  expect(silent.console.text).toBe('');
});

test('trace lines are events', async () => {
  const vm = await started({ trace: ['mmio'] });
  const line = once(vm, 'trace');
  vm.console.write('trace\n');
  expect(await line).toEqual(['mmio read 0x9000018 4']);
});

test('stop interrupts a running slice; kill ends a Worker that listens to nothing', async () => {
  const vm = await started();
  vm.console.write('spin\n');
  await new Promise(r => setTimeout(r, 50));
  const t = performance.now();
  expect(await vm.stop()).toMatchObject({ reason: 'killed', error: undefined });
  expect(performance.now() - t).toBeLessThan(1500);
  const deaf = await started();
  deaf.console.write('deaf\n');
  await new Promise(r => setTimeout(r, 50));
  expect(await deaf.kill()).toMatchObject({ reason: 'killed', error: undefined });
  const stubborn = await started();
  stubborn.console.write('deaf\n');
  await new Promise(r => setTimeout(r, 50));
  expect((await stubborn.stop()).reason).toBe('killed');
});

test('stop and kill work before start, and twice', async () => {
  const vm = await create();
  expect((await vm.stop()).reason).toBe('killed');
  expect((await vm.stop()).reason).toBe('killed');
  expect((await vm.kill()).reason).toBe('killed');
  expect(vm.state).toBe('ended');
  expect((await failure(vm.start())).code).toBe('ERR_STATE');
  expect((await failure(vm.reset())).code).toBe('ERR_STATE');
  expect((await failure(vm.memoryHash())).code).toBe('ERR_STATE');
  vm.console.write('into the void');
});

test('signals: create is aborted, start kills when its signal aborts', async () => {
  const kernel = new Uint8Array(1);
  await expect(Vm.create({ kernel }, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
  const soon = new AbortController();
  const creating = Vm.create({ kernel }, { signal: soon.signal, createModule });
  setTimeout(() => soon.abort(new Error('too late')), 1);
  await expect(creating).rejects.toThrow('too late');
  const vm = await create();
  const abort = new AbortController();
  await vm.start({ signal: abort.signal });
  expect((await failure(vm.start())).code).toBe('ERR_STATE');
  abort.abort();
  expect((await vm.exited).reason).toBe('killed');
});

test('info and memoryHash of a running VM; the hash of a deterministic one outlives it', async () => {
  const vm = await started({ clock: 'virtual', name: 'box' });
  const info = await vm.info();
  expect(info).toMatchObject({
    name: 'box',
    state: 'running',
    engine: 'emu',
    clock: { mode: 'virtual', source: 'virtual', errorNs: 0 },
  });
  expect(info.engineReason).not.toBe('');
  const hash = await vm.memoryHash();
  vm.console.write('poweroff\n');
  expect((await vm.exited).memoryHash).toBe(hash);
  expect(await vm.memoryHash()).toBe(hash);
});

test('reset runs the guest again', async () => {
  const vm = await started();
  await vm.reset();
  vm.console.write('\n');
  await vm.console.waitFor('Booting fake', { timeout: '5s' });
});

test('an idle guest costs next to nothing, wakes on time and on input', async () => {
  const vm = await started();
  const cpu = process.cpuUsage();
  vm.console.write('sleep 1500\n');
  await vm.console.waitFor('slept', { timeout: '10s' });
  const used = process.cpuUsage(cpu);
  expect((used.user + used.system) / 1.5e6).toBeLessThan(0.1);
  vm.console.write('hex q\n');
  await vm.console.waitFor('71', { timeout: '5s' });
});

test('the user thread is not blocked by a guest that spins, nor the guest by a user thread that does', async () => {
  const vm = await started();
  const before = await instructions(vm);
  vm.console.write('flood 100\n');
  const until = performance.now() + 300;
  while (performance.now() < until);
  await vm.console.waitFor('flood over', { timeout: '5s' });
  expect(await instructions(vm)).toBeGreaterThan(before);
  vm.console.write('deaf\n');
  const t = performance.now();
  await new Promise(r => setTimeout(r, 20));
  expect(performance.now() - t).toBeLessThan(1000);
});

// Whether anything is left over can only be seen from outside: the process must end by itself.
test.each([
  ['after power-off', `await vm.start(); vm.console.write('poweroff\\n'); await vm.exited;`],
  ['after kill', 'await vm.start(); await vm.kill();'],
  ['never started', ''],
  ['asked and never started', 'await vm.info();'],
  [
    'after a wait that was met',
    `await vm.start(); await vm.console.waitFor('fake#', { timeout: '1h' }); await vm.stop();`,
  ],
])('the process ends by itself: %s', async (_, body) => {
  const script = `import { Vm } from 'tsvisor';
    const vm = await Vm.create({ kernel: new Uint8Array(1) }, { createModule: new URL('${createModule.href}') });
    ${body}
    console.log('end of script');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 20_000,
  });
  let out = '';
  child.stdout.on('data', (b: Buffer) => {
    out += b;
  });
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(out).toBe('end of script\n');
});
