// What an exit costs that TypeScript answers, beside a program in C that does the same, in turns. x86-64 with /dev/kvm, or in
// the lab:
//
//   npx tsx test/bench/exit-cost.ts [--lab] [--cpus 2] [--pairs 9] [--exits 3000]
//
// Asked: at most 1.5 times the time of the C loop with one thread for one vCPU (inline), 2.5 times with threads.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildSync } from 'esbuild';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { findLab, ROOT } from '../support/lab.ts';
import { BUILD } from './programs.ts';

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

const { values } = parseArgs({
  options: {
    lab: { type: 'boolean', default: false },
    cpus: { type: 'string', default: '2' },
    pairs: { type: 'string', default: '9' },
    exits: { type: 'string', default: '3000' },
  },
});

const { addon, reason, attempts } = loadAddon();
if (addon === undefined) throw new Error(reason);
mkdirSync(BUILD, { recursive: true });
const c = join(BUILD, 'exit-cost');
execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-pthread', '-o', c, here('./programs/exit-cost.c')]);
const core = join(BUILD, 'exit-cost.mjs');
buildSync({
  entryPoints: [here('./exit-cost-core.ts')],
  outfile: core,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  logLevel: 'error',
});
const command = [process.execPath, core, attempts.at(-1)!.path, c, values.pairs, values.exits];
let prefix: string[] = [];
if (values.lab) {
  const found = findLab();
  if ('reason' in found) throw new Error(found.reason);
  prefix = [found.lab, 'x86', '-t', '300', '-c', values.cpus, '--'];
}
const [program, ...args] = [...prefix, ...command];
process.exitCode = spawnSync(program!, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1;
