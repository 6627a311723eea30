import { describe, it } from 'vitest';
import { host } from '../../src/engines/host/host.ts';
import { probeHost } from '../../src/engines/host/probe.ts';
import { KVM_CAP_DIRTY_LOG_RING } from '../../src/engines/kvm/abi/common.generated.ts';
import { KvmSystem } from '../../src/engines/kvm/system.ts';
import { ENTRIES, WRITTEN_PAGES_CASES } from '../support/written-pages.ts';
import { x86Binutils } from '../support/x86-assembler.ts';

// The pages that vCPUs write, on this machine's KVM; test/lab/written-pages.lab.ts has the same on a genuine kernel's.

const reason = whyNot();

function whyNot(): string | undefined {
  if (process.arch !== 'x64') return `an x86-64 host is needed, this is ${process.arch}`;
  if (x86Binutils() === undefined) return 'GNU as is not installed (Debian: binutils)';
  const { addon, kvm } = probeHost();
  return addon.reason ?? kvm.reason;
}

function hasRings(): boolean {
  using system = new KvmSystem(host());
  return system.check(KVM_CAP_DIRTY_LOG_RING) > 0;
}

for (const [source, dirtyRing, lack] of [
  ['the dirty log', 0, reason],
  ['rings', ENTRIES, reason ?? (hasRings() ? undefined : 'its KVM has no dirty rings')],
] as const) {
  if (lack !== undefined) console.log(`skipped: the pages that vCPUs write, by ${source}: ${lack}`);
  describe.skipIf(lack !== undefined)(`the pages that vCPUs write, by ${source}`, () => {
    for (const cpus of [1, 2]) {
      for (const c of WRITTEN_PAGES_CASES) it(`${c.title}: ${cpus} vCPUs`, () => c.run({ cpus, dirtyRing }));
    }
  });
}
