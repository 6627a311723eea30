import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { GuestRun } from './run-guest.ts';

/** A program's own account of one run, from the line that it printed. */
export interface Sample {
  readonly iterations: number;
  /** Time of the measured part by the guest's virtual counter, ms. */
  readonly ms: number;
  readonly checksum: string;
  /** Instructions of the measured part; known for our engine only. */
  readonly instructions?: number;
}

/** One program on both engines. `ratio` is our speed in parts of QEMU's: the median over pairs of runs. */
export interface ProgramResult {
  readonly name: string;
  readonly ours: { readonly ms: number; readonly mips: number };
  readonly qemu?: { readonly ms: number; readonly mips: number };
  readonly ratio?: number;
  readonly asked: number | undefined;
}

const RUN_GUEST = fileURLToPath(new URL('./run-guest.ts', import.meta.url));
/** Where Node finds tsx. */
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const QEMU = 'qemu-system-aarch64';

/** The board and CPU that QEMU is compared as. */
export const QEMU_MACHINE = ['-M', 'virt,gic-version=3', '-cpu', 'cortex-a57', '-nographic', '-nodefaults'];

/** Version of the installed QEMU, or undefined. */
export function qemuVersion(): string | undefined {
  const r = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
  return r.status === 0 ? r.stdout.split('\n')[0] : undefined;
}

/** Runs an image on our engine, in a fresh process. */
export function runOurs(image: string, params: string): Sample {
  const r = spawnSync(process.execPath, ['--import', 'tsx', RUN_GUEST, image, params], {
    encoding: 'utf8',
    cwd: ROOT,
  });
  if (r.status !== 0) throw new Error(`the engine failed on ${image}:\n${r.stderr}`);
  const run = JSON.parse(r.stdout) as GuestRun;
  if (!run.reason.startsWith('shutdown')) throw new Error(`${image} ended with ${run.reason}: ${run.console}`);
  const sample = parse(run.console);
  // runtime.c warms up with a twentieth of the work.
  const all = sample.iterations + Math.floor(sample.iterations / 20) + 1;
  return { ...sample, instructions: (run.instructions * sample.iterations) / all };
}

/** Runs an image on QEMU TCG. */
export function runQemu(image: string, params: string): Sample {
  const args = [...QEMU_MACHINE, '-serial', 'stdio', '-m', '256', '-kernel', image, '-append', params];
  const r = spawnSync(QEMU, args, { encoding: 'utf8', timeout: 120_000, input: '' });
  if (r.status !== 0) throw new Error(`QEMU failed on ${image}:\n${r.stderr}`);
  return parse(r.stdout);
}

function parse(console: string): Sample {
  const m = /^bench \S+ iterations=(\d+) ticks=(\d+) hz=(\d+) checksum=(0x[0-9a-f]+)\r?$/m.exec(console);
  if (m === null) throw new Error(`the program printed no result: ${console}`);
  return { iterations: Number(m[1]), ms: (Number(m[2]) / Number(m[3])) * 1000, checksum: m[4]! };
}

/** Runs a program `pairs` times on each engine, in turn, so that what else the host does meets both. */
export function compare(
  program: { readonly name: string; readonly asked: number | undefined },
  image: string,
  options: { readonly pairs: number; readonly qemu: boolean; readonly params: string },
): ProgramResult {
  const ours: Sample[] = [];
  const theirs: Sample[] = [];
  for (let n = 0; n < options.pairs; n++) {
    ours.push(runOurs(image, options.params));
    if (options.qemu) theirs.push(runQemu(image, options.params));
  }
  const checksums = new Set([...ours, ...theirs].map(s => s.checksum));
  if (checksums.size > 1) throw new Error(`${program.name}: the results differ: ${[...checksums].join(', ')}`);
  const instructions = ours[0]!.instructions!;
  const speed = (samples: readonly Sample[]) => {
    const ms = median(samples.map(s => s.ms));
    return { ms: round(ms, 1), mips: round(instructions / ms / 1000, 1) };
  };
  if (!options.qemu) return { name: program.name, ours: speed(ours), asked: program.asked };
  const ratio = round(median(ours.map((s, n) => theirs[n]!.ms / s.ms)), 3);
  return { name: program.name, ours: speed(ours), qemu: speed(theirs), ratio, asked: program.asked };
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** `value` with so many decimals. */
export function round(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}
