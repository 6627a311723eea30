import { assemble } from '../../scripts/asm/assemble.ts';
import { ACCESS_CASES } from './arm64-access.ts';
import { CONTROL_CASES } from './arm64-control.ts';
import { INTERRUPT_CASES } from './arm64-interrupts.ts';
import { MEMORY_CASES } from './arm64-memory.ts';
import { SMP_CASES } from './arm64-smp.ts';
import { type ContractCase, type Outcome, runCase, type SubjectFactory } from './contract.ts';
import { ARM } from './places.ts';

/** All cases for arm64 engines. */
export const ARM64_CASES: readonly ContractCase[] = [
  ...ACCESS_CASES,
  ...MEMORY_CASES,
  ...CONTROL_CASES,
  ...INTERRUPT_CASES,
  ...SMP_CASES,
];

/** Runs a case for arm64. @throws Error for whatever is not as it must be. */
export async function runArm64(c: ContractCase, make: SubjectFactory): Promise<Outcome> {
  return runCase(c, assemble(c.code, { base: BigInt(ARM.code) }).bytes, make);
}
