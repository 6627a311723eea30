import { assemble } from '../../scripts/asm/assemble.ts';
import { assembleX86 } from '../support/x86-assembler.ts';
import { ACCESS_CASES } from './arm64-access.ts';
import { CONTROL_CASES } from './arm64-control.ts';
import { INTERRUPT_CASES } from './arm64-interrupts.ts';
import { MEMORY_CASES } from './arm64-memory.ts';
import { SMP_CASES } from './arm64-smp.ts';
import { type ContractCase, type Need, type Outcome, runCase, type SubjectFactory } from './contract.ts';
import { ARM } from './places.ts';
import { PROBES } from './probes.ts';
import { X86_ACCESS_CASES } from './x86-access.ts';
import { X86_CONTROL_CASES } from './x86-control.ts';
import { X86_MEMORY_CASES } from './x86-memory.ts';

/** All cases for arm64 engines. */
export const ARM64_CASES: readonly ContractCase[] = [
  ...ACCESS_CASES,
  ...MEMORY_CASES,
  ...CONTROL_CASES,
  ...INTERRUPT_CASES,
  ...SMP_CASES,
];

/** All cases for x86-64 engines. */
export const X86_CASES: readonly ContractCase[] = [...X86_ACCESS_CASES, ...X86_MEMORY_CASES, ...X86_CONTROL_CASES];

const BITS = { real: 16, protected: 32, long: 64 } as const;
let x86Code: ReadonlyMap<ContractCase, Uint8Array> | undefined;

/**
 * Runs one of the suite's cases on an engine of its architecture.
 * @throws Error for whatever is not as it must be, and when there is no assembler for x86-64.
 */
export function run(c: ContractCase, make: SubjectFactory): Promise<Outcome> {
  if (c.arch === 'aarch64') return runCase(c, assemble(c.code, { base: BigInt(ARM.code) }).bytes, make);
  x86Code ??= assembleAll([...X86_CASES, ...Object.values(PROBES).filter(p => p.arch === 'x86_64')]);
  return runCase(c, x86Code.get(c)!, make);
}

/** Why an engine's host cannot run a case, by the probes of its needs; undefined: it can. */
export async function whyNot(c: ContractCase, make: SubjectFactory): Promise<string | undefined> {
  for (const need of c.needs ?? []) {
    const lacks = await probed(need, make);
    if (lacks !== undefined) return lacks;
  }
  return undefined;
}

const results = new Map<SubjectFactory, Map<Need, Promise<string | undefined>>>();

/** Runs a probe, once for each engine. */
function probed(need: Need, make: SubjectFactory): Promise<string | undefined> {
  const known = results.get(make) ?? new Map<Need, Promise<string | undefined>>();
  results.set(make, known);
  const probe = PROBES[need];
  const result =
    known.get(need) ??
    run(probe, make).then(
      () => undefined,
      () => probe.reason,
    );
  known.set(need, result);
  return result;
}

function assembleAll(cases: readonly ContractCase[]): ReadonlyMap<ContractCase, Uint8Array> {
  const programs = assembleX86(cases.map(c => ({ bits: BITS[c.mode ?? 'protected'], source: c.code })));
  return new Map(cases.map((c, i) => [c, programs[i]!]));
}
