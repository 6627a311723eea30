import { describe, it } from 'vitest';
import { probeHost } from '../../src/engines/host/probe.ts';
import { ARM64_CASES, run, whyNot, X86_CASES } from '../contract/index.ts';
import { emulatedArm, kvmX86 } from '../contract/subjects.ts';
import { x86Binutils } from '../support/x86-assembler.ts';

// The contract of engines (test/contract) on those that run here. The lab has KVM of both architectures: npm run test:lab.

describe('the contract of engines: arm64, emulated', () => {
  for (const c of ARM64_CASES) it(c.title, () => run(c, emulatedArm));
});

const reason = noX86();
if (reason !== undefined) console.log(`skipped: the contract of engines on x86-64 with KVM: ${reason}`);

describe.skipIf(reason !== undefined)('the contract of engines: x86-64, KVM', () => {
  for (const c of X86_CASES) {
    it(c.title, async context => {
      const lacks = await whyNot(c, kvmX86);
      if (lacks !== undefined) {
        console.log(`skipped: ${c.title}: this host: ${lacks}`);
        context.skip(lacks);
      }
      await run(c, kvmX86);
    });
  }
});

function noX86(): string | undefined {
  if (process.arch !== 'x64') return `this machine is ${process.arch}`;
  if (x86Binutils() === undefined) return 'GNU as is not installed (Debian: binutils)';
  const { kvm, addon } = probeHost();
  return addon.reason ?? kvm.reason;
}
