import type { Gpa } from '../memory/types.ts';

const GIB = 2 ** 30;
const TWO_MIB = 2 ** 21;
const TABLE = 4096;
const ENTRIES = 512;
/** Bits of an entry: present, writable; of a page directory's: a page of 2 MiB (AMD64 APM volume 2, section 5.3.3). */
const PRESENT_WRITABLE = 0b11n;
const PAGE_SIZE = 1n << 7n;

/** How many tables map [0, end): a PML4, page-directory-pointer tables of 512 GiB each, page directories of 1 GiB each. */
function counts(end: Gpa): { pointers: number; directories: number } {
  const directories = Math.ceil(end / GIB);
  return { pointers: Math.ceil(directories / ENTRIES), directories };
}

/** Bytes of {@link makeIdentityMap}. */
export function identityMapSize(end: Gpa): number {
  const { pointers, directories } = counts(end);
  return (1 + pointers + directories) * TABLE;
}

/**
 * Page tables for long mode that map [0, end), rounded up to a GiB, to itself; for the address `at`, a multiple of 4096, where
 * the PML4 comes first. Pages are of 2 MiB: every CPU has them, which cannot be said of pages of 1 GiB, and the
 * tables are no more than 4 KiB for a GiB.
 *
 * @param end at most 2^48.
 */
export function makeIdentityMap(at: Gpa, end: Gpa): Uint8Array {
  const { pointers, directories } = counts(end);
  const tables = new BigUint64Array(identityMapSize(end) / 8);
  const pointerTable = (i: number) => (1 + i) * TABLE;
  const directory = (i: number) => (1 + pointers + i) * TABLE;
  for (let i = 0; i < pointers; i++) tables[i] = BigInt(at + pointerTable(i)) | PRESENT_WRITABLE;
  for (let i = 0; i < directories; i++) {
    tables[pointerTable(0) / 8 + i] = BigInt(at + directory(i)) | PRESENT_WRITABLE;
    for (let k = 0; k < ENTRIES; k++) {
      tables[directory(i) / 8 + k] = BigInt(i * GIB + k * TWO_MIB) | PRESENT_WRITABLE | PAGE_SIZE;
    }
  }
  return new Uint8Array(tables.buffer);
}
