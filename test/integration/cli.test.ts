import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

// The command as a user meets it: a process, with pipes or with a terminal, over a machine that obeys.

const CLI = fileURLToPath(new URL('./fixtures/cli-fake.mjs', import.meta.url));
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

let folder = '';
let kernel = '';
const children: ChildProcess[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-cli-'));
  kernel = join(folder, 'kernel');
  writeFileSync(kernel, 'guest');
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const c of children.splice(0)) c.kill('SIGKILL');
});

class Session {
  readonly child: ChildProcess;
  out = '';
  err = '';
  readonly #changed = new Set<() => void>();

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(command, args, { env: { ...process.env, TERM: 'vt100', ...env }, timeout: 60_000 });
    children.push(this.child);
    this.child.stdout!.on('data', (b: Buffer) => this.#add('out', b));
    this.child.stderr!.on('data', (b: Buffer) => this.#add('err', b));
    this.child.stdin!.on('error', () => undefined);
  }

  #add(where: 'out' | 'err', b: Buffer): void {
    this[where] += b;
    for (const f of this.#changed) f();
  }

  type(text: string): this {
    this.child.stdin!.write(text);
    return this;
  }

  /** Waits until `pattern` was printed on stdout (or stderr). */
  async until(pattern: string | RegExp, where: 'out' | 'err' = 'out'): Promise<this> {
    const seen = () => (typeof pattern === 'string' ? this[where].includes(pattern) : pattern.test(this[where]));
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!seen()) return;
        clearTimeout(timer);
        this.#changed.delete(look);
        resolve();
      };
      const late = () => reject(new Error(`no ${pattern} in ${JSON.stringify({ out: this.out, err: this.err })}`));
      const timer = setTimeout(late, 20_000);
      this.#changed.add(look);
      look();
    });
    return this;
  }

  async exit(): Promise<number | string> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'close');
    return this.child.exitCode ?? this.child.signalCode!;
  }
}

const run = (...args: string[]) => new Session(process.execPath, [CLI, 'run', '-k', kernel, ...args]);

test('no terminal: the guest has stdout to itself, stdin is its input, the end of input is not the end', async () => {
  const s = run('-m', '256M', '-c', '2', '-p', 'quiet');
  s.child.stdin!.end('params\nsleep 200\n');
  await s.until('slept');
  await s.until(/slept\r\nfake# $/);
  expect(s.out).toBe(
    `Booting fake guest\r\nfake# \r\nquiet|${256 * 2 ** 20}|2|undefined|3|undefined\r\nfake# \r\nslept\r\nfake# `,
  );
  expect(s.err).toMatch(/^engine: emu \(.+\)\ntsvisor: fake machine built\n$/);
  expect(s.child.exitCode).toBeNull();
});

test.each([
  ['poweroff', 0, ''],
  ['reboot', 0, ''],
  ['crash', 1, 'tsvisor: the guest crashed: the guest said so\n'],
  ['panic', 1, 'tsvisor: the guest crashed: Kernel panic - not syncing: Attempted to kill init!\n'],
  ['throw', 4, 'tsvisor: the machine failed: a defect in a device\n  hint: this is a defect of tsvisor'],
  ['exit', 4, "tsvisor: the machine's thread ended without a word\n"],
])('the guest says %s: exit code %d', async (command, code, message) => {
  const s = run('--engine', 'emu').type(`${command}\n`);
  expect(await s.exit()).toBe(code);
  expect(s.err).toContain(message);
  if (message === '') expect(s.err).toBe('tsvisor: fake machine built\n');
});

/** A file that is there, and no kernel. */
const THIS = fileURLToPath(import.meta.url);

test.each([
  [['run'], 2, 'no kernel given'],
  [['run', '-k', '/does/not/exist'], 2, 'kernel: /does/not/exist does not exist'],
  [['run', '-k', tmpdir()], 2, 'is a directory'],
  [['run', '-k', 'x', '-m', '12Q'], 2, "memory: '12Q' is not a size"],
  [['run', '-k', 'x', '-m', '512'], 2, '512 bytes is too small'],
  [['run', '-k', 'x', '-m', '1T'], 2, 'more than any machine has room for'],
  [['run', '-k', THIS, '-m', '5G', '--engine', 'emu'], 2, 'more than the emulator can give'],
  [['run', '-k', 'x', '-c', 'many'], 2, "cpus: 'many' must be a whole number"],
  [['run', '-k', 'x', '-c', '-1'], 2, 'cpus: '],
  // A machine that this host's processor is not.
  [
    ['run', '-k', THIS, '--engine', 'kvm', '--machine', process.arch === 'arm64' ? 'x86-pc' : 'arm-virt'],
    3,
    'engine kvm is not available',
  ],
  [['run', '--memroy', '1G'], 2, "unknown option '--memroy'\n  hint: Did you mean --memory?"],
  [['run', '-k', 'x', '--trace', 'mmoi'], 2, "did you mean 'mmio'?"],
  [['rum'], 2, "unknown command 'rum'"],
  [['run', 'a', 'b'], 2, 'too many arguments'],
  [['run', THIS], 2, 'is not JSON'],
  [['run', '/does/not/exist.json'], 2, 'config: /does/not/exist.json cannot be read (ENOENT)'],
  [['pull', 'windows'], 2, "there is no image called 'windows'"],
  [[], 2, 'Usage: tsvisor'],
])('tsvisor %j: exit code %d and a reason', async (args, code, message) => {
  const s = new Session(process.execPath, [MAIN, ...args]);
  expect(await s.exit()).toBe(code);
  expect(s.err).toContain(message);
  expect(s.out).toBe('');
});

test('errors as JSON', async () => {
  const s = new Session(process.execPath, [MAIN, 'run', '-k', 'x', '--cpus', '9', '--json']);
  expect(await s.exit()).toBe(2);
  expect(JSON.parse(s.err)).toEqual({
    event: 'error',
    code: 'ERR_USAGE',
    message: 'cpus: 9 must be a whole number, from 1 to 8',
    hint: expect.any(String),
    details: { option: 'cpus', value: 9 },
  });
});

test('events as JSON, one line each, the end with its numbers', async () => {
  const s = run('--json', '--clock', 'virtual', '--trace', 'mmio,hypercall').type('trace\npoweroff\n');
  expect(await s.exit()).toBe(0);
  const events = s.err
    .trim()
    .split('\n')
    .map(l => JSON.parse(l) as { event: string });
  expect(events.map(e => e.event)).toEqual(['engine', 'log', 'start', 'trace', 'exit', 'memory']);
  expect(events.at(-2)).toMatchObject({ reason: 'shutdown', exitCode: 0, instructions: expect.any(Number) });
  expect(events.at(-1)).toMatchObject({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
});

test('PIN-5: the end of a VM whose memory somebody still holds names the holder', async () => {
  const s = run('--json').type('leak\npoweroff\n');
  expect(await s.exit()).toBe(0);
  const events = s.err
    .trim()
    .split('\n')
    .map(l => JSON.parse(l) as { event: string });
  expect(events.find(e => e.event === 'pins-leaked')).toMatchObject({
    acquired: 10,
    released: 7,
    leaks: [{ owner: 'disk0 queue 0', pages: 3 }],
  });
  const sound = run('--json').type('poweroff\n');
  expect(await sound.exit()).toBe(0);
  expect(sound.err).not.toContain('pins-leaked');
});

test('a configuration file: its names are the library’s, its paths relative to it, flags win', async () => {
  const config = join(folder, 'vm.json');
  writeFileSync(config, JSON.stringify({ kernel: 'kernel', memory: '128M', cpus: 3, params: 'from file' }));
  const s = new Session(process.execPath, [CLI, 'run', config, '-c', '4']).type('params\npoweroff\n');
  expect(await s.exit()).toBe(0);
  expect(s.out).toContain(`from file|${128 * 2 ** 20}|4|`);
  const print = new Session(process.execPath, [MAIN, 'run', config, '--print-config']);
  expect(await print.exit()).toBe(0);
  expect(JSON.parse(print.out)).toMatchObject({ kernel, cpus: 3, engine: 'auto' });
  writeFileSync(config, JSON.stringify({ kernel: 'kernel', cpu: 3 }));
  const bad = new Session(process.execPath, [MAIN, 'run', config]);
  expect(await bad.exit()).toBe(2);
  expect(bad.err).toContain("unknown option 'cpu'\n  hint: did you mean 'cpus'?");
});

test('--console file:PATH and off leave stdout alone', async () => {
  const path = join(folder, 'log');
  const s = run('--console', `file:${path}`);
  await s.until('fake machine built', 'err');
  while (!readFileSync(path, 'utf8').includes('fake# ')) await new Promise(r => setTimeout(r, 20));
  s.child.kill('SIGTERM');
  expect(await s.exit()).toBe(143);
  expect(s.out).toBe('');
  const off = run('--console', 'off');
  await off.until('fake machine built', 'err');
  off.child.kill('SIGINT');
  expect(await off.exit()).toBe(130);
  expect(off.out).toBe('');
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s ends the guest, even a deaf one', async signal => {
  const s = run();
  await s.type('deaf\n').until('fake# ');
  await new Promise(r => setTimeout(r, 100));
  s.child.kill(signal);
  expect(await s.exit()).toBe({ SIGTERM: 143, SIGINT: 130, SIGHUP: 129 }[signal]);
});

test('a reader that leaves ends the guest quietly', async () => {
  const s = run('--engine', 'emu').type('flood 100000\n');
  await s.until('.100000');
  s.child.stdout!.destroy();
  expect(await s.exit()).toBe(0);
  expect(s.err).toBe('tsvisor: fake machine built\n');
});

test('all output arrives before the process ends', async () => {
  const s = run().type('flood 5000\npoweroff\n');
  expect(await s.exit()).toBe(0);
  expect(s.out.endsWith('flood over\r\nfake# \r\n')).toBe(true);
  expect(s.out.length).toBeGreaterThan(5000 * 1024);
});

test('doctor never fails, in words and as JSON, and notices a cache that cannot be', async () => {
  const s = new Session(process.execPath, [MAIN, 'doctor'], { TSVISOR_CACHE: join(kernel, 'under-a-file') });
  expect(await s.exit()).toBe(0);
  for (const check of ['node', 'engine', 'kvm', 'addon', 'memory', 'cache', 'image']) {
    expect(s.out).toMatch(new RegExp(`^(ok|note) +${check} `, 'm'));
  }
  expect(s.out).toMatch(/^note {2}cache .*cannot be written \(ENOTDIR\)\n +fix: set TSVISOR_CACHE/m);
  const j = new Session(process.execPath, [MAIN, 'doctor', '--json'], { TSVISOR_CACHE: join(folder, 'cache') });
  expect(await j.exit()).toBe(0);
  const { usable, findings } = JSON.parse(j.out) as { usable: boolean; findings: { check: string; fix?: string }[] };
  expect(usable).toBe(true);
  expect(findings.find(f => f.check === 'image')?.fix).toBe('tsvisor pull debian-arm64');
});

test('images of an empty cache; pull --offline says what is missing', async () => {
  const env = { TSVISOR_CACHE: join(folder, 'empty') };
  const images = new Session(process.execPath, [MAIN, 'images'], env);
  expect(await images.exit()).toBe(0);
  expect(images.out).toContain('no images in');
  const pull = new Session(process.execPath, [MAIN, 'pull', '--offline'], env);
  expect(await pull.exit()).toBe(3);
  expect(pull.err).toContain('code: ERR_OFFLINE');
});

// A terminal: util-linux's script(1) makes one.
const scriptWorks =
  process.platform === 'linux' && spawnSync('script', ['-qec', 'true', '/dev/null'], { stdio: 'ignore' }).status === 0;
if (!scriptWorks) console.log("skipped: the terminal tests need util-linux's script(1)");
const onTerminal = test.skipIf(!scriptWorks);

/** Runs the command in a terminal, then prints whether the terminal is as it was, and the exit code. */
function terminal(...args: string[]): Session {
  const quoted = [process.execPath, CLI, 'run', '-k', kernel, ...args].map(a => `'${a}'`).join(' ');
  const shell = `before=$(stty -g); ${quoted}; code=$?; [ "$before" = "$(stty -g)" ] && echo SAME || echo CHANGED; echo "CODE $code"`;
  return new Session('script', ['-qec', shell, '/dev/null'], { SHELL: '/bin/sh' });
}

onTerminal('a terminal is raw while the guest runs, and back to what it was after it', async () => {
  const s = terminal();
  await s.until('fake# ');
  // Carriage return, as the Enter key sends in raw mode; without raw mode it would be a line feed and an echo.
  s.type('hex ok\r');
  await s.until('6f6b');
  expect(s.out).not.toContain('hex ok');
  s.type('poweroff\r');
  await s.until('CODE');
  expect(s.out).toContain('SAME');
  expect(s.out).toMatch(/CODE 0/);
});

onTerminal('Ctrl-a: help, info, a literal; Ctrl-c goes to the guest and hints once; x quits', async () => {
  const s = terminal('--name', 'box', '-c', '2');
  await s.until('fake# ');
  await s.type('\x01h').until('[tsvisor: Ctrl-a x  quit');
  await s.type('\x01c').until(/\[tsvisor: box: arm-virt on engine emu .*512 MiB\]/);
  await s.until('vCPU 1: on');
  await s.type('\x01a').until('^A');
  await s.type('\x03').until('^C');
  await s.until('Ctrl-c goes to the guest');
  await s.type('\x03').until(/\^C.*\^C/s);
  expect(s.out.match(/Ctrl-c goes to the guest/g)).toHaveLength(1);
  await s.type('\x01x').until('CODE');
  expect(s.out).toContain('SAME');
  expect(s.out).toContain('CODE 0');
});

onTerminal.each([
  ['throw', 4],
  ['crash', 1],
  ['exit', 4],
])('the terminal is restored when the guest says %s', async (command, code) => {
  const s = terminal();
  await s.until('fake# ');
  await s.type(`${command}\r`).until('CODE');
  expect(s.out).toContain('SAME');
  expect(s.out).toContain(`CODE ${code}`);
});

onTerminal.each(['TERM', 'INT', 'HUP'])('the terminal is restored at SIG%s', async signal => {
  const s = terminal('--name', `victim-${signal}`);
  await s.until('fake# ');
  const ps = spawnSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).stdout;
  const line = ps.split('\n').find(l => l.includes(`victim-${signal}`) && /\d+ \S*node /.test(l));
  process.kill(Number.parseInt(line!, 10), `SIG${signal}`);
  await s.until('CODE');
  expect(s.out).toContain('SAME');
  expect(s.out).toMatch(/CODE (143|130|129)/);
});
