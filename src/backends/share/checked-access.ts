import {
  accessSync,
  type BigIntStats,
  constants,
  fchmodSync,
  fstatSync,
  lchownSync,
  lstatSync,
  lutimesSync,
  openSync,
  readdirSync,
  realpathSync,
  type StatsFsBase,
  statfsSync,
} from 'node:fs';
import { sep } from 'node:path';
import { FileError } from '../../devices/virtio/fs/errno.ts';
import { closeQuietly } from './handle-table.ts';
import { type HostAccess, requireFile } from './host-access.ts';
import { keyOf, S_IFDIR, S_IFLNK, type ShareNode } from './node-table.ts';

/** Deeper directories are refused: each use looks at all that lead there. */
const MAX_DEPTH = 256;

/**
 * Access by paths, for hosts without Linux's /proc: macOS, Windows. Before each use every component of the path is looked at
 * and has to be the object that it was when the guest found it, so that none of them can be a symbolic link; what is opened is
 * compared once more. The guest cannot get out, since its requests are served one after another.
 *
 * Weaker than AnchoredAccess: another program of the host that replaces a directory by a symbolic link between the look and
 * the use, some microseconds, can lead that one use out of the share. To read a file outside, it has to succeed twice, at the
 * lookup and at the opening, since an opened file is compared with what was looked up. Where programs that run on the host
 * are not trusted and may write to the shared directory, share it on Linux only.
 */
export class CheckedAccess implements HostAccess {
  readonly rootStats: BigIntStats;
  /** As a string of bytes, as names are. */
  readonly #root: string;

  /** `directory` may be a symbolic link. @throws what the host answers */
  constructor(directory: string) {
    this.#root = Buffer.from(realpathSync.native(directory)).toString('latin1');
    this.rootStats = lstatSync(bytes(this.#root), { bigint: true });
  }

  child(directory: ShareNode, name: string): Buffer {
    return bytes(this.#verified(directory) + sep + name);
  }

  stat(node: ShareNode): BigIntStats {
    for (const { fd } of node.handles) if (fd !== undefined) return fstatSync(fd, { bigint: true });
    return lstatSync(bytes(this.#verified(node)), { bigint: true });
  }

  open(file: ShareNode, flags: number): number {
    requireFile(file);
    return this.#open(file, flags);
  }

  openDirectory(directory: ShareNode): number | undefined {
    if (process.platform !== 'win32') return this.#open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    this.#verified(directory);
    return undefined;
  }

  list(directory: ShareNode): string[] {
    return readdirSync(bytes(this.#verified(directory)), 'latin1');
  }

  chmod(node: ShareNode, mode: number): void {
    if (node.type !== S_IFDIR) requireFile(node);
    const fd = this.#open(node, constants.O_RDONLY);
    try {
      fchmodSync(fd, mode);
    } finally {
      closeQuietly(fd);
    }
  }

  chown(node: ShareNode, uid: number, gid: number): void {
    lchownSync(bytes(this.#verified(node)), uid, gid);
  }

  utimes(node: ShareNode, atime: string, mtime: string): void {
    lutimesSync(bytes(this.#verified(node)), atime, mtime);
  }

  access(node: ShareNode, mask: number): void {
    // access(2) would follow a link; Linux asks for what it leads to, not for the link.
    if (node.type !== S_IFLNK) accessSync(bytes(this.#verified(node)), mask);
  }

  statfs(): StatsFsBase<bigint> {
    return statfsSync(bytes(this.#root), { bigint: true });
  }

  drop(): void {}

  close(): void {}

  #open(node: ShareNode, flags: number): number {
    // Where something else has come into the file's place, neither a fifo may wait nor a link be followed.
    const fd = openSync(bytes(this.#verified(node)), flags | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
    if (keyOf(fstatSync(fd, { bigint: true })) === node.key) return fd;
    closeQuietly(fd);
    throw new FileError('ESTALE');
  }

  /** Path of a node, all of whose components are what they were. */
  #verified(node: ShareNode): string {
    const way: ShareNode[] = [];
    for (let at: ShareNode | undefined = node; at !== undefined; at = at.parent) {
      way.push(at);
      if (way.length > MAX_DEPTH) throw new FileError('ENAMETOOLONG');
    }
    let path = this.#root;
    for (const next of way.reverse()) {
      if (next.parent !== undefined) path += sep + next.name;
      if (keyOf(lstatSync(bytes(path), { bigint: true })) !== next.key) throw new FileError('ESTALE');
    }
    return path;
  }
}

function bytes(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}
