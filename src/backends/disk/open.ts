import * as fs from 'node:fs';
import { dirname } from 'node:path';
import type { Disk } from '../../devices/virtio/blk/disk.ts';
import { VmError } from '../../util/errors.ts';
import { FileDisk } from './file-disk.ts';
import { HostFile } from './host-file.ts';
import { type ImageLock, lockImage } from './lock.ts';
import { OverlayDisk } from './overlay-disk.ts';
import { type BaseFingerprint, checkHeader, HEADER_SIZE, MAX_OVERLAY_SIZE, newHeader } from './overlay-format.ts';

/** Which disk {@link openDisk} opens. */
export interface DiskOptions {
  /** A raw image or a block device of the host. */
  readonly path: string;
  readonly readOnly?: boolean;
  /** An overlay: it takes all writes, and `path` is only read. Created when it does not exist. */
  readonly cow?: string;
  /** Requests are done when the call returns, flushes too: for machines whose runs are bit-identical. */
  readonly synchronous?: boolean;
}

const SECTOR = 512;

/**
 * Opens a disk. What is written to is locked until close(): a second disk on the same file is refused.
 * @throws VmError ERR_FILE_NOT_FOUND, ERR_FILE_IS_DIRECTORY, ERR_FILE_UNREADABLE; ERR_DISK for an image whose size is
 * not a
 *   multiple of 512 bytes, one that is in use, or an overlay that does not belong to it.
 */
export async function openDisk(options: DiskOptions): Promise<Disk> {
  // What has been opened so far, to be let go of when something fails.
  const undo: (() => void)[] = [];
  try {
    return options.cow === undefined ? openRaw(options, undo) : openOverlay(options, options.cow, undo);
  } catch (error) {
    for (const action of undo.reverse()) action();
    throw error;
  }
}

function openRaw(options: DiskOptions, undo: (() => void)[]): Disk {
  const image = openImage(options.path, options.readOnly ?? false, undo);
  const lock = options.readOnly ? undefined : locked(options.path, image.fd, undo);
  return new FileDisk(new HostFile(image.fd, image.size, options), image.size, lock);
}

function openOverlay(options: DiskOptions, cow: string, undo: (() => void)[]): Disk {
  const base = openImage(options.path, true, undo);
  if (base.size > MAX_OVERLAY_SIZE) {
    throw new VmError('ERR_DISK', `disk: ${options.path} is too large for an overlay`, {
      hint: 'overlays go up to 16 TiB',
      details: { path: options.path, size: base.size },
    });
  }
  const readOnly = options.readOnly ?? false;
  const fd = readOnly ? openFile(cow, 'r', undo) : openOrCreate(cow, undo);
  const stats = checkedStat(cow, fd);
  if (stats.dev === base.stats.dev && stats.ino === base.stats.ino) {
    throw new VmError('ERR_DISK', `disk: ${cow} is the image itself, not an overlay`, {
      hint: 'name another file for cow=',
      details: { option: 'cow', path: cow },
    });
  }
  const lock = readOnly ? undefined : locked(cow, fd, undo);
  const overlay = new HostFile(fd, Number(stats.size), options);
  const used = prepare(fd, cow, { size: base.size, mtime: base.stats.isFile() ? base.stats.mtimeNs : 0n }, readOnly);
  return new OverlayDisk({
    base: new HostFile(base.fd, base.size, options),
    overlay,
    size: base.size,
    used,
    ...(lock && { lock }),
  });
}

/** Reads and checks the header of an overlay, after writing it if the file is new. Returns the clusters in use. */
function prepare(fd: number, path: string, base: BaseFingerprint, readOnly: boolean): number {
  const header = new Uint8Array(HEADER_SIZE);
  try {
    const { size } = fs.fstatSync(fd);
    const count = fs.readSync(fd, header, 0, HEADER_SIZE, 0);
    // Zeroes alone: the host crashed while it created the overlay.
    if (!readOnly && count === size && header.every(b => b === 0)) {
      header.set(newHeader(base));
      fs.writeSync(fd, header, 0, HEADER_SIZE, 0);
      fs.fsyncSync(fd);
      syncFolder(dirname(path));
    }
  } catch (error) {
    throw fileError(path, error);
  }
  return checkHeader(header, base, path);
}

/** Makes a new file's name durable, where folders can be opened. */
function syncFolder(path: string): void {
  try {
    const fd = fs.openSync(path, 'r');
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    // Windows has no such call; its file systems keep names in a journal.
  }
}

interface Image {
  readonly fd: number;
  /** Bytes. */
  readonly size: number;
  readonly stats: fs.BigIntStats;
}

/** An existing raw image whose size makes a disk. */
function openImage(path: string, readOnly: boolean, undo: (() => void)[]): Image {
  const fd = openFile(path, readOnly ? 'r' : 'r+', undo);
  const stats = checkedStat(path, fd);
  const size = stats.isFile() ? Number(stats.size) : blockDeviceSize(path, fd);
  if (size === 0 || size % SECTOR !== 0) {
    throw new VmError('ERR_DISK', `disk: ${path} has ${size} bytes, which is no multiple of ${SECTOR}`, {
      hint: size === 0 ? `give it a size: truncate -s 1G ${path}` : `round its size up: truncate -s %${SECTOR} ${path}`,
      details: { path, size },
    });
  }
  return { fd, size, stats };
}

function openOrCreate(path: string, undo: (() => void)[]): number {
  for (let attempt = 0; ; attempt++) {
    try {
      return openFile(path, fs.existsSync(path) ? 'r+' : 'wx+', undo);
    } catch (error) {
      // Somebody created or removed it in between.
      const errno = error instanceof VmError ? error.details.errno : undefined;
      if (attempt === 3 || errno !== 'EEXIST') throw error;
    }
  }
}

function openFile(path: string, flags: 'r' | 'r+' | 'wx+', undo: (() => void)[]): number {
  try {
    // A pipe would wait for its other end to be opened.
    const stats = fs.statSync(path, { throwIfNoEntry: false });
    if (stats !== undefined) checkKind(path, stats);
    const fd = fs.openSync(path, flags);
    undo.push(() => fs.closeSync(fd));
    return fd;
  } catch (error) {
    throw fileError(path, error);
  }
}

function checkedStat(path: string, fd: number): fs.BigIntStats {
  const stats = fs.fstatSync(fd, { bigint: true });
  checkKind(path, stats);
  return stats;
}

function checkKind(path: string, stats: fs.Stats | fs.BigIntStats): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  if (stats.isDirectory()) {
    throw new VmError('ERR_FILE_IS_DIRECTORY', `disk: ${path} is a directory`, {
      hint: 'name the image file inside it',
      details: { path },
    });
  }
  throw new VmError('ERR_DISK', `disk: ${path} is neither a file nor a block device`, {
    hint: 'name a raw image or a block device',
    details: { path },
  });
}

function locked(path: string, fd: number, undo: (() => void)[]): ImageLock {
  try {
    const lock = lockImage(fs.realpathSync(path), fd);
    undo.push(() => lock.release());
    return lock;
  } catch (error) {
    throw fileError(path, error);
  }
}

/**
 * Bytes of a block device. stat() says 0 and Node cannot seek, so this looks for the last sector that can be read; all
 * devices of all hosts end a read behind their end with no bytes or an error.
 */
function blockDeviceSize(path: string, fd: number): number {
  const sector = new Uint8Array(SECTOR);
  const readable = (index: number) => {
    try {
      return fs.readSync(fd, sector, 0, SECTOR, index * SECTOR) === SECTOR;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EIO') throw fileError(path, error); // a bad sector, not the end
      return false;
    }
  };
  let low = 0;
  // 2^52 bytes: offsets stay exact.
  let high = 2 ** 43;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (readable(middle)) low = middle + 1;
    else high = middle;
  }
  return low * SECTOR;
}

function fileError(path: string, cause: unknown): VmError {
  if (cause instanceof VmError) return cause;
  const errno = (cause as NodeJS.ErrnoException).code;
  const details = { path, errno };
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    return new VmError('ERR_FILE_NOT_FOUND', `disk: ${path} does not exist`, {
      hint: `check the path; \`truncate -s 1G ${path}\` makes an empty disk`,
      cause,
      details,
    });
  }
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new VmError('ERR_DISK_FULL', `disk: no space left to create ${path}`, {
      hint: 'free some space, or put the file on another disk',
      cause,
      details,
    });
  }
  const denied = errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS';
  return new VmError('ERR_FILE_UNREADABLE', `disk: ${path} cannot be opened (${errno ?? String(cause)})`, {
    hint: denied ? "check the file's permissions, or open it read-only" : 'check the file and its disk',
    cause,
    details,
  });
}
