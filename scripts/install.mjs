// npm's install script. tsvisor does not depend on it having run: the loader finds a prebuild by itself, and without any
// addon the emulator runs (docs/adr/0010). Where no prebuild fits, and in a checkout, it builds the addon with what is
// here. It never fails and downloads nothing. What happened is printed in one line and kept in build/addon-status.json for
// `tsvisor doctor`. TSVISOR_SKIP_ADDON=1 skips it.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon, localBuild, note, root, whyNotLoading } from './build-addon.mjs';

const TIME_LIMIT_MS = 120_000;

/** Whether a package as published finds its addon, by its own loader. */
function prebuildLoads() {
  const loader = new URL('../dist/engines/host/addon.js', import.meta.url);
  // A checkout has its sources: what is built there has to be of them.
  if (existsSync(join(root, 'src')) || !existsSync(join(root, 'prebuilds')) || !existsSync(loader)) return false;
  const script = `process.exit((await import(${JSON.stringify(loader.href)})).loadAddon().addon === undefined ? 1 : 0)`;
  const { TSVISOR_ADDON: _, ...env } = process.env;
  const args = ['--input-type=module', '-e', script];
  return spawnSync(process.execPath, args, { env, stdio: 'ignore', timeout: 10_000 }).status === 0;
}

/** Whether the local build is newer than all it is made of, and loads. */
function upToDate() {
  const newest = Math.max(...['native', 'binding.gyp'].flatMap(newestIn));
  return existsSync(localBuild) && statSync(localBuild).mtimeMs > newest && whyNotLoading(localBuild) === undefined;
}

/** @param {string} name */
function newestIn(name) {
  const path = join(root, name);
  const s = statSync(path, { throwIfNoEntry: false });
  if (!s) return [0];
  return s.isDirectory() ? readdirSync(path).map(f => statSync(join(path, f)).mtimeMs) : [s.mtimeMs];
}

async function install() {
  if (process.env.TSVISOR_SKIP_ADDON) return { built: false, reason: 'skipped (TSVISOR_SKIP_ADDON is set)' };
  if (process.platform !== 'linux') return { built: false, reason: `not needed on ${process.platform}` };
  if (upToDate()) return { built: true, reason: 'up to date' };
  if (prebuildLoads()) return { built: true, reason: 'a prebuild fits' };
  return await buildAddon({ timeLimit: TIME_LIMIT_MS });
}

let line;
try {
  const result = await install();
  note(result);
  line = result.built ? result.reason : `${result.reason}; tsvisor runs on its emulator`;
} catch (e) {
  line = `not built (${e instanceof Error ? e.message : e}); tsvisor runs on its emulator`;
}
process.stdout.write(`tsvisor: addon: ${line}\n`);
