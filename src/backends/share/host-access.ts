import type { BigIntStats, StatsFsBase } from 'node:fs';
import { FileError } from '../../devices/virtio/fs/errno.ts';
import { S_IFDIR, S_IFLNK, S_IFREG, type ShareNode } from './node-table.ts';

/**
 * How a share gets at objects of the host without ever leaving its directory. Every method throws what the host answers, and
 * ESTALE where a node is no longer at its place. Paths are bytes, since names need not be UTF-8.
 */
export interface HostAccess {
  /** Of the shared directory. */
  readonly rootStats: BigIntStats;
  /** Path of a name in a directory, good for this turn and for calls that do not follow a symbolic link at its end. */
  child(directory: ShareNode, name: string): Buffer;
  stat(node: ShareNode): BigIntStats;
  /** Opens a regular file, and nothing else, with O_RDONLY, O_WRONLY or O_RDWR, and O_APPEND. */
  open(file: ShareNode, flags: number): number;
  openDirectory(directory: ShareNode): number | undefined;
  list(directory: ShareNode): string[];
  chmod(node: ShareNode, mode: number): void;
  /** -1 leaves an owner as it is. */
  chown(node: ShareNode, uid: number, gid: number): void;
  /** Seconds since 1970, see seconds() of convert.ts. */
  utimes(node: ShareNode, atime: string, mtime: string): void;
  access(node: ShareNode, mask: number): void;
  statfs(node: ShareNode): StatsFsBase<bigint>;
  /** The guest has no use for the node any more. */
  drop(node: ShareNode): void;
  close(): void;
}

/** Only regular files are opened: a fifo would wait, a device would do something. @throws FileError ELOOP, EISDIR, ENXIO */
export function requireFile(node: ShareNode): void {
  if (node.type === S_IFREG) return;
  throw new FileError(node.type === S_IFLNK ? 'ELOOP' : node.type === S_IFDIR ? 'EISDIR' : 'ENXIO');
}
