import type { Gpa } from '../memory/types.ts';

const GIB = 2 ** 30;
const TWO_MIB = 2 ** 21;
const TABLE = 4096;
const ENTRIES = 512;
/** Bits of an entry: present, writable; of a page directory's: a page of 2 MiB (AMD64 APM volume 2, section 5.3.3). */
const PRESENT_WRITABLE = 0b11;
const PAGE_SIZE = 1 << 7;

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
  const bytes = new Uint8Array(identityMapSize(end));
  const d = new DataView(bytes.buffer);
  const pointerTable = TABLE;
  const directory = (i: number) => (1 + pointers + i) * TABLE;
  const set = (offset: number, address: Gpa, flags: number) => {
    d.setUint32(offset, (address % 2 ** 32) + flags, true); // addresses are aligned, the sum is an or
    d.setUint32(offset + 4, Math.floor(address / 2 ** 32), true);
  };
  for (let i = 0; i < pointers; i++) set(i * 8, at + pointerTable + i * TABLE, PRESENT_WRITABLE);
  // The pointer tables follow each other, as one table of more entries.
  for (let i = 0; i < directories; i++) {
    set(pointerTable + i * 8, at + directory(i), PRESENT_WRITABLE);
    for (let k = 0; k < ENTRIES; k++) {
      set(directory(i) + k * 8, i * GIB + k * TWO_MIB, PRESENT_WRITABLE + PAGE_SIZE);
    }
  }
  return bytes;
}
