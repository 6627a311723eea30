/**
 * What the virtio-fs device needs of whoever has the files. The device knows the FUSE protocol, a file server knows files.
 *
 * Nodes and handles are positive integers that the server chooses and never reuses; node 1 is the root. A name is one
 * component of a path as a string of bytes (one character, 0 to 255, each), since names need not be UTF-8. Every method refuses
 * by throwing an error whose `code` is a name of `ERRNO`, for instance a `FileError`; anything else reaches the guest as EIO.
 * All arguments come from the guest: the server checks names, nodes and handles itself.
 *
 * What touches only names and attributes is synchronous: the guest gets its answer without a turn of the event loop, and no
 * two requests are ever half done at once. What moves data or waits for a disk returns a promise.
 */
export interface FileServer {
  /** Finds `name` in a directory, and counts one lookup of its node. A symbolic link is an answer, never followed. */
  lookup(parent: number, name: string): Entry;
  /** As {@link lookup}, without a node and without counting. */
  peek(parent: number, name: string): FileAttributes;
  /** Takes back `count` lookups; a node without any may be dropped. Unknown nodes are ignored. */
  forget(node: number, count: number): void;
  /** Attributes of a node, or of the open file `handle` of it where its name may be gone. */
  attributes(node: number, handle: number | undefined): FileAttributes;
  setAttributes(node: number, changes: AttributeChanges): FileAttributes;
  /** Contents of a symbolic link, as a string of bytes. */
  readLink(node: number): string;

  // What makes a name counts one lookup of the node. `mode` holds permissions; the guest has applied its umask.
  makeLink(parent: number, name: string, target: string): Entry;
  /** `mode` with S_IFMT. */
  makeNode(parent: number, name: string, mode: number): Entry;
  makeDirectory(parent: number, name: string, mode: number): Entry;
  /** A further name for `node`. */
  link(node: number, parent: number, name: string): Entry;
  create(parent: number, name: string, mode: number, access: OpenAccess): Entry & { readonly handle: number };

  unlink(parent: number, name: string): void;
  removeDirectory(parent: number, name: string): void;
  /** Replaces what is at the new name, unless `noReplace`. */
  rename(parent: number, name: string, newParent: number, newName: string, noReplace: boolean): void;

  open(node: number, access: OpenAccess): number;
  openDirectory(node: number): number;
  /** Closes a handle of either kind, after what is still using it. Unknown ones are ignored. */
  release(handle: number): void;
  /** Name number `index` of an open directory, without `.` and `..`; undefined at the end. 0 reads the directory anew. */
  directoryName(handle: number, index: number): string | undefined;

  /** Fills the buffers from `offset` (bytes) on; resolves to the number of bytes, smaller only at the end of the file. */
  read(handle: number, offset: number, buffers: readonly Uint8Array[]): Promise<number>;
  /** Resolves to the number of bytes written. */
  write(handle: number, offset: number, buffers: readonly Uint8Array[]): Promise<number>;
  /** Waits until the host's disk has what was written; `dataOnly` as fdatasync(2). For handles of either kind. */
  sync(handle: number, dataOnly: boolean): Promise<void>;

  /** Refuses what the host would refuse; bits of `mask` as in access(2): 4 read, 2 write, 1 execute. */
  access(node: number, mask: number): void;
  statistics(node: number): FileSystemStatistics;
  /** Forgets all nodes but the root and closes all handles: the guest has gone or starts anew. */
  reset(): void;
}

/** A node and what a lookup tells about it. */
export interface Entry {
  readonly node: number;
  readonly attributes: FileAttributes;
}

/** As in struct stat of Linux; times in ns since 1970, `blocks` of 512 bytes. */
export interface FileAttributes {
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Type and permissions. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** As the kernel encodes it in 32 bits: minor 7:0 and 31:20, major 19:8. */
  readonly rdev: number;
  readonly blksize: number;
}

/** What SETATTR changes; what is absent stays. */
export interface AttributeChanges {
  /** Permissions. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Bytes. */
  readonly size?: number;
  /** ns since 1970, or the host's time. */
  readonly atimeNs?: bigint | 'now';
  readonly mtimeNs?: bigint | 'now';
  /** The open file that the guest's program used. */
  readonly handle?: number;
}

/** How a file is opened: flags of open(2), whose numbers differ by architecture, by name. */
export interface OpenAccess {
  readonly read: boolean;
  readonly write: boolean;
  readonly append: boolean;
  readonly truncate: boolean;
  /** Fail with EEXIST where there is something (create only). */
  readonly exclusive: boolean;
}

/** As in struct statfs of Linux, in units of `bsize` bytes. */
export interface FileSystemStatistics {
  readonly blocks: bigint;
  readonly bfree: bigint;
  readonly bavail: bigint;
  readonly files: bigint;
  readonly ffree: bigint;
  readonly bsize: number;
  /** Longest name in bytes. */
  readonly namelen: number;
}
