import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

// The package as it would be published, installed on a machine that has Node and npm, and no compiler.

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder = '';
let files: string[] = [];
let why: string | undefined;
let installOutput = '';
let env: NodeJS.ProcessEnv = {};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvisor-package-'));
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  env = { ...process.env, TSVISOR_CACHE: join(folder, 'cache') };
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
  const pack = npm(root, 'pack', '--ignore-scripts', '--json', '--pack-destination', folder);
  if (pack.status !== 0) throw new Error(`npm pack failed: ${pack.stderr}`);
  const [packed] = JSON.parse(pack.stdout) as [{ filename: string; files: { path: string }[] }];
  files = packed.files.map(f => f.path);
  const app = join(folder, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), '{ "name": "app", "private": true, "type": "module" }');
  const tarball = join(folder, packed.filename);
  const install = npm(app, 'install', '--prefer-offline', '--foreground-scripts', '--no-audit', '--no-fund', tarball);
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
    'dist/machine/machine-worker.js',
  ]) {
    expect(files).toContain(f);
  }
  for (const f of ['README.md', 'LICENSE', 'CHANGELOG.md', 'binding.gyp', 'native/fd.cc', 'scripts/install.mjs']) {
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
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
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
