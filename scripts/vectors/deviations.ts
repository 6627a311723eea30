/** Where QEMU 7.2 does not do what DDI 0487 says; README.md lists them too. */
import type { Input, Result } from './record.ts';

interface Deviation {
  readonly reason: string;
  applies(input: Input, result: Result): boolean;
}

const DEVIATIONS: readonly Deviation[] = [];

/** Why the answer of QEMU for `input` is not to be believed, if so. */
export function deviation(input: Input, result: Result): string | undefined {
  return DEVIATIONS.find(d => d.applies(input, result))?.reason;
}
