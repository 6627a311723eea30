import type { BigIntStats } from 'node:fs';
import { FileError } from '../../devices/virtio/fs/errno.ts';
import type { Handle } from './handle-table.ts';

/** Types of files in `mode` (stat(2)); Node's constants lack some of them on Windows. */
export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;

/**
 * An object of the host that the guest knows, and where it was seen last: `name` in `parent`. The place is a hint that whoever
 * uses it has to verify by {@link key}; the guest's and the host's programs may move things.
 */
export class ShareNode {
  readonly id: number;
  /** What the host knows the object by, see {@link keyOf}. */
  readonly key: string;
  /** S_IFREG and so on; part of the key, so that it never changes. */
  readonly type: number;
  /** Absent for the root only. */
  parent: ShareNode | undefined;
  name: string;
  /** How often the guest got this node and has not taken back. */
  lookups = 0;
  /** Nodes whose place is in this one. */
  children = 0;
  readonly handles = new Set<Handle>();

  constructor(id: number, key: string, type: number, parent: ShareNode | undefined, name: string) {
    this.id = id;
    this.key = key;
    this.type = type;
    this.parent = parent;
    this.name = name;
  }
}

/** Identity of an object of the host: device, inode number and type, since hosts reuse inode numbers. */
export function keyOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}:${Number(stats.mode) & S_IFMT}`;
}

/** Numbers of nodes, which are never reused, and the counts of the guest's lookups. */
export class NodeTable {
  readonly root: ShareNode;
  readonly #maximum: number;
  readonly #dropped: (node: ShareNode) => void;
  readonly #byId = new Map<number, ShareNode>();
  readonly #byKey = new Map<string, ShareNode>();
  #nextId = 2;

  /** At most `maximum` nodes beside the root; `dropped` is called for each that goes. */
  constructor(root: BigIntStats, maximum: number, dropped: (node: ShareNode) => void) {
    this.root = new ShareNode(1, keyOf(root), S_IFDIR, undefined, '');
    this.#maximum = maximum;
    this.#dropped = dropped;
    this.clear();
  }

  /** Nodes, the root among them. */
  get size(): number {
    return this.#byId.size;
  }

  /** @throws FileError ESTALE for a number that the guest did not get or has taken back */
  get(id: number): ShareNode {
    const node = this.#byId.get(id);
    if (node === undefined) throw new FileError('ESTALE');
    return node;
  }

  /** Counts a lookup of the object that was seen as `name` in `parent`. @throws FileError ENFILE */
  enter(stats: BigIntStats, parent: ShareNode, name: string): ShareNode {
    const key = keyOf(stats);
    let node = this.#byKey.get(key);
    if (node === undefined) {
      this.reserve();
      node = new ShareNode(this.#nextId++, key, Number(stats.mode) & S_IFMT, parent, name);
      parent.children++;
      this.#byId.set(node.id, node);
      this.#byKey.set(key, node);
    } else this.#place(node, parent, name);
    node.lookups++;
    return node;
  }

  /** Refuses when there is no room for another node. @throws FileError ENFILE */
  reserve(): void {
    if (this.#byId.size > this.#maximum) throw new FileError('ENFILE');
  }

  /** The object of `key` has gone to another place. */
  moved(key: string, parent: ShareNode, name: string): void {
    const node = this.#byKey.get(key);
    if (node !== undefined) this.#place(node, parent, name);
  }

  forget(id: number, count: number): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    node.lookups = Math.max(0, node.lookups - count);
    this.collect(node);
  }

  /** Drops a node that nothing needs any more, and then perhaps the directories above. */
  collect(from: ShareNode): void {
    let node = from;
    while (node.lookups === 0 && node.children === 0 && node.handles.size === 0 && node.parent !== undefined) {
      if (this.#byId.delete(node.id)) {
        this.#byKey.delete(node.key);
        this.#dropped(node);
        node.parent.children--;
      }
      node = node.parent;
    }
  }

  /** Drops all nodes but the root. */
  clear(): void {
    for (const node of this.#byId.values()) if (node !== this.root) this.#dropped(node);
    this.#byId.clear();
    this.#byKey.clear();
    this.#byId.set(this.root.id, this.root);
    this.#byKey.set(this.root.key, this.root);
    this.root.children = this.root.lookups = 0;
  }

  #place(node: ShareNode, parent: ShareNode, name: string): void {
    if (node.parent === parent) node.name = name;
    if (node.parent === undefined || node.parent === parent) return;
    // What the host moves about while it is looked at could look like a directory inside of itself.
    for (let above: ShareNode | undefined = parent; above !== undefined; above = above.parent) {
      if (above === node) return;
    }
    const old = node.parent;
    node.parent = parent;
    node.name = name;
    parent.children++;
    old.children--;
    this.collect(old);
  }
}
