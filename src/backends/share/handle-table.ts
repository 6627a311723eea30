import { closeSync } from 'node:fs';
import { FileError } from '../../devices/virtio/fs/errno.ts';
import type { ShareNode } from './node-table.ts';

/** An open file or directory of the guest. */
export class Handle {
  readonly id: number;
  readonly node: ShareNode;
  /** File descriptor; undefined for directories on hosts that cannot open them (Windows). */
  readonly fd: number | undefined;
  /** Of a directory: its names when the guest last began to read it. */
  names: readonly string[] | undefined;
  /** Calls on other threads that use the descriptor. */
  users = 0;
  released = false;

  constructor(id: number, node: ShareNode, fd: number | undefined) {
    this.id = id;
    this.node = node;
    this.fd = fd;
  }
}

/** Names in all open directories together. */
const MAX_NAMES = 1 << 20;

/** The guest's open files and directories; their numbers are never reused. */
export class HandleTable {
  readonly #maximum: number;
  readonly #handles = new Map<number, Handle>();
  #nextId = 1;
  /** Descriptors that are open, also of released handles that something still uses. */
  #open = 0;
  #names = 0;

  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** Handles that are not closed yet. */
  get size(): number {
    return this.#open;
  }

  /** Refuses when there is no room for another handle. @throws FileError ENFILE */
  reserve(): void {
    if (this.#open >= this.#maximum) throw new FileError('ENFILE');
  }

  add(node: ShareNode, fd: number | undefined): Handle {
    const handle = new Handle(this.#nextId++, node, fd);
    this.#handles.set(handle.id, handle);
    node.handles.add(handle);
    this.#open++;
    return handle;
  }

  /** @throws FileError EBADF */
  get(id: number): Handle {
    const handle = this.#handles.get(id);
    if (handle === undefined) throw new FileError('EBADF');
    return handle;
  }

  /**
   * Does something with a descriptor on other threads. It is closed only afterwards: its number could by then be another
   * file's, one that the guest must not touch. @throws FileError EBADF
   */
  async use<T>(id: number, work: (fd: number | undefined) => Promise<T>): Promise<T> {
    const handle = this.get(id);
    handle.users++;
    try {
      return await work(handle.fd);
    } finally {
      handle.users--;
      this.#closeUnused(handle);
    }
  }

  /** Remembers what is in an open directory. @throws FileError ENOMEM beyond {@link MAX_NAMES} */
  setNames(handle: Handle, names: readonly string[]): void {
    this.#names += names.length - (handle.names?.length ?? 0);
    handle.names = names;
    if (this.#names <= MAX_NAMES) return;
    this.#forgetNames(handle);
    throw new FileError('ENOMEM');
  }

  /** Gives the node whose handle it was; undefined for a number that is none. */
  release(id: number): ShareNode | undefined {
    const handle = this.#handles.get(id);
    if (handle === undefined) return undefined;
    this.#handles.delete(id);
    handle.node.handles.delete(handle);
    handle.released = true;
    this.#forgetNames(handle);
    this.#closeUnused(handle);
    return handle.node;
  }

  clear(): void {
    for (const id of [...this.#handles.keys()]) this.release(id);
  }

  #forgetNames(handle: Handle): void {
    this.#names -= handle.names?.length ?? 0;
    handle.names = undefined;
  }

  #closeUnused(handle: Handle): void {
    if (!handle.released || handle.users > 0) return;
    this.#open--;
    if (handle.fd !== undefined) closeQuietly(handle.fd);
  }
}

/** Closes a descriptor; an error of close(2) says that an earlier write failed, and there is nobody left to hear it. */
export function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // see above
  }
}
