import { copyFileSync, cpSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN_AMD64, DEBIAN_ARM64 } from '../../src/images/index.ts';
import { debian } from '../../test/e2e/debian.ts';
import type { LabArchitecture, LabImage } from '../../test/lab/lab-case.ts';
import { chronyRoot } from '../../test/support/chrony.ts';
import { ROOT } from '../../test/support/lab.ts';
import { ptpReadsProgram } from '../../test/support/ptp-reads.ts';

/**
 * Debian's image for the guests of a lab, copied to build/lab, since the lab sees no more than this folder.
 *
 * @param chrony whether chrony is wanted, too, which has to be fetched.
 * @returns its files, or why there are none.
 */
export async function labImage(architecture: LabArchitecture, chrony: boolean): Promise<LabImage | string> {
  const name = architecture === 'x86' ? DEBIAN_AMD64 : DEBIAN_ARM64;
  const image = await debian(name);
  if (typeof image === 'string') return image;
  const folder = join(ROOT, 'build/lab', name);
  mkdirSync(folder, { recursive: true });
  const copy = (from: string, file: string) => {
    const to = join(folder, file);
    const there = statSync(to, { throwIfNoEntry: false });
    const { size, mtimeMs } = statSync(from);
    if (there?.size !== size || there.mtimeMs < mtimeMs) copyFileSync(from, to);
    return to;
  };
  const program = ptpReadsProgram(architecture === 'x86' ? 'x86_64' : 'aarch64');
  const ptpReads = typeof program === 'string' ? undefined : join(folder, 'ptp-reads');
  if (ptpReads !== undefined) writeFileSync(ptpReads, program);
  return {
    ptpReads,
    chrony: chrony ? await labChrony(folder) : 'no case says that it needs chrony',
    kernel: copy(image.kernel, 'kernel'),
    initrd: copy(image.initrd, 'initrd'),
    uart: architecture === 'x86' ? 'ttyS0' : 'ttyAMA0',
  };
}

/** chronyRoot() where the lab sees it. */
async function labChrony(folder: string): Promise<LabImage['chrony']> {
  const fetched = await chronyRoot();
  if (typeof fetched === 'string') return fetched;
  const root = join(folder, 'chrony');
  // cpSync() refuses links that are there already.
  rmSync(root, { recursive: true, force: true });
  cpSync(fetched.root, root, { recursive: true, verbatimSymlinks: true });
  return { root };
}
