import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

// The package as it would be published, installed on a machine that has Node and npm, and no compiler.

const root = fileURLToPath(new URL('../..', import.meta.url));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
let folder = '';
let files: string[] = [];
let why: string | undefined;
let installOutput = '';
let env: NodeJS.ProcessEnv = {};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-package-'));
  // For a process of another user.
  chmodSync(folder, 0o755);
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  env = { ...process.env, TSVISOR_CACHE: join(folder, 'cache') };
  delete env.TSVISOR_ADDON;
  if (process.platform !== 'win32') {
    // A PATH without compilers: node, and npm with what its scripts need.
    symlinkSync(process.execPath, join(bin, 'node'));
    for (const t of ['npm', 'sh', 'env', 'uname', 'stty']) {
      const path = (process.env.PATH ?? '').split(delimiter).map(d => join(d, t));
      const hit = path.find(p => existsSync(p));
      if (hit !== undefined) symlinkSync(hit, join(bin, t));
    }
    env.PATH = bin;
  }
  const plain = pack('plain');
  files = plain.files;
  const install = installInto('app', plain.tarball, '--foreground-scripts');
  installOutput = install.stdout + install.stderr;
  if (install.status !== 0) {
    // The dependencies come from a registry; without a network there is nothing to test.
    why = `npm install of the packed package failed: ${install.stderr.trim().split('\n')[0]}`;
    if (!/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENOTCACHED|network/.test(installOutput))
      throw new Error(installOutput);
    console.log(`skipped: ${why}`);
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Packs what is published, less the prebuilds that a developer may have made; `add` puts more into the package's folder. */
function pack(name: string, add: (stage: string) => void = () => undefined): { tarball: string; files: string[] } {
  const stage = join(folder, name);
  for (const f of packed(root, '--dry-run').files.map(f => f.path)) {
    if (f.startsWith('prebuilds/')) continue;
    mkdirSync(dirname(join(stage, f)), { recursive: true });
    copyFileSync(join(root, f), join(stage, f));
  }
  add(stage);
  const { filename, files } = packed(stage, '--pack-destination', stage);
  return { tarball: join(stage, filename), files: files.map(f => f.path) };
}

function packed(cwd: string, ...args: string[]) {
  const r = npm(cwd, 'pack', '--ignore-scripts', '--json', ...args);
  if (r.status !== 0) throw new Error(`npm pack failed: ${r.stderr}`);
  const [answer] = JSON.parse(r.stdout) as [{ filename: string; files: { path: string }[] }];
  return answer;
}

function installInto(app: string, tarball: string, ...args: string[]) {
  const cwd = join(folder, app);
  if (!existsSync(cwd)) {
    mkdirSync(cwd);
    writeFileSync(join(cwd, 'package.json'), '{ "name": "app", "private": true, "type": "module" }');
  }
  return npm(cwd, 'install', '--prefer-offline', '--no-audit', '--no-fund', ...args, tarball);
}

function npm(cwd: string, ...args: string[]) {
  return spawnSync('npm', args, { cwd, env, encoding: 'utf8', shell: process.platform === 'win32', timeout: 300_000 });
}

function node(...args: string[]) {
  return spawnSync(process.execPath, args, { cwd: join(folder, 'app'), env, encoding: 'utf8', timeout: 60_000 });
}

test('it has what it needs and nothing else', () => {
  for (const f of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/a64.wasm',
    'dist/cli/main.js',
    'dist/worker/machine-worker.js',
  ]) {
    expect(files).toContain(f);
  }
  for (const f of [
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'binding.gyp',
    'native/fd.cc',
    'scripts/install.mjs',
    'scripts/build-addon.mjs',
  ]) {
    expect(files).toContain(f);
  }
  expect(files.filter(f => /\.test\.|^src\/|^test\/|^build\/|\.tsbuildinfo$/.test(f))).toEqual([]);
});

test('it installs without a compiler, and says so in one line', ctx => {
  if (why !== undefined) ctx.skip(why);
  expect(installOutput).toMatch(/^tsvisor: addon: .*tsvisor runs on its emulator$/m);
});

test('its command runs, and doctor knows why there is no addon', ctx => {
  if (why !== undefined) ctx.skip(why);
  const main = join(folder, 'app/node_modules/tsvisor/dist/cli/main.js');
  expect(node(main, '--version').stdout).toBe(`${version}\n`);
  const doctor = node(main, 'doctor');
  expect(doctor.status).toBe(0);
  expect(doctor.stdout).toMatch(/^note {2}addon /m);
  expect(existsSync(join(folder, 'app/node_modules/.bin/tsvisor')) || process.platform === 'win32').toBe(true);
  expect(dirname(main)).toContain('node_modules');
});

test('its library loads a guest and runs it', ctx => {
  if (why !== undefined) ctx.skip(why);
  // An ELF whose only instructions are PSCI SYSTEM_OFF by HVC: movz w0, #8; movk w0, #0x8400, lsl #16; hvc #0.
  const code = [0x5280_0100, 0x72b0_8000, 0xd400_0002];
  const script = `
    import { Vm } from 'tsvisor';
    const elf = new DataView(new ArrayBuffer(0x1000 + ${code.length * 4}));
    const put = (size, at, v) => size === 8 ? elf.setBigUint64(at, BigInt(v), true) : size === 4 ? elf.setUint32(at, v, true) : elf.setUint16(at, v, true);
    [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1].forEach((b, i) => elf.setUint8(i, b));
    for (const [size, at, v] of [[2, 16, 2], [2, 18, 183], [4, 20, 1], [8, 24, 0x40080000], [8, 32, 64], [2, 52, 64], [2, 54, 56], [2, 56, 1],
      [4, 64, 1], [4, 68, 5], [8, 72, 0x1000], [8, 80, 0x40080000], [8, 88, 0x40080000], [8, 96, ${code.length * 4}], [8, 104, ${code.length * 4}], [8, 112, 0x1000]]) put(size, at, v);
    ${JSON.stringify(code)}.forEach((w, i) => put(4, 0x1000 + 4 * i, w));
    const vm = await Vm.create({ kernel: new Uint8Array(elf.buffer), memory: '16M' });
    await vm.start();
    console.log((await vm.exited).reason);`;
  const r = node('--input-type=module', '-e', script);
  expect(r.stderr).toBe('');
  expect(r.stdout).toBe('shutdown\n');
});

describe('without install scripts', () => {
  const packageFolder = () => join(folder, 'bare/node_modules/tsvisor');
  /** The command of the package that is installed in `bare`. */
  function tsvisor(args: readonly string[], more: { env?: NodeJS.ProcessEnv; input?: string; uid?: number } = {}) {
    const main = join(packageFolder(), 'dist/cli/main.js');
    return spawnSync(process.execPath, [main, ...args], {
      ...more,
      env: { ...env, ...more.env },
      cwd: join(folder, 'bare'),
      encoding: 'utf8',
      timeout: 120_000,
    });
  }
  /** Installs a tarball in place of the one before. */
  function install(tarball: string): void {
    const r = installInto('bare', tarball, '--ignore-scripts');
    expect(r.status, r.stderr).toBe(0);
  }
  const linux = process.platform === 'linux';
  const prebuilt = `prebuilds/${process.platform}-${process.arch}`;

  test('the emulator boots a guest; doctor says that there is no addon and what to do, and why that fails', ctx => {
    if (why !== undefined) ctx.skip(why);
    install(join(folder, 'plain', `tsvisor-${version}.tgz`));
    const doctor = tsvisor(['doctor']);
    expect(doctor.status, doctor.stdout).toBe(0);
    if (linux) {
      expect(doctor.stdout).toMatch(
        /^note {2}addon +the addon is not there: no prebuild came with this package, and none was built here: .*\n +fix: build it here: tsvisor doctor --build-addon$/m,
      );
    }
    const build = tsvisor(['doctor', '--build-addon']);
    expect(build.status).toBe(3);
    if (linux) {
      expect(build.stdout).toMatch(/^bad +addon +not built: missing: a C\+\+ compiler; make; python3/m);
      // Of a distribution that is known: its command.
      if (existsSync('/usr/bin/apt-get'))
        expect(build.stdout).toMatch(/fix: (sudo )?apt-get install g\+\+ make python3/);
      const later = JSON.parse(tsvisor(['doctor', '--json']).stdout) as { findings: { check: string; fix?: string }[] };
      expect(later.findings.find(f => f.check === 'addon')?.fix).toMatch(/then: tsvisor doctor --build-addon$/);
    }
    const guest = tsvisor(['start', '--offline'], { input: '' });
    expect(guest.stdout).toContain('tsvisor: embedded guest done');
    expect(guest.status, guest.stderr).toBe(0);
  });

  test.skipIf(!linux)('--build-addon where the package cannot be written says so', ctx => {
    if (why !== undefined) ctx.skip(why);
    rmSync(join(packageFolder(), 'build'), { recursive: true, force: true });
    const asRoot = process.getuid?.() === 0;
    if (!asRoot) chmodSync(packageFolder(), 0o555);
    try {
      // Root may write anywhere: somebody else tries.
      const r = tsvisor(['doctor', '--build-addon', '--json'], asRoot ? { uid: 65_534 } : {});
      expect(r.status, r.stderr).toBe(3);
      expect(JSON.parse(r.stdout)).toMatchObject({
        check: 'addon',
        status: 'bad',
        text: `not built: ${packageFolder()} cannot be written (EACCES)`,
        fix: expect.stringContaining('a user who may write there'),
      });
    } finally {
      chmodSync(packageFolder(), 0o755);
    }
  });

  test.skipIf(!linux)('a prebuild in the package loads, and no build is wanted', ctx => {
    if (why !== undefined) ctx.skip(why);
    const made = join(folder, 'prebuilds');
    const script = join(root, 'scripts/prebuild.mjs');
    const prebuild = spawnSync(process.execPath, [script, '--arch', process.arch, '--out', made], { encoding: 'utf8' });
    if (/: missing: /.test(prebuild.stdout)) ctx.skip(`no prebuild can be made here: ${prebuild.stdout}`);
    expect(prebuild.status, prebuild.stdout + prebuild.stderr).toBe(0);
    // The check of symbol versions has looked at something.
    expect(prebuild.stdout).toMatch(/needs GLIBC 2\.\d+ or newer|node\.napi\.(armv8\.)?musl\.node: \d+ bytes/);

    const { tarball, files } = pack('prebuilt', stage => cpSync(made, join(stage, 'prebuilds'), { recursive: true }));
    expect(files.filter(f => f.startsWith(`${prebuilt}/`))).not.toEqual([]);
    install(tarball);
    const addon = () => /^(?:ok|note|bad) +addon .*\n(?: {14}.*\n)*/m.exec(tsvisor(['doctor']).stdout)?.[0] ?? '';
    const loaded = new RegExp(
      `^ok +addon +version ${version}, Node-API 8, from .*/${prebuilt}/node\\.napi.*\\(prebuild\\)`,
    );
    expect(addon()).toMatch(loaded);

    // The install script, where it may run, sees that and leaves it at that.
    const r = spawnSync(process.execPath, [join(packageFolder(), 'scripts/install.mjs')], { env, encoding: 'utf8' });
    expect(r.stdout).toBe('tsvisor: addon: a prebuild fits\n');
    expect(existsSync(join(packageFolder(), 'build/Release'))).toBe(false);

    // A local build that is not for this machine is passed over, and named.
    const local = join(packageFolder(), 'build/Release/tsvisor.node');
    mkdirSync(dirname(local), { recursive: true });
    const other = new Uint8Array(64);
    other.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    other[18] = process.arch === 'arm64' ? 62 : 183; // e_machine
    writeFileSync(local, other);
    expect(addon()).toMatch(loaded);
    expect(addon()).toMatch(/build\/Release\/tsvisor\.node +it is for (arm64|x64), this is/);

    // One that is asked for by name is not replaced by another.
    const wrong = tsvisor(['start', '--offline'], { env: { TSVISOR_ADDON: local }, input: 'poweroff\n' });
    expect(wrong.stderr).toMatch(/\$TSVISOR_ADDON \(.*tsvisor\.node\): it is for (arm64|x64), this is/);
    expect(wrong.stderr).toContain('ERR_ENGINE_UNAVAILABLE');
    expect(wrong.status).toBe(3);
  });
});
