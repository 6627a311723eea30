import { VmError } from '../util/errors.ts';

/** File types of `mode`, as in POSIX <sys/stat.h>. */
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;

/** One file of a cpio archive. Owner, times and inode numbers are not kept: every file is root's, of 1970. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly path: string;
  /** Type and permission bits, e.g. `S_IFREG | 0o755`. */
  readonly mode: number;
  /** A file's bytes, or a symbolic link's target in UTF-8. */
  readonly data?: Uint8Array;
  /** Device numbers of a device node. */
  readonly major?: number;
  readonly minor?: number;
}

const HEADER = 110;
const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';

/**
 * An uncompressed cpio archive in the "newc" format that the kernel unpacks as an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst). The same entries always give the same bytes: they are
 * sorted by path (so a folder comes before what is in it), with all times zero.
 *
 * @throws VmError ERR_INTERNAL when a path is empty, absolute or used twice.
 */
export function createCpio(entries: readonly CpioEntry[]): Uint8Array {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const chunks: Uint8Array[] = [];
  let inode = 1;
  for (const [i, entry] of sorted.entries()) {
    if (entry.path === '' || entry.path.startsWith('/') || entry.path === sorted[i + 1]?.path) {
      throw new VmError(
        'ERR_INTERNAL',
        `cannot put '${entry.path}' into a cpio archive: the path is bad or used twice`,
      );
    }
    chunks.push(...record(entry, inode++));
  }
  chunks.push(...record({ path: TRAILER, mode: 0 }, 0));
  return concatBytes(chunks);
}

function record(entry: CpioEntry, inode: number): Uint8Array[] {
  const name = new TextEncoder().encode(`${entry.path}\0`);
  const data = entry.data ?? new Uint8Array(0);
  const links = (entry.mode & S_IFMT) === S_IFDIR ? 2 : 1;
  // c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_maj c_min c_rmaj c_rmin c_namesize c_chksum
  const fields = [
    inode,
    entry.mode,
    0,
    0,
    links,
    0,
    data.length,
    0,
    0,
    entry.major ?? 0,
    entry.minor ?? 0,
    name.length,
  ];
  const header = MAGIC + [...fields, 0].map(n => n.toString(16).padStart(8, '0')).join('');
  return [
    new TextEncoder().encode(header),
    name,
    new Uint8Array(-(HEADER + name.length) & 3),
    data,
    new Uint8Array(-data.length & 3),
  ];
}

/**
 * The entries of an uncompressed "newc" archive; data are views of `bytes`.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when the bytes are no such archive or end too early.
 */
export function readCpio(bytes: Uint8Array): CpioEntry[] {
  const entries: CpioEntry[] = [];
  const utf8 = new TextDecoder();
  for (let at = 0; ; ) {
    if (at + HEADER > bytes.length) throw corrupt(at, 'it ends without a trailer');
    const header = utf8.decode(bytes.subarray(at, at + HEADER));
    if (!header.startsWith(MAGIC)) throw corrupt(at, `there is no '${MAGIC}' header`);
    const field = (n: number): number => {
      const digits = header.slice(6 + 8 * n, 14 + 8 * n);
      if (!/^[0-9a-fA-F]{8}$/.test(digits)) throw corrupt(at, 'a field of the header is not hexadecimal');
      return Number.parseInt(digits, 16);
    };
    const nameSize = field(11);
    const dataAt = at + ((HEADER + nameSize + 3) & ~3);
    const dataEnd = dataAt + field(6);
    // A header's sizes are 32 bits wide: the sum is exact in a double, but `& ~3` needs the name to be inside first.
    if (nameSize < 1 || at + HEADER + nameSize > bytes.length || dataEnd > bytes.length) {
      throw corrupt(at, 'a file is longer than the archive');
    }
    const path = utf8.decode(bytes.subarray(at + HEADER, at + HEADER + nameSize - 1));
    if (path === TRAILER) return entries;
    const mode = field(1);
    const data = bytes.subarray(dataAt, dataEnd);
    entries.push({ path, mode, data, major: field(9), minor: field(10) });
    at = dataEnd + (-dataEnd & 3); // the archive itself starts aligned
  }
}

function corrupt(offset: number, why: string): VmError {
  return new VmError('ERR_KERNEL_CORRUPT', `not a usable cpio archive: at offset ${offset}, ${why}`, {
    hint: 'Build it with `cpio -o -H newc`, or leave the initrd out.',
    details: { offset },
  });
}

/** One array out of several. */
export function concatBytes(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((sum, c) => sum + c.length, 0));
  let at = 0;
  for (const c of chunks) {
    all.set(c, at);
    at += c.length;
  }
  return all;
}
