import * as fs from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { VmError } from '../../util/errors.ts';

/** The right to write an image, until it is given back. */
export interface ImageLock {
  release(): void;
}

/** What a lock file says about its owner. */
interface Owner {
  readonly pid: number;
  /** Host or container, since a pid means nothing elsewhere. */
  readonly host: string;
}

/**
 * A lock file without a readable owner may just be being written; after this many milliseconds it is the rest of a
 * crash.
 */
const BEING_WRITTEN = 10_000;
const ATTEMPTS = 5;

/** Images that this thread has locked, by device and inode: two names of one file are one image. */
const held = new Set<string>();

/**
 * Locks the open image `fd`, whose real path is `path`, against other disks of this process and of others. Node has no
 * flock, so a file IMAGE.tsvisor-lock with the pid of its owner stands beside the image; it lies in the folder for
 * temporary files when that of the image takes none. What a killed process left behind counts as absent.
 * @throws VmError ERR_DISK when somebody else has the image.
 */
export function lockImage(path: string, fd: number): ImageLock {
  const { dev, ino } = fs.fstatSync(fd, { bigint: true });
  const id = `${dev}-${ino}`;
  if (held.has(id)) throw inUse(path, { pid: process.pid, host: hostname() });
  const lockFile = createIn(path, `${path}.tsvisor-lock`, join(tmpdir(), `tsvisor-lock-${id}`));
  held.add(id);
  return {
    release() {
      if (!held.delete(id)) return;
      fs.rmSync(lockFile.path, { force: true });
      fs.closeSync(lockFile.fd);
    },
  };
}

/** The lock file beside the image, or else the one in the folder for temporary files. */
function createIn(image: string, beside: string, temporary: string): { path: string; fd: number } {
  try {
    return { path: beside, fd: create(image, beside) };
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes(codeOf(error) ?? '')) throw error;
    return { path: temporary, fd: create(image, temporary) };
  }
}

/**
 * Creates the lock file and keeps it open: that it is open tells it from one that a dead Worker of a living process
 * left, or a dead process whose pid was given to another.
 */
function create(image: string, lockPath: string): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      return createOwned(lockPath);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    const owner = liveOwner(lockPath);
    if (owner !== undefined) throw inUse(image, owner, lockPath);
    removeStale(lockPath);
  }
  throw inUse(image, undefined, lockPath);
}

function createOwned(lockPath: string): number {
  const fd = fs.openSync(lockPath, 'wx', 0o644);
  try {
    fs.writeSync(fd, `${JSON.stringify({ pid: process.pid, host: hostname() } satisfies Owner)}\n`);
    return fd;
  } catch (error) {
    fs.rmSync(lockPath, { force: true });
    fs.closeSync(fd);
    throw error;
  }
}

/**
 * Removes a lock file whose owner is gone. Of several processes that see it at once only one may: otherwise the second
 * would remove the new lock of the first.
 */
function removeStale(lockPath: string): void {
  const guard = `${lockPath}-takeover`;
  try {
    fs.closeSync(fs.openSync(guard, 'wx'));
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    // Takeovers last microseconds; what is older was left by a crash.
    if (ageOf(guard) > BEING_WRITTEN) fs.rmSync(guard, { force: true });
    return;
  }
  try {
    if (liveOwner(lockPath) === undefined) fs.rmSync(lockPath, { force: true });
  } finally {
    fs.rmSync(guard, { force: true });
  }
}

/** Who has the lock; undefined when nobody does any more. */
function liveOwner(lockPath: string): Partial<Owner> | undefined {
  let owner: Partial<Owner>;
  try {
    owner = JSON.parse(fs.readFileSync(lockPath, 'utf8'));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    if (!(error instanceof SyntaxError)) throw error;
    return ageOf(lockPath) > BEING_WRITTEN ? undefined : {};
  }
  if (!Number.isInteger(owner?.pid) || owner.pid! <= 0) return undefined;
  // Nobody here can look into another host; its user has to.
  if (owner.host !== hostname()) return owner;
  return (hasOpen(owner.pid!, lockPath) ?? isAlive(owner.pid!)) ? owner : undefined;
}

/** Whether a process has a file open; undefined when the host does not tell (no Linux, another user's process). */
function hasOpen(pid: number, path: string): boolean | undefined {
  let descriptors: string[];
  let file: fs.BigIntStats;
  const folder = `/proc/${pid}/fd`;
  try {
    descriptors = fs.readdirSync(folder);
    file = fs.statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
  return descriptors.some(d => {
    try {
      const s = fs.statSync(`${folder}/${d}`, { bigint: true });
      return s.dev === file.dev && s.ino === file.ino;
    } catch {
      return false; // closed meanwhile
    }
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

/** Milliseconds since the last change; 0 when the file is gone. */
function ageOf(path: string): number {
  const s = fs.statSync(path, { throwIfNoEntry: false });
  return s === undefined ? 0 : Date.now() - s.mtimeMs;
}

function inUse(image: string, owner: Partial<Owner> | undefined, lockPath?: string): VmError {
  const elsewhere = owner?.host !== undefined && owner.host !== hostname() ? ` on ${owner.host}` : '';
  const who = owner?.pid === undefined ? 'another process' : `process ${owner.pid}${elsewhere}`;
  const here = owner?.pid === process.pid && elsewhere === '';
  return new VmError('ERR_DISK', `disk: ${image} is in use by ${here ? 'this process' : who}`, {
    hint:
      elsewhere === ''
        ? 'give each VM an image of its own: add cow=FILE, or open it read-only'
        : `if no VM runs there any more, remove ${lockPath}`,
    details: { path: image, pid: owner?.pid, host: owner?.host, lock: lockPath },
  });
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}
