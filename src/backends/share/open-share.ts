import { readFileSync, statSync } from 'node:fs';
import { VmError } from '../../util/errors.ts';
import { AnchoredAccess } from './anchored-access.ts';
import { CheckedAccess } from './checked-access.ts';
import { Share } from './share.ts';

/** What to share. */
export interface ShareOptions {
  /** Path on the host; a symbolic link is followed, once. */
  readonly directory: string;
  readonly readOnly: boolean;
}

/** Objects that a guest may know at once: some 300 bytes of the host's memory each. */
const MAX_NODES = 1 << 20;

/** Upper bounds of descriptors for open files and for anchors. */
const MAX_HANDLES = 4096;
const MAX_HELD = 1024;

/**
 * Opens a directory of the host for a guest. On Linux with /proc no race with other programs can lead out of it, see
 * AnchoredAccess; elsewhere see CheckedAccess. The share uses at most half of the descriptors that this process may open;
 * the caller closes it.
 *
 * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_UNREADABLE, or ERR_USAGE when it is no directory
 */
export async function openShare({ directory, readOnly }: ShareOptions): Promise<Share> {
  const details = { directory };
  try {
    if (!statSync(directory).isDirectory()) {
      throw new VmError('ERR_USAGE', `${directory} is not a directory`, {
        hint: 'Share the directory that the file is in.',
        details,
      });
    }
    const descriptors = openFileLimit();
    const access = AnchoredAccess.available()
      ? new AnchoredAccess(directory, Math.min(MAX_HELD, descriptors >> 3))
      : new CheckedAccess(directory);
    const maxHandles = Math.min(MAX_HANDLES, descriptors >> 2);
    return new Share({ access, readOnly, maxNodes: MAX_NODES, maxHandles });
  } catch (error) {
    if (error instanceof VmError) throw error;
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new VmError('ERR_FILE_NOT_FOUND', `${directory} does not exist`, {
        hint: 'Make the directory, or check how it is spelled.',
        cause: error,
        details,
      });
    }
    throw new VmError('ERR_FILE_UNREADABLE', `${directory} cannot be shared: ${String(code ?? error)}`, {
      hint: 'Check its permissions.',
      cause: error,
      details,
    });
  }
}

/** How many descriptors this process may have; where the host does not say, the smallest number that is usual. */
function openFileLimit(): number {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
    return limit === undefined ? 1024 : Math.max(256, Number(limit));
  } catch {
    return 1024;
  }
}
