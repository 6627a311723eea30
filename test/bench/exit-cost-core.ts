import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import type { Addon } from '../../src/engines/host/addon.ts';
import { kvm_run } from '../../src/engines/kvm/abi/common.generated.ts';
import { KvmGuest, PROGRAMS } from '../support/kvm-guest.ts';
import { median, round } from './measure.ts';

// What exit-cost.ts bundles and runs: node exit-cost.mjs ADDON C-PROGRAM PAIRS EXITS. JSON on standard output.

/** One kind of exit: ns of the C programs and of ours, and ours by the C program of the same kind: medians over pairs of runs. */
export interface ExitCost {
  readonly exit: 'MMIO read' | 'port read';
  readonly inline: Cost;
  readonly threads: Cost;
}

interface Cost {
  readonly c: number;
  readonly ours: number;
  readonly ratio: number;
}

const KVM_EXIT_IO = 2;
const KVM_EXIT_MMIO = 6;

/** ns for one exit that is answered here. */
async function ours(addon: Addon, program: Uint8Array, threads: boolean, exits: number): Promise<number> {
  using guest = new KvmGuest(addon, [program], threads);
  const state = guest.states[0]!;
  const { runner } = guest;
  let start = 0;
  for (let n = -100; n < exits; ) {
    if (n === 0 && start === 0) start = performance.now();
    if (addon.run(runner, 1e8) < 0) {
      await new Promise(resolve => setImmediate(resolve));
      continue;
    }
    n++;
    const reason = state.getUint32(kvm_run.exit_reason, true);
    if (reason === KVM_EXIT_MMIO && state.getUint8(kvm_run['mmio.is_write']) === 0) {
      state.setUint32(kvm_run['mmio.data'], n, true);
    } else if (reason === KVM_EXIT_IO && state.getUint8(kvm_run['io.direction']) === 0) {
      state.setUint8(state.getUint32(kvm_run['io.data_offset'], true), n & 0xff);
    } else {
      throw new Error(`exit ${reason}`);
    }
  }
  return ((performance.now() - start) * 1e6) / exits;
}

function theirs(program: string, threads: boolean, code: Uint8Array, exits: number): number {
  const r = spawnSync(program, [threads ? 'threads' : 'inline', String(exits), Buffer.from(code).toString('hex')], {
    encoding: 'utf8',
  });
  if (r.status !== 0) throw new Error(`${program} ended with ${r.status}: ${r.stderr}`);
  return Number(r.stdout);
}

const [addonPath, c, pairs, exits] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(addonPath!) as Addon;
// Under an emulator that runs several CPUs the kernel may hang when it patches its code, as it does for the first VM and
// after the last one: there is one more all the time.
const spare = new KvmGuest(addon, [PROGRAMS.halt], false);
const costs: ExitCost[] = [];
for (const [exit, program] of [
  ['MMIO read', PROGRAMS.load],
  ['port read', PROGRAMS.sum],
] as const) {
  const runs = { inline: [] as { c: number; ours: number }[], threads: [] as { c: number; ours: number }[] };
  for (let pair = 0; pair < Number(pairs); pair++) {
    for (const kind of ['inline', 'threads'] as const) {
      const threads = kind === 'threads';
      const theirNs = theirs(c!, threads, program, Number(exits));
      runs[kind].push({ c: theirNs, ours: await ours(addon, program, threads, Number(exits)) });
    }
  }
  const cost = (kind: 'inline' | 'threads'): Cost => ({
    c: round(median(runs[kind].map(r => r.c)), 0),
    ours: round(median(runs[kind].map(r => r.ours)), 0),
    ratio: round(median(runs[kind].map(r => r.ours / r.c)), 3),
  });
  costs.push({ exit, inline: cost('inline'), threads: cost('threads') });
}
spare.close();
process.stdout.write(`${JSON.stringify(costs, null, 2)}\n`);
