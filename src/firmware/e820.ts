import type { Gpa } from '../memory/types.ts';
import { type Range, without } from './placement.ts';

/** Type of an e820 range: usable RAM (ACPI 6.5, table 15.3; PVH has the same numbers). */
export const E820_RAM = 1;
/** Never RAM. */
export const E820_RESERVED = 2;
/** ACPI tables; RAM once they have been read. */
export const E820_ACPI = 3;
/** ACPI tables that stay. */
export const E820_NVS = 4;

/** One range of the memory map that the guest is given. */
export interface E820Entry {
  readonly base: Gpa;
  /** Bytes. */
  readonly size: number;
  readonly type: number;
}

/** A range with a start and a size, as address maps have it. */
export interface SizedRange {
  readonly base: Gpa;
  /** Bytes. */
  readonly size: number;
}

/** The other form of a range. */
export function toRange({ base, size }: SizedRange): Range {
  return { start: base, end: base + size };
}

/**
 * The memory map: RAM, and what of it or beside it is reserved. Ordered by address, no two entries overlap. Of
 * ranges in `reserved` that overlap, the later one counts.
 */
export function makeE820(ram: readonly SizedRange[], reserved: readonly E820Entry[]): E820Entry[] {
  const entries = (ranges: readonly Range[], type: number) =>
    ranges.map(({ start, end }) => ({ base: start, size: end - start, type }));
  const map = entries(without(ram.map(toRange), reserved.map(toRange)), E820_RAM);
  for (const [i, range] of reserved.entries()) {
    map.push(...entries(without([toRange(range)], reserved.slice(i + 1).map(toRange)), range.type));
  }
  return map.sort((a, b) => a.base - b.base);
}
