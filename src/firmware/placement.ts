import type { Gpa, GuestMemory } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { readElfSegments } from './elf.ts';

const MIB = 1 << 20;
/** Bytes of zeros that are written at a time. */
const ZEROS = 1 << 16;

/** A half-open range of guest-physical addresses. */
export interface Range {
  readonly start: Gpa;
  readonly end: Gpa;
}

/** A range that is taken, with the name that messages give it. */
export interface NamedRange extends Range {
  readonly what: string;
}

/** A range that is taken and what to fill it with. */
export interface Part extends NamedRange {
  /** Followed by zeros up to `end`; undefined: the range stays as it is. */
  readonly data: Uint8Array | undefined;
}

/** What is left of `ranges` without `holes`: ordered by address, no two of them touching each other. */
export function without(ranges: readonly Range[], holes: readonly Range[]): Range[] {
  const left: { start: Gpa; end: Gpa }[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = left.at(-1);
    if (last && start <= last.end) last.end = Math.max(last.end, end);
    else if (start < end) left.push({ start, end });
  }
  return holes.reduce<Range[]>((parts, hole) => parts.flatMap(p => cut(p, hole)), left);
}

function cut(range: Range, hole: Range): Range[] {
  if (hole.start >= hole.end || hole.start >= range.end || hole.end <= range.start) return [range];
  const pieces = [
    { start: range.start, end: hole.start },
    { start: hole.end, end: range.end },
  ];
  return pieces.filter(p => p.start < p.end);
}

/** The lowest address in `free` for `size` bytes, a multiple of `align`, in [from, below). */
export function lowestPlace(
  free: readonly Range[],
  size: number,
  align: number,
  from: Gpa = 0,
  below = Infinity,
): Gpa | undefined {
  const places = free.map(f => ({
    start: Math.ceil(Math.max(f.start, from) / align) * align,
    end: Math.min(f.end, below),
  }));
  const fits = places.filter(p => p.start + size <= p.end).map(p => p.start);
  return fits.length === 0 ? undefined : Math.min(...fits);
}

/** The highest address in `free` for `size` bytes, a multiple of `align`, that ends at or before `below`. */
export function highestPlace(free: readonly Range[], size: number, align: number, below: Gpa): Gpa | undefined {
  const places = free.map(f => ({
    start: Math.floor((Math.min(f.end, below) - size) / align) * align,
    from: f.start,
  }));
  const fits = places.filter(p => p.start >= p.from).map(p => p.start);
  return fits.length === 0 ? undefined : Math.max(...fits);
}

/**
 * The segments of an ELF file at their physical addresses.
 *
 * @throws VmError ERR_NOT_A_KERNEL when there is nothing to load, ERR_KERNEL_CORRUPT when two overlap or the file is broken.
 */
export function elfParts(image: Uint8Array): Part[] {
  const parts = readElfSegments(image).map((s, i) => ({
    what: `segment ${i} of the kernel`,
    start: s.address,
    end: s.address + s.size,
    data: s.data,
  }));
  if (parts.length === 0) {
    throw new VmError('ERR_NOT_A_KERNEL', 'the ELF file has nothing to load', {
      hint: 'Link it with a PT_LOAD segment.',
    });
  }
  for (const [i, part] of parts.entries()) {
    const other = parts.slice(0, i).find(p => overlap(p, part));
    if (other) throw new VmError('ERR_KERNEL_CORRUPT', `in the ELF file, ${part.what} overlaps ${other.what}`);
  }
  return parts;
}

/** True when the two share an address. */
export function overlap(a: Range, b: Range): boolean {
  return a.start < b.end && b.start < a.end;
}

/** Writes a part, its zeros included. */
export function writePart(memory: GuestMemory, part: Part): void {
  if (!part.data) return;
  memory.write(part.start, part.data);
  const zeros = new Uint8Array(ZEROS);
  for (let a = part.start + part.data.length; a < part.end; a += ZEROS) {
    memory.write(a, zeros.subarray(0, Math.min(ZEROS, part.end - a)));
  }
}

/** A size for messages: MiB, or KiB below one MiB. */
export function mib(bytes: number): string {
  return bytes < MIB && bytes > 0 ? `${Math.ceil(bytes / 1024)} KiB` : `${Math.ceil(bytes / MIB)} MiB`;
}

/** First and last address of a range, for messages. */
export function rangeText(r: Range): string {
  return `${hex(r.start)}-${hex(r.end - 1)}`;
}
