import type { Gpa } from '../../../memory/types.ts';
import { gather } from '../pieces.ts';
import { BALLOON_PAGE } from './regs.ts';

/** A range of guest-physical addresses. */
export interface PageRange {
  readonly base: Gpa;
  /** Bytes. */
  readonly size: number;
}

/**
 * Page numbers of one request that are looked at: 64 MiB of pages, 64 times what Linux puts into a request. The
 * specification has no limit; the device need not do anything with a page that it is given, so the rest is only
 * acknowledged.
 */
export const MAX_PFNS = 16384;

/**
 * The pages that an inflate request names (section 5.5.6: an array of le32 page numbers), in rising order, adjacent and
 * repeated ones in one range. What is not in `ram` is left out, so is an incomplete number at the end.
 */
export function pageRanges(readable: readonly Uint8Array[], ram: readonly PageRange[]): PageRange[] {
  const length = readable.reduce((sum, piece) => sum + piece.length, 0);
  const bytes = new Uint8Array(Math.min(length, 4 * MAX_PFNS));
  gather(readable, bytes);
  const view = new DataView(bytes.buffer);
  const pfns = new Uint32Array(bytes.length >> 2);
  for (let i = 0; i < pfns.length; i++) pfns[i] = view.getUint32(4 * i, true);
  // Linux takes pages from its free lists, in falling order or in none; sorted, many of them are one range.
  pfns.sort();

  const ranges: PageRange[] = [];
  let first = 0;
  for (let i = 1; i <= pfns.length; i++) {
    if (i < pfns.length && pfns[i]! - pfns[i - 1]! <= 1) continue;
    // A multiplication: page numbers of 32 bits are addresses of 44.
    clip(pfns[first]! * BALLOON_PAGE, (pfns[i - 1]! + 1) * BALLOON_PAGE, ram, ranges);
    first = i;
  }
  return ranges;
}

/** Adds what of the whole pages [start, end) is in `ram` to `ranges`. */
function clip(start: Gpa, end: Gpa, ram: readonly PageRange[], ranges: PageRange[]): void {
  for (const r of ram) {
    // Pages that only partly are RAM stay untouched.
    const from = Math.max(start, Math.ceil(r.base / BALLOON_PAGE) * BALLOON_PAGE);
    const to = Math.min(end, Math.floor((r.base + r.size) / BALLOON_PAGE) * BALLOON_PAGE);
    if (from < to) ranges.push({ base: from, size: to - from });
  }
}
