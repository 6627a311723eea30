import assert from 'node:assert/strict';
import type { ContractCase, Outcome, SubjectFactory } from '../contract/contract.ts';
import { ARM64_CASES, run, whyNot, X86_CASES } from '../contract/index.ts';
import { emulatedArm, kvmArm, kvmX86 } from '../contract/subjects.ts';
import { x86Binutils } from '../support/x86-assembler.ts';
import { type LabContext, labCase } from './lab-case.ts';

// The contract of engines (test/contract) on a KVM that we did not write, and there beside the emulated engine.

for (const smoke of [true, false]) {
  const part = smoke ? 'the short part' : 'every case';
  const of = (cases: readonly ContractCase[]) => cases.filter(c => !smoke || c.smoke === true);

  // Every emulated engine has a Wasm memory of which 12 MB are in use, until V8 comes to collect it.
  const memory = smoke ? 1024 : 2048;
  labCase(`arm64, on KVM and emulated: ${part}`, { on: ['arm64'], smoke, memory, seconds: smoke ? 60 : 300 }, context =>
    all(of(ARM64_CASES), context, async c => {
      const emulated = await on('emu', c, emulatedArm);
      // What is not the engine's to do (probes.ts).
      const lacks = await whyNot(c, kvmArm);
      if (lacks !== undefined) return `not on KVM: ${lacks}`;
      // To the last access, beside what both are compared to.
      assert.deepEqual(await on('kvm', c, kvmArm), emulated);
      return undefined;
    }),
  );

  labCase(`x86-64, on KVM: ${part}`, { on: ['x86'], smoke, seconds: smoke ? 60 : 300 }, context => {
    if (x86Binutils() === undefined) context.skip('GNU as is not installed (Debian: binutils)');
    // No needs are probed here: this KVM can do everything.
    return all(of(X86_CASES), context, async c => {
      await on('kvm', c, kvmX86);
      return undefined;
    });
  });
}

async function on(name: string, c: ContractCase, make: SubjectFactory): Promise<Outcome> {
  try {
    return await run(c, make);
  } catch (cause) {
    throw new Error(`${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** Runs them all, and says of each that fails why; `test` may say what it left out. */
async function all(
  cases: readonly ContractCase[],
  { note, signal }: LabContext,
  test: (c: ContractCase) => Promise<string | undefined>,
): Promise<void> {
  const failed: string[] = [];
  for (const c of cases) {
    signal.throwIfAborted();
    const started = performance.now();
    try {
      const left = await test(c);
      const ms = `${Math.round(performance.now() - started)} ms`;
      note(left === undefined ? `ok ${c.title} (${ms})` : `ok ${c.title} (${ms}; ${left})`);
    } catch (e) {
      failed.push(c.title);
      note(`FAIL ${c.title}: ${e instanceof Error ? e.message : e}`);
    }
  }
  assert.deepEqual(failed, []);
}
