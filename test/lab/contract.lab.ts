import assert from 'node:assert/strict';
import type { ContractCase, Outcome, SubjectFactory } from '../contract/contract.ts';
import { ARM64_CASES, runArm64 } from '../contract/index.ts';
import { emulatedArm, kvmArm } from '../contract/subjects.ts';
import { type LabContext, labCase } from './lab-case.ts';

// The contract of engines (test/contract) on a KVM that we did not write, and there beside the emulated engine.

labCase('arm64, on KVM and emulated: the short part', { on: ['arm64'], smoke: true }, context =>
  onBoth(
    ARM64_CASES.filter(c => c.smoke),
    context,
  ),
);

labCase('arm64, on KVM and emulated: every case', { on: ['arm64'], seconds: 300 }, context =>
  onBoth(ARM64_CASES, context),
);

/** Runs cases on both engines; what came out is the same, down to the last access. */
async function onBoth(cases: readonly ContractCase[], context: LabContext): Promise<void> {
  await all(cases, context, async c => {
    const kvm = await on('kvm', runArm64, c, kvmArm);
    const emulated = await on('emu', runArm64, c, emulatedArm);
    assert.deepEqual(kvm, emulated);
  });
}

async function on(
  name: string,
  run: (c: ContractCase, make: SubjectFactory) => Promise<Outcome>,
  c: ContractCase,
  make: SubjectFactory,
): Promise<Outcome> {
  try {
    return await run(c, make);
  } catch (cause) {
    throw new Error(`${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** Runs them all, and says of each that fails why. */
async function all(
  cases: readonly ContractCase[],
  { note, signal }: LabContext,
  run: (c: ContractCase) => Promise<void>,
): Promise<void> {
  const failed: string[] = [];
  for (const c of cases) {
    signal.throwIfAborted();
    const started = performance.now();
    try {
      await run(c);
      note(`ok ${c.title} (${Math.round(performance.now() - started)} ms)`);
    } catch (e) {
      failed.push(c.title);
      note(`FAIL ${c.title}: ${e instanceof Error ? e.message : e}`);
    }
  }
  assert.deepEqual(failed, []);
}
