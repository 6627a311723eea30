import { ENTRIES, WRITTEN_PAGES_CASES } from '../support/written-pages.ts';
import { x86Binutils } from '../support/x86-assembler.ts';
import { labCase } from './lab-case.ts';

// The pages that vCPUs write, by dirty rings and by the dirty log, of a kernel's own KVM.

for (const cpus of [1, 2]) {
  labCase(`by rings and by the dirty log: ${cpus} vCPUs`, { on: ['x86'], seconds: 300 }, async ({ skip }) => {
    if (x86Binutils() === undefined) skip('GNU as is not installed (Debian: binutils)');
    for (const dirtyRing of [ENTRIES, 0]) {
      for (const c of WRITTEN_PAGES_CASES) {
        try {
          await c.run({ cpus, dirtyRing });
        } catch (e) {
          throw new Error(`${dirtyRing > 0 ? 'rings' : 'log'}: ${c.title}`, { cause: e });
        }
      }
    }
  });
}
