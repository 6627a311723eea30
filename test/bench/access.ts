import { median, round, runOurs, runQemu, type Sample } from './measure.ts';
import { buildProgram } from './programs.ts';

/** Programs that read one register of a device in a loop, and the longest that issue 3 allows for it, ns. */
export const ACCESSES = [
  { name: 'mmio', what: 'a register of the PL011', asked: 150 },
  { name: 'config', what: 'PCI configuration space', asked: 1000 },
] as const;

/** The same loop over memory. */
const BASELINE = 'memory';

/**
 * Time of one access on both engines, ns: all from the guest's load to the next instruction, the device's handler included,
 * without the loop around it. Medians.
 */
export interface AccessResult {
  readonly name: string;
  readonly ours: number;
  readonly qemu?: number;
  readonly asked: number;
}

/** Runs an access and its baseline `pairs` times on each engine, in turn. */
export function compareAccess(
  access: (typeof ACCESSES)[number],
  options: { readonly pairs: number; readonly qemu: boolean; readonly params: string },
): AccessResult {
  const image = buildProgram(access.name);
  const baseline = buildProgram(BASELINE);
  const cost = (run: typeof runOurs) => nsOf(run(image, options.params)) - nsOf(run(baseline, options.params));
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let n = 0; n < options.pairs; n++) {
    ours.push(cost(runOurs));
    if (options.qemu) theirs.push(cost(runQemu));
  }
  const result = { name: access.name, ours: round(median(ours), 1), asked: access.asked };
  return options.qemu ? { ...result, qemu: round(median(theirs), 1) } : result;
}

function nsOf({ ms, iterations }: Sample): number {
  return (ms * 1e6) / iterations;
}
