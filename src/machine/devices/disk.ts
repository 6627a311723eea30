import { constants } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { openDisk } from '../../backends/disk/open.ts';
import { VirtioBlk } from '../../devices/virtio/blk/device.ts';
import type { Disk } from '../../devices/virtio/blk/disk.ts';
import { VmError } from '../../util/errors.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/**
 * Copies an image that nobody writes meanwhile; blocks are shared where the host's file system can (reflink).
 * @throws VmError ERR_DISK, ERR_DISK_FULL.
 */
async function copyImage(from: string, disk: Disk, to: string): Promise<void> {
  try {
    await disk.flush();
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  } catch (e) {
    const { code: errno, message } = e as NodeJS.ErrnoException;
    const full = errno === 'ENOSPC' || errno === 'EDQUOT';
    throw new VmError(full ? 'ERR_DISK_FULL' : 'ERR_DISK', `cannot copy the disk ${from} to ${to}: ${message}`, {
      hint: errno === 'EEXIST' ? 'name a file that does not exist yet' : 'name another file',
      cause: e,
      details: { path: to, errno },
    });
  }
}

/** Host errors of one disk that are worth a line each. */
const LOGGED_ERRORS = 10;

/** A virtio-blk device over a file. Its serial is its name, which the guest finds in /dev/disk/by-id. */
export const build: Builder<'disk'> = async (config, env) => {
  const { name, path, readOnly, cow } = config;
  const disk = await openDisk({
    path,
    readOnly,
    ...(cow === undefined ? {} : { cow }),
    synchronous: env.deterministic,
  });
  let errors = 0;
  const device = new VirtioBlk({
    disk,
    serial: name,
    cpus: env.cpus,
    onError: e => {
      if (++errors <= LOGGED_ERRORS)
        env.events.log(`${name}: ${e instanceof Error ? e.message : e}; the guest sees an I/O error`);
    },
  });
  return {
    name,
    function: virtioFunction(device, name, env),
    expectsIo: () => disk.inFlight > 0,
    close: () => disk.close(),
    copyTo: readOnly ? undefined : to => copyImage(cow ?? path, disk, to),
  };
};
