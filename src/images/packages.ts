import { VmError } from '../util/errors.ts';
import type { Stanza } from './deb822.ts';

/** The package of the kernel itself, from the dependencies of the package that always names the current one. */
export function kernelPackage(meta: Stanza): string {
  const name = /(?:^|,\s*)(linux-image-\d[^\s,(:|]*)/.exec(meta.get('Depends') ?? '')?.[1];
  if (!name) {
    throw new VmError('ERR_DOWNLOAD', `${meta.get('Package')} depends on no kernel package`, {
      hint: 'Try another suite or mirror.',
    });
  }
  return name;
}
