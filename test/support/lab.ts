import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/**
 * The program `lab`, which runs a command in a virtual machine with a genuine /dev/kvm: $TSVISOR_LAB, or `shared/lab/lab`
 * beside the repository. Where it cannot be used, the reason why.
 */
export function findLab(): { readonly lab: string } | { readonly reason: string } {
  const lab = resolve(ROOT, process.env.TSVISOR_LAB || '../shared/lab/lab');
  try {
    accessSync(lab, constants.X_OK);
  } catch {
    return { reason: `there is no lab at ${lab}; $TSVISOR_LAB names another` };
  }
  if (process.getuid?.() !== 0) return { reason: 'the lab needs root' };
  const programs = ['qemu-system-x86_64', 'qemu-system-aarch64', 'cpio', 'modprobe'];
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  const missing = programs.filter(p => !folders.some(f => existsSync(join(f, p))));
  if (missing.length > 0) return { reason: `the lab needs ${missing.join(', ')}: ${lab} install` };
  return { lab };
}
