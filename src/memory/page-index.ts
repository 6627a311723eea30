import { PIN_PAGE, type ShortPinsOnly } from './pin-types.ts';
import type { Gpa, Region } from './types.ts';

/** Pages of a block: 2 MiB, a huge page of both x86-64 and arm64 with 4 KiB granules. */
export const BLOCK_PAGES = 512;
const BLOCK_BYTES = BLOCK_PAGES * PIN_PAGE;
/** A power of two: as exact as a division, and faster. */
const PER_PAGE = 1 / PIN_PAGE;

/** Adjacent regions, which one pin may cross. */
export interface Span {
  readonly base: Gpa;
  readonly end: Gpa;
  /** `base` rounded down to a block; the page there has the index `first`, a multiple of BLOCK_PAGES. */
  readonly origin: Gpa;
  readonly first: number;
  readonly regions: readonly Region[];
  /** RAM throughout, which may be pinned for long. */
  readonly plain: boolean;
}

/**
 * Numbers the pages of guest memory from 0, so that arrays hold what is known of them. Blocks begin at multiples of BLOCK_PAGES, as
 * they do in guest-physical space; holes cost nothing but the rest of a block.
 */
export class PageIndex {
  readonly spans: readonly Span[];
  /** One more than the largest index; a multiple of BLOCK_PAGES. */
  readonly pages: number;
  /** Pages of RAM and ROM. */
  readonly memoryPages: number;
  readonly #shortOnly: readonly ShortPinsOnly[];
  /** The span of the last lookup, nearly always that of the next. */
  #last: Span;

  constructor(regions: readonly Region[], shortOnly: readonly ShortPinsOnly[] = []) {
    const spans: Span[] = [];
    let first = 0;
    for (const run of adjacent(regions)) {
      const { base } = run[0]!;
      const end = run.at(-1)!.base + run.at(-1)!.size;
      const origin = base - (base % BLOCK_BYTES);
      const limited = shortOnly.some(s => s.base < end && s.base + s.length > base);
      spans.push({ base, end, origin, first, regions: run, plain: !limited && run.every(r => r.kind === 'ram') });
      first += Math.ceil((end - origin) / BLOCK_BYTES) * BLOCK_PAGES;
    }
    this.spans = spans;
    this.pages = first;
    this.memoryPages = regions.reduce((sum, r) => sum + Math.ceil(r.size / PIN_PAGE), 0);
    this.#shortOnly = shortOnly;
    this.#last = spans[0] ?? { base: 0, end: 0, origin: 0, first: 0, regions: [], plain: true };
  }

  /** The span with all of [base, base + length), or undefined. */
  find(base: Gpa, length: number): Span | undefined {
    const last = this.#last;
    if (base >= last.base && base + length <= last.end) return last;
    const span = this.spans.find(s => base >= s.base && base + length <= s.end);
    if (span !== undefined) this.#last = span;
    return span;
  }

  /** First address from `base` on, below `end`, where no memory is; for messages. */
  firstHole(base: Gpa, end: Gpa): Gpa {
    const span = this.spans.find(s => base >= s.base && base < s.end);
    return span === undefined ? base : Math.min(span.end, end);
  }

  /** First read-only address of the range, or undefined. */
  firstRom(span: Span, base: Gpa, length: number): Gpa | undefined {
    const rom = span.regions.find(r => r.kind === 'rom' && r.base < base + length && r.base + r.size > base);
    return rom && Math.max(rom.base, base);
  }

  /** What keeps the range from being pinned for long, or undefined. */
  shortOnly(base: Gpa, length: number): ShortPinsOnly | undefined {
    return this.#shortOnly.find(s => s.base < base + length && s.base + s.length > base);
  }

  /** Address of a page. */
  baseOf(page: number): Gpa {
    const span = this.spans.findLast(s => s.first <= page);
    return span === undefined ? 0 : span.origin + (page - span.first) * PIN_PAGE;
  }

  /** Calls `f` with the indices of the pages that the range touches, span by span; parts outside of memory are left out. */
  eachTouched(base: Gpa, length: number, f: (first: number, end: number) => void): void {
    for (const s of this.spans) {
      const from = Math.max(base, s.base);
      const to = Math.min(base + length, s.end);
      if (from < to) f(indexOf(s, from), indexOf(s, to - 1) + 1);
    }
  }

  /** Calls `f` with the indices of the pages of RAM that lie wholly in the range, region by region. */
  eachWhole(base: Gpa, length: number, f: (first: number, end: number) => void): void {
    for (const s of this.spans) {
      for (const r of s.regions) {
        if (r.kind !== 'ram') continue;
        const from = Math.ceil(Math.max(base, r.base) / PIN_PAGE) * PIN_PAGE;
        const to = Math.floor(Math.min(base + length, r.base + r.size) / PIN_PAGE) * PIN_PAGE;
        if (from < to) f(indexOf(s, from), indexOf(s, to));
      }
    }
  }
}

/** Index of the page of an address of a span, or of its end. */
export function indexOf(span: Span, a: Gpa): number {
  // Offsets go beyond 2^32, page numbers do not: the quotient may be cut to an integer, the offset not.
  return span.first + (((a - span.origin) * PER_PAGE) | 0);
}

/** The regions in order of address, those without a hole between them together. */
function adjacent(regions: readonly Region[]): Region[][] {
  const runs: Region[][] = [];
  for (const r of [...regions].filter(r => r.size > 0).sort((a, b) => a.base - b.base)) {
    const before = runs.at(-1)?.at(-1);
    if (before !== undefined && before.base + before.size === r.base) runs.at(-1)!.push(r);
    else runs.push([r]);
  }
  return runs;
}
