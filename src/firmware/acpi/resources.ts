import type { Gpa } from '../../memory/types.ts';
import { check, concat, u8, u16, u32, u64 } from './bytes.ts';

/** A range of memory addresses, ports or bus numbers: `size` of them from `base` on. */
export interface AcpiRange {
  readonly base: number;
  readonly size: number;
}

/** One resource descriptor (ACPI 6.5, section 6.4). */
export type Resource = Uint8Array;

// Item names of small (section 6.4.2) and large (6.4.3) descriptors. A small one has its length in bits 2:0.
const SMALL_IO = 0x47;
const SMALL_END_TAG = 0x79;
const LARGE_MEMORY32_FIXED = 0x86;
const LARGE_DWORD = 0x87;
const LARGE_WORD = 0x88;
const LARGE_INTERRUPT = 0x89;
const LARGE_QWORD = 0x8a;

// Resource type and type-specific flags of the address space descriptors (section 6.4.3.5).
const MEMORY = 0;
const IO = 1;
const BUS = 2;
const MEMORY_READ_WRITE = 1 << 0;
const IO_ENTIRE_RANGE = 3;
/** _MIF and _MAF: neither end may be moved. _DEC 0: decoded positively. Bit 0 clear: what a bridge produces. */
const FIXED_WINDOW = (1 << 2) | (1 << 3);

/**
 * The bytes of a resource template: the descriptors and the end tag with its checksum (section 6.4.2.9). They go into a
 * buffer: `name('_CRS', buffer(resourceTemplate(...)))`.
 */
export function resourceTemplate(...resources: readonly Resource[]): Uint8Array {
  const all = concat(...resources, u8(SMALL_END_TAG));
  return concat(all, u8(-all.reduce((sum, b) => sum + b, 0) & 0xff));
}

/** I/O Port Descriptor (section 6.4.2.5): fixed ports, at most 255, decoded with all 16 address bits. */
export function ioPorts(ports: AcpiRange): Resource {
  const decode16 = 1;
  const alignment = 1;
  return concat(u8(SMALL_IO, decode16), u16(ports.base, ports.base), u8(alignment, ports.size));
}

/**
 * Extended Interrupt Descriptor (section 6.4.3.6) of one global system interrupt, active high, that the device does not
 * share.
 */
export function interrupt(gsi: number, trigger: 'edge' | 'level'): Resource {
  const consumer = 1 << 0;
  const edge = 1 << 1;
  return large(LARGE_INTERRUPT, u8(consumer | (trigger === 'edge' ? edge : 0), 1), u32(gsi));
}

/** 32-Bit Fixed Memory Range Descriptor (section 6.4.3.4). */
export function memory32Fixed(range: AcpiRange, access: 'read-write' | 'read-only' = 'read-write'): Resource {
  return large(LARGE_MEMORY32_FIXED, u8(access === 'read-write' ? 1 : 0), u32(range.base, range.size));
}

/** Word Address Space Descriptor (section 6.4.3.5.3) of the bus numbers behind a host bridge. */
export function busNumbers(buses: AcpiRange): Resource {
  return window(LARGE_WORD, u16, u8(BUS, FIXED_WINDOW, 0), buses);
}

/** Word Address Space Descriptor of I/O ports that a bridge passes on, the same numbers on both sides. */
export function ioWindow(ports: AcpiRange): Resource {
  return window(LARGE_WORD, u16, u8(IO, FIXED_WINDOW, IO_ENTIRE_RANGE), ports);
}

/**
 * Address space descriptor of memory that a bridge passes on, the same addresses on both sides: a DWord one (section
 * 6.4.3.5.2) below 4 GiB, else a QWord one (6.4.3.5.1). Not cacheable, and not called prefetchable: Linux would keep
 * BARs that are not prefetchable out of it.
 */
export function memoryWindow(range: { readonly base: Gpa; readonly size: number }): Resource {
  const header = u8(MEMORY, FIXED_WINDOW, MEMORY_READ_WRITE);
  return range.base + range.size <= 2 ** 32
    ? window(LARGE_DWORD, u32, header, range)
    : window(LARGE_QWORD, u64, header, range);
}

/** Granularity 0, lowest and highest address, translation offset 0, length. */
function window(item: number, word: (...v: number[]) => Uint8Array, header: Uint8Array, range: AcpiRange): Resource {
  check(range.size > 0, 'a window without addresses');
  return large(item, header, word(0, range.base, range.base + range.size - 1, 0, range.size));
}

function large(item: number, ...parts: readonly Uint8Array[]): Resource {
  const body = concat(...parts);
  return concat(u8(item), u16(body.length), body);
}
