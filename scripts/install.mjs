// Builds the Linux addon where that can be done with what is here: a compiler, make, Python and Node's headers. Never
// fails and downloads nothing: without the addon tsvisor runs on its emulator. What happened is printed in one line and
// kept in build/addon-status.json for `tsvisor doctor`. TSVISOR_SKIP_ADDON=1 skips it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const TIME_LIMIT_MS = 120_000;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addon = join(root, 'build/Release/tsvisor.node');

/** @param {string} command */
const works = command => spawnSync(command, ['--version'], { stdio: 'ignore', timeout: 10_000 }).status === 0;

function findHeaders() {
  const prefix = dirname(dirname(process.execPath));
  const candidates = [
    process.env.npm_config_nodedir,
    prefix,
    join(homedir(), '.cache/node-gyp', process.version.slice(1)),
    '/usr',
  ];
  return candidates.find(d => {
    if (!d || !existsSync(join(d, 'include/node/node_api.h'))) return false;
    // The headers of another major version may lack what this one's node.h tells node-gyp.
    return existsSync(join(d, 'include/node/common.gypi'));
  });
}

function findGyp() {
  const ours = join(root, 'node_modules/node-gyp/bin/node-gyp.js');
  return [process.env.npm_config_node_gyp, ours].find(p => p && existsSync(p));
}

/** @returns {{ built: boolean, reason: string, log?: string }} */
function build() {
  if (process.env.TSVISOR_SKIP_ADDON) return { built: false, reason: 'skipped (TSVISOR_SKIP_ADDON is set)' };
  if (process.platform !== 'linux') return { built: false, reason: `not needed on ${process.platform}` };
  const newest = Math.max(...['native', 'binding.gyp'].flatMap(newestIn));
  if (existsSync(addon) && statSync(addon).mtimeMs > newest && loads()) return { built: true, reason: 'up to date' };
  const compiler = process.env.CXX ?? 'c++';
  if (!works(compiler) && !works('g++') && !works('clang++')) return { built: false, reason: 'no C++ compiler found' };
  if (!works('make')) return { built: false, reason: 'make was not found' };
  if (!works(process.env.PYTHON ?? 'python3'))
    return { built: false, reason: 'python3, which node-gyp needs, was not found' };
  const headers = findHeaders();
  if (!headers) return { built: false, reason: "Node's headers were not found (include/node beside bin/node)" };
  const gyp = findGyp();
  if (!gyp) return { built: false, reason: 'node-gyp was not found' };
  try {
    createRequire(import.meta.url).resolve('node-addon-api');
  } catch {
    return { built: false, reason: 'the package node-addon-api is not installed' };
  }
  const r = spawnSync(process.execPath, [gyp, 'rebuild', `--nodedir=${headers}`], {
    cwd: root,
    encoding: 'utf8',
    timeout: TIME_LIMIT_MS,
    maxBuffer: 2 ** 26,
  });
  const log = `${r.stdout ?? ''}${r.stderr ?? ''}`.slice(-4000);
  if (r.error) {
    const late = /** @type {NodeJS.ErrnoException} */ (r.error).code === 'ETIMEDOUT';
    return { built: false, reason: late ? `the build took over ${TIME_LIMIT_MS / 1000} s` : r.error.message, log };
  }
  if (r.status !== 0) {
    const why = /^.*(?:error:|Error:|fatal).*$/m.exec(log)?.[0].trim() ?? `node-gyp ended with ${r.status ?? r.signal}`;
    return { built: false, reason: `the build failed: ${why.slice(0, 200)}`, log };
  }
  if (!loads()) return { built: false, reason: 'the addon was built but does not load', log };
  return { built: true, reason: 'built' };
}

/** In a process of its own: a broken addon may take its process with it. */
function loads() {
  const r = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(addon)})`], {
    stdio: 'ignore',
    timeout: 10_000,
  });
  return r.status === 0;
}

/** @param {string} name */
function newestIn(name) {
  const path = join(root, name);
  const s = statSync(path, { throwIfNoEntry: false });
  if (!s) return [0];
  return s.isDirectory() ? readdirSync(path).map(f => statSync(join(path, f)).mtimeMs) : [s.mtimeMs];
}

try {
  const status = { ...build(), node: process.version, platform: process.platform, arch: process.arch };
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(join(root, 'build/addon-status.json'), `${JSON.stringify(status, null, 2)}\n`);
  const rest = status.built ? '' : '; tsvisor runs on its emulator';
  process.stdout.write(`tsvisor: addon: ${status.reason}${rest}\n`);
} catch (e) {
  process.stdout.write(
    `tsvisor: addon: not built (${e instanceof Error ? e.message : e}); tsvisor runs on its emulator\n`,
  );
}
