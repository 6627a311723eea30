import type { Entry, FileAttributes } from './file-server.ts';
import { DIRENT_SIZE, ENTRY_OUT_SIZE } from './protocol.ts';
import type { Encoder } from './wire.ts';

/**
 * Seconds for which the guest may keep names and attributes without asking. What the host changes shows after this time at
 * the latest, or when the guest opens the file.
 */
const VALID_SECONDS = 1;

const NS = 1_000_000_000n;

/** struct fuse_attr */
function attributes(out: Encoder, a: FileAttributes): void {
  // Seconds round down, so that the rest is positive before 1970 too.
  const rest = (ns: bigint) => ((ns % NS) + NS) % NS;
  const seconds = (ns: bigint) => (ns - rest(ns)) / NS;
  out.u64(a.ino).u64(a.size).u64(a.blocks);
  out.u64(seconds(a.atimeNs)).u64(seconds(a.mtimeNs)).u64(seconds(a.ctimeNs));
  out
    .u32(Number(rest(a.atimeNs)))
    .u32(Number(rest(a.mtimeNs)))
    .u32(Number(rest(a.ctimeNs)));
  out.u32(a.mode).u32(a.nlink).u32(a.uid).u32(a.gid).u32(a.rdev).u32(a.blksize).u32(0);
}

/** struct fuse_attr_out */
export function attrOut(out: Encoder, a: FileAttributes): void {
  out.u64(VALID_SECONDS).u32(0).u32(0);
  attributes(out, a);
}

/** struct fuse_entry_out */
export function entryOut(out: Encoder, entry: Entry): void {
  // Nodes are never reused, so that all are of generation 0.
  out.u64(entry.node).u64(0).u64(VALID_SECONDS).u64(VALID_SECONDS).u32(0).u32(0);
  attributes(out, entry.attributes);
}

/** struct fuse_open_out without flags: the guest drops what it has of the file, which the host may have changed. */
export function openOut(out: Encoder, handle: number): void {
  out.u64(handle).u32(0).u32(0);
}

/** Bytes of a directory entry, `plus` those of its fuse_entry_out. Entries are aligned to 8 bytes. */
export function direntSize(name: string, plus: boolean): number {
  return (plus ? ENTRY_OUT_SIZE : 0) + ((DIRENT_SIZE + name.length + 7) & ~7);
}

/** struct fuse_dirent: `next` is the offset of the entry behind this one, `mode` gives the type. */
export function dirent(out: Encoder, name: string, next: number, ino: bigint | number, mode: number): void {
  const end = out.length + direntSize(name, false);
  out
    .u64(ino)
    .u64(next)
    .u32(name.length)
    .u32((mode >> 12) & 15)
    .string(name);
  out.skip(end - out.length);
}
