import {
  type BigIntStats,
  constants,
  fchmodSync,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { FileError } from '../../devices/virtio/fs/errno.ts';
import type {
  AttributeChanges,
  Entry,
  FileAttributes,
  FileServer,
  FileSystemStatistics,
  OpenAccess,
} from '../../devices/virtio/fs/file-server.ts';
import { NAME_MAX } from '../../devices/virtio/fs/protocol.ts';
import { attributesOf, checkOffset, now, readAll, seconds, writeAll } from './convert.ts';
import { closeQuietly, type Handle, HandleTable } from './handle-table.ts';
import type { HostAccess } from './host-access.ts';
import { checkBytes, checkName } from './names.ts';
import { keyOf, NodeTable, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type ShareNode } from './node-table.ts';

/** Set-user-ID and set-group-ID. */
const S_ISUGID = 0o6000;

const W_OK = 2;

const fsyncLater = promisify(fsync);
const fdatasyncLater = promisify(fdatasync);

/** What a {@link Share} is made of. */
export interface ShareParts {
  readonly access: HostAccess;
  /** Every change is refused with EROFS. */
  readonly readOnly: boolean;
  /** Most objects that the guest may know at once, and most files and directories that it may have open. */
  readonly maxNodes: number;
  readonly maxHandles: number;
}

/**
 * A directory of the host as the files of a guest.
 *
 * Owners and groups are the host's numbers. What the guest makes belongs to the user that runs tsvisor, whoever made it in the
 * guest, and the host checks that user's rights. Set-user-ID and set-group-ID bits of files cannot be set, since the
 * guest would set them for that user; those that are there stay. Fifos, sockets and devices can be seen but neither opened nor
 * made. Symbolic links go to the guest as they are, and it alone follows them, in its own tree; programs on the host that
 * read a shared directory should know that the guest can write links. Times are set in whole microseconds. There are no
 * extended attributes and no locks between guest and host.
 *
 * Inode numbers are the host's; where other file systems are mounted inside of the share, two files may have the same one.
 */
export class Share implements FileServer {
  readonly #access: HostAccess;
  readonly #readOnly: boolean;
  readonly #nodes: NodeTable;
  readonly #handles: HandleTable;

  constructor({ access, readOnly, maxNodes, maxHandles }: ShareParts) {
    this.#access = access;
    this.#readOnly = readOnly;
    this.#nodes = new NodeTable(access.rootStats, maxNodes, node => access.drop(node));
    this.#handles = new HandleTable(maxHandles);
  }

  /** How many objects of the host and how many descriptors the guest holds, for tests and for people. */
  get holds(): { readonly nodes: number; readonly handles: number } {
    return { nodes: this.#nodes.size, handles: this.#handles.size };
  }

  lookup(parent: number, name: string): Entry {
    return this.#enter(this.#directory(parent), name);
  }

  peek(parent: number, name: string): FileAttributes {
    return attributesOf(this.#lstat(this.#directory(parent), name));
  }

  forget(node: number, count: number): void {
    this.#nodes.forget(node, count);
  }

  attributes(node: number, handle: number | undefined): FileAttributes {
    const fd = handle === undefined ? undefined : this.#handles.get(handle).fd;
    return attributesOf(fd === undefined ? this.#access.stat(this.#nodes.get(node)) : fstatSync(fd, { bigint: true }));
  }

  setAttributes(id: number, changes: AttributeChanges): FileAttributes {
    this.#writable();
    const node = this.#nodes.get(id);
    const access = this.#access;
    const { mode, uid, gid, size, atimeNs, mtimeNs } = changes;
    if (size !== undefined) this.#truncate(node, size, changes.handle);
    // An owner first: a change of it takes bits from the mode.
    if (uid !== undefined || gid !== undefined) access.chown(node, uid ?? -1, gid ?? -1);
    if (mode !== undefined) {
      if (node.type !== S_IFDIR && mode & S_ISUGID & ~Number(access.stat(node).mode)) throw new FileError('EPERM');
      access.chmod(node, mode & 0o7777);
    }
    if (atimeNs !== undefined || mtimeNs !== undefined) {
      const old = access.stat(node);
      const time = (change: bigint | 'now' | undefined, ns: bigint) =>
        change === 'now' ? now() : seconds(change ?? ns);
      access.utimes(node, time(atimeNs, old.atimeNs), time(mtimeNs, old.mtimeNs));
    }
    return attributesOf(access.stat(node));
  }

  readLink(id: number): string {
    const node = this.#nodes.get(id);
    if (node.type !== S_IFLNK) throw new FileError('EINVAL');
    return readlinkSync(this.#place(node), 'latin1');
  }

  makeLink(parent: number, name: string, target: string): Entry {
    const directory = this.#making(parent, name);
    checkBytes(target);
    symlinkSync(Buffer.from(target, 'latin1'), this.#access.child(directory, name));
    return this.#enter(directory, name);
  }

  makeNode(parent: number, name: string, mode: number): Entry {
    const type = mode & S_IFMT;
    // Node has no mknod(2); open(2) makes regular files.
    if (type !== 0 && type !== S_IFREG) throw new FileError('EPERM');
    const directory = this.#making(parent, name);
    const { fd, stats } = this.#make(directory, name, mode, constants.O_WRONLY);
    closeQuietly(fd);
    return this.#entry(this.#nodes.enter(stats, directory, name), stats);
  }

  makeDirectory(parent: number, name: string, mode: number): Entry {
    const directory = this.#making(parent, name);
    mkdirSync(this.#access.child(directory, name), mode & 0o1777);
    const made = this.#enter(directory, name);
    // The guest has applied its umask; that of this process has been applied too. Bits that the host added stay.
    const wanted = (mode & 0o1777) | (made.attributes.mode & S_ISUGID);
    if (wanted === (made.attributes.mode & 0o7777)) return made;
    const node = this.#nodes.get(made.node);
    if (node.type === S_IFDIR) ifPossible(() => this.#access.chmod(node, wanted));
    return this.#entry(node, this.#access.stat(node));
  }

  link(id: number, parent: number, name: string): Entry {
    const directory = this.#making(parent, name);
    const node = this.#nodes.get(id);
    // link(2) of other systems than Linux may follow the link, out of the share.
    if (node.type === S_IFLNK && process.platform !== 'linux') throw new FileError('EPERM');
    linkSync(this.#place(node), this.#access.child(directory, name));
    const made = this.#enter(directory, name);
    if (made.node === id) return made;
    this.#nodes.forget(made.node, 1); // somebody on the host was faster
    throw new FileError('ESTALE');
  }

  create(parent: number, name: string, mode: number, access: OpenAccess): Entry & { readonly handle: number } {
    const directory = this.#making(parent, name);
    this.#handles.reserve();
    try {
      const { fd, stats } = this.#make(directory, name, mode, flagsOf(access));
      const node = this.#nodes.enter(stats, directory, name); // has room, see #making()
      return { ...this.#entry(node, stats), handle: this.#handles.add(node, fd).id };
    } catch (error) {
      // The host may have made the file since the guest looked; it is then opened as any other.
      if (access.exclusive || !(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    const found = this.#enter(directory, name);
    try {
      return { ...found, handle: this.open(found.node, access) };
    } catch (error) {
      this.#nodes.forget(found.node, 1);
      throw error;
    }
  }

  unlink(parent: number, name: string): void {
    unlinkSync(this.#access.child(this.#changing(parent, name), name));
  }

  removeDirectory(parent: number, name: string): void {
    rmdirSync(this.#access.child(this.#changing(parent, name), name));
  }

  rename(parent: number, name: string, newParent: number, newName: string, noReplace: boolean): void {
    const from = this.#changing(parent, name);
    const to = this.#changing(newParent, newName);
    const key = keyOf(this.#lstat(from, name));
    const target = this.#access.child(to, newName);
    // Node has no renameat2(2): a file that the host makes between these two calls is replaced.
    if (noReplace && lstatSync(target, { throwIfNoEntry: false }) !== undefined) throw new FileError('EEXIST');
    renameSync(this.#access.child(from, name), target);
    this.#nodes.moved(key, to, newName);
  }

  open(id: number, access: OpenAccess): number {
    if (access.write || access.truncate) this.#writable();
    this.#handles.reserve();
    const node = this.#nodes.get(id);
    const fd = this.#access.open(node, flagsOf(access));
    try {
      if (access.truncate) this.#truncate(node, 0, undefined);
    } catch (error) {
      closeQuietly(fd);
      throw error;
    }
    return this.#handles.add(node, fd).id;
  }

  openDirectory(id: number): number {
    this.#handles.reserve();
    const node = this.#directory(id);
    return this.#handles.add(node, this.#access.openDirectory(node)).id;
  }

  release(handle: number): void {
    const node = this.#handles.release(handle);
    if (node !== undefined) this.#nodes.collect(node);
  }

  directoryName(id: number, index: number): string | undefined {
    const handle = this.#handles.get(id);
    if (handle.node.type !== S_IFDIR) throw new FileError('ENOTDIR');
    if (index === 0 || handle.names === undefined) this.#handles.setNames(handle, this.#access.list(handle.node));
    return handle.names?.[index];
  }

  async read(handle: number, offset: number, buffers: readonly Uint8Array[]): Promise<number> {
    checkOffset(offset, 'EINVAL');
    return this.#handles.use(handle, fd => readAll(this.#file(handle, fd), buffers, offset));
  }

  async write(handle: number, offset: number, buffers: readonly Uint8Array[]): Promise<number> {
    this.#writable();
    checkOffset(offset, 'EFBIG');
    return this.#handles.use(handle, fd => writeAll(this.#file(handle, fd), buffers, offset));
  }

  async sync(handle: number, dataOnly: boolean): Promise<void> {
    await this.#handles.use(handle, async fd => {
      if (fd !== undefined) await (dataOnly ? fdatasyncLater(fd) : fsyncLater(fd));
    });
  }

  access(node: number, mask: number): void {
    if (mask & W_OK) this.#writable();
    this.#access.access(this.#nodes.get(node), mask & 7);
  }

  statistics(node: number): FileSystemStatistics {
    const { blocks, bfree, bavail, files, ffree, bsize } = this.#access.statfs(this.#nodes.get(node));
    return { blocks, bfree, bavail, files, ffree, bsize: Number(bsize), namelen: NAME_MAX };
  }

  reset(): void {
    this.#handles.clear();
    this.#nodes.clear();
  }

  /** Gives everything back to the host; no method may be called any more. What still runs ends by itself. */
  close(): void {
    this.reset();
    this.#access.close();
  }

  #writable(): void {
    if (this.#readOnly) throw new FileError('EROFS');
  }

  #directory(id: number): ShareNode {
    const node = this.#nodes.get(id);
    if (node.type !== S_IFDIR) throw new FileError('ENOTDIR');
    return node;
  }

  /** The directory in which `name` is about to change. */
  #changing(parent: number, name: string): ShareNode {
    this.#writable();
    checkName(name);
    return this.#directory(parent);
  }

  /** The directory in which `name` is about to be made. Looks for room first: nothing is made that cannot be told. */
  #making(parent: number, name: string): ShareNode {
    this.#nodes.reserve();
    return this.#changing(parent, name);
  }

  #lstat(directory: ShareNode, name: string): BigIntStats {
    checkName(name);
    const stats = lstatSync(this.#access.child(directory, name), { bigint: true, throwIfNoEntry: false });
    if (stats === undefined) throw new FileError('ENOENT');
    return stats;
  }

  #enter(directory: ShareNode, name: string): Entry {
    const stats = this.#lstat(directory, name);
    return this.#entry(this.#nodes.enter(stats, directory, name), stats);
  }

  #entry(node: ShareNode, stats: BigIntStats): Entry {
    return { node: node.id, attributes: attributesOf(stats) };
  }

  /** Path of the node's own name, for calls that name an object and do not follow links. @throws FileError ESTALE, EPERM */
  #place(node: ShareNode): Buffer {
    if (node.parent === undefined) throw new FileError('EPERM');
    if (keyOf(this.#lstat(node.parent, node.name)) !== node.key) throw new FileError('ESTALE');
    return this.#access.child(node.parent, node.name);
  }

  /** Makes a regular file that was not there: O_EXCL follows no link, not even a dangling one. */
  #make(directory: ShareNode, name: string, mode: number, flags: number): { fd: number; stats: BigIntStats } {
    const path = this.#access.child(directory, name);
    const fd = openSync(path, flags | constants.O_CREAT | constants.O_EXCL, mode & 0o777);
    try {
      // As in makeDirectory(); the file is known by its descriptor.
      if ((fstatSync(fd).mode & 0o777) !== (mode & 0o777)) ifPossible(() => fchmodSync(fd, mode & 0o1777));
      return { fd, stats: fstatSync(fd, { bigint: true }) };
    } catch (error) {
      closeQuietly(fd);
      throw error;
    }
  }

  #truncate(node: ShareNode, size: number, handle: number | undefined): void {
    checkOffset(size, 'EFBIG');
    const opened = handle === undefined ? undefined : this.#handles.get(handle);
    if (opened?.fd !== undefined && opened.node === node) {
      ftruncateSync(opened.fd, size);
      return;
    }
    const fd = this.#access.open(node, constants.O_WRONLY);
    try {
      ftruncateSync(fd, size);
    } finally {
      closeQuietly(fd);
    }
  }

  /** The descriptor of an open file for reading and writing. */
  #file(handle: number, fd: number | undefined): number {
    const { node }: Handle = this.#handles.get(handle);
    if (fd === undefined || node.type !== S_IFREG) throw new FileError('EISDIR');
    return fd;
  }
}

/** Sets permissions of what has just been made. File systems that have none refuse, and the guest sees what it got. */
function ifPossible(change: () => void): void {
  try {
    change();
  } catch {
    // see above
  }
}

/** Flags of the host's open(2). */
function flagsOf({ read, write, append }: OpenAccess): number {
  const mode = write ? (read ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY;
  return append ? mode | constants.O_APPEND : mode;
}
