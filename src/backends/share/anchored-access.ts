import {
  accessSync,
  type BigIntStats,
  chmodSync,
  chownSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  type StatsFsBase,
  statfsSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { FileError } from '../../devices/virtio/fs/errno.ts';
import { closeQuietly } from './handle-table.ts';
import { type HostAccess, requireFile } from './host-access.ts';
import { keyOf, S_IFLNK, type ShareNode } from './node-table.ts';

/** open(2): a descriptor that stands for an object without opening it. Node has no name for it; the number is Linux's. */
const O_PATH = 0o10000000;

/** Deeper directories are not found again once their descriptor had to be closed. */
const MAX_DEPTH = 2048;

/** Fewest descriptors that do: more than one operation uses, so that none is closed under it. */
const MIN_HELD = 16;

/**
 * Access on Linux, free of races. A node's anchor is a descriptor of the very object, and paths start at anchors:
 * `/proc/self/fd/N` is that object whatever it is called by now, and `/proc/self/fd/N/NAME` is looked up by the kernel in the
 * directory that was opened. No component of such a path but the last can be a symbolic link, and the last is never followed,
 * so that nothing that is swapped meanwhile leads out of the share. This is openat(2) in the only form that Node offers.
 *
 * One thing is left to the host: a directory that somebody moves out of the share stays reachable while the guest holds it.
 */
export class AnchoredAccess implements HostAccess {
  readonly rootStats: BigIntStats;
  readonly #root: number;
  readonly #maximum: number;
  /** Anchors beside the root's, the one used longest ago first. Open handles serve as anchors too. */
  readonly #held = new Map<ShareNode, number>();

  /** Keeps at most `held` descriptors; `directory` may be a symbolic link. @throws what open(2) answers */
  constructor(directory: string, held: number) {
    this.#maximum = Math.max(held, MIN_HELD);
    this.#root = openSync(directory, O_PATH | constants.O_DIRECTORY);
    this.rootStats = fstatSync(this.#root, { bigint: true });
  }

  /** Whether this host's /proc leads to open descriptors. */
  static available(): boolean {
    if (process.platform !== 'linux') return false;
    try {
      const root = openSync('/', O_PATH | constants.O_DIRECTORY);
      try {
        const [a, b] = [fstatSync(root, { bigint: true }), statSync(self(root), { bigint: true })];
        return keyOf(a) === keyOf(b);
      } finally {
        closeQuietly(root);
      }
    } catch {
      return false;
    }
  }

  child(directory: ShareNode, name: string): Buffer {
    return inside(this.#anchor(directory), name);
  }

  stat(node: ShareNode): BigIntStats {
    const fd = this.#known(node);
    if (fd !== undefined) return fstatSync(fd, { bigint: true });
    const stats = lstatSync(inside(this.#anchor(node.parent!), node.name), { bigint: true });
    if (keyOf(stats) !== node.key) throw new FileError('ESTALE');
    return stats;
  }

  open(file: ShareNode, flags: number): number {
    requireFile(file);
    // O_NONBLOCK: a lease that another program holds is no reason to wait (fcntl(2)).
    return openSync(self(this.#anchor(file)), flags | constants.O_NONBLOCK);
  }

  openDirectory(directory: ShareNode): number {
    return openSync(self(this.#anchor(directory)), constants.O_RDONLY | constants.O_DIRECTORY);
  }

  list(directory: ShareNode): string[] {
    return readdirSync(self(this.#anchor(directory)), 'latin1');
  }

  chmod(node: ShareNode, mode: number): void {
    if (node.type === S_IFLNK) throw new FileError('EOPNOTSUPP'); // as Linux itself answers
    chmodSync(self(this.#anchor(node)), mode);
  }

  // Of a symbolic link the anchor is the link: /proc/self/fd/N is as good as its inode, there is nothing left to follow.
  chown(node: ShareNode, uid: number, gid: number): void {
    chownSync(self(this.#anchor(node)), uid, gid);
  }

  utimes(node: ShareNode, atime: string, mtime: string): void {
    utimesSync(self(this.#anchor(node)), atime, mtime);
  }

  access(node: ShareNode, mask: number): void {
    accessSync(self(this.#anchor(node)), mask);
  }

  statfs(node: ShareNode): StatsFsBase<bigint> {
    return statfsSync(self(this.#anchor(node)), { bigint: true });
  }

  drop(node: ShareNode): void {
    const fd = this.#held.get(node);
    this.#held.delete(node);
    if (fd !== undefined) closeQuietly(fd);
  }

  close(): void {
    for (const node of [...this.#held.keys()]) this.drop(node);
    closeQuietly(this.#root);
  }

  /** Descriptor of the node, if there is one at the moment. */
  #known(node: ShareNode): number | undefined {
    if (node.parent === undefined) return this.#root;
    const held = this.#held.get(node);
    if (held !== undefined) {
      this.#held.delete(node);
      this.#held.set(node, held);
      return held;
    }
    for (const handle of node.handles) if (handle.fd !== undefined) return handle.fd;
    return undefined;
  }

  /** Descriptor of the node, found again from the nearest directory that has one. */
  #anchor(node: ShareNode): number {
    const way: ShareNode[] = [];
    let at = node;
    let fd = this.#known(at);
    while (fd === undefined) {
      way.push(at);
      if (at.parent === undefined || way.length > MAX_DEPTH) throw new FileError('ESTALE');
      at = at.parent;
      fd = this.#known(at);
    }
    if (way.length === 0) return fd;
    let opened: number | undefined;
    for (const next of way.reverse()) {
      const above: number = opened ?? fd;
      try {
        opened = openVerified(above, next);
      } finally {
        if (above !== fd) closeQuietly(above);
      }
    }
    this.#held.set(node, opened!);
    if (this.#held.size > this.#maximum) this.drop(this.#held.keys().next().value!);
    return opened!;
  }
}

/** The object of an open descriptor, however it is called by now. */
function self(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** A name in an open directory. */
function inside(fd: number, name: string): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}/${name}`, 'latin1');
}

/** Descriptor of a node in the directory `fd`. @throws FileError ESTALE when something else is there */
function openVerified(fd: number, node: ShareNode): number {
  const opened = openSync(inside(fd, node.name), O_PATH | constants.O_NOFOLLOW);
  if (keyOf(fstatSync(opened, { bigint: true })) === node.key) return opened;
  closeQuietly(opened);
  throw new FileError('ESTALE');
}
