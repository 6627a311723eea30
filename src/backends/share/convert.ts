import { type BigIntStats, readv, writev } from 'node:fs';
import { type ErrnoName, FileError } from '../../devices/virtio/fs/errno.ts';
import type { FileAttributes } from '../../devices/virtio/fs/file-server.ts';

/** Attributes for the guest. */
export function attributesOf(s: BigIntStats): FileAttributes {
  return {
    ino: s.ino,
    size: s.size,
    blocks: s.blocks ?? (s.size + 511n) / 512n, // Windows has none
    atimeNs: s.atimeNs,
    mtimeNs: s.mtimeNs,
    ctimeNs: s.ctimeNs,
    mode: Number(s.mode),
    nlink: Number(s.nlink),
    uid: Number(BigInt.asUintN(32, s.uid)),
    gid: Number(BigInt.asUintN(32, s.gid)),
    // The low half of glibc's and musl's dev_t is the kernel's 32-bit form.
    rdev: Number(BigInt.asUintN(32, s.rdev)),
    blksize: Number(s.blksize ?? 4096n),
  };
}

/**
 * A time for Node's utimes(), in seconds, of which a double holds about a quarter of a microsecond. Node cuts off what is
 * below a microsecond, so that a little is added to arrive at the right one. A string, since Node takes numbers below zero,
 * years before 1970, for the present.
 */
export function seconds(ns: bigint): string {
  const microseconds = Number(ns / 1000n);
  return String((microseconds + Math.sign(microseconds) * 0.25) / 1e6);
}

/** The host's time in the same form. */
export function now(): string {
  return String(Date.now() / 1000);
}

/** Refuses offsets and sizes that a number does not hold exactly, 8 PiB and more. */
export function checkOffset(offset: number, error: ErrnoName): void {
  if (!Number.isSafeInteger(offset)) throw new FileError(error);
}

/** Buffers that one call of readv(2) or writev(2) takes: IOV_MAX of Linux and macOS. */
const IOV_MAX = 1024;

type Vector = (
  fd: number,
  buffers: readonly NodeJS.ArrayBufferView[],
  position: number,
  done: (error: Error | null, bytes: number) => void,
) => void;

/** Fills buffers from `offset` on, to the end of the file; straight into guest RAM. Resolves to the number of bytes. */
export function readAll(fd: number, buffers: readonly Uint8Array[], offset: number): Promise<number> {
  return vectored(readv, fd, buffers, offset);
}

/** Writes buffers at `offset`. Resolves to the number of bytes, fewer when the disk is full. */
export function writeAll(fd: number, buffers: readonly Uint8Array[], offset: number): Promise<number> {
  return vectored(writev, fd, buffers, offset);
}

async function vectored(call: Vector, fd: number, all: readonly Uint8Array[], offset: number): Promise<number> {
  let done = 0;
  for (let i = 0; i < all.length; i += IOV_MAX) {
    const buffers = all.slice(i, i + IOV_MAX);
    const wanted = buffers.reduce((n, b) => n + b.length, 0);
    const bytes = await new Promise<number>((resolve, reject) => {
      // What has been done before an error counts; the guest's next request meets the error again.
      call(fd, buffers, offset + done, (error, n) =>
        error === null ? resolve(n) : done > 0 ? resolve(0) : reject(error),
      );
    });
    done += bytes;
    if (bytes < wanted) break;
  }
  return done;
}
