import type { Gpa, GuestMemory } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { BOOT_PARAMS_SIZE, makeBootParams, makeRngSeed } from './boot-params.ts';
import type { BzImageHeader } from './bzimage.ts';
import { type E820Entry, makeE820, type SizedRange, toRange } from './e820.ts';
import { hvmStartInfoSize, makeHvmStartInfo } from './hvm-start-info.ts';
import { identityMapSize, makeIdentityMap } from './identity-map.ts';
import {
  elfParts,
  highestPlace,
  lowestPlace,
  mib,
  overlap,
  type Part,
  type Range,
  rangeText,
  without,
  writePart,
} from './placement.ts';
import type { LoadedX86Kernel } from './x86-kernel.ts';

const MIB = 2 ** 20;
const FOUR_GIB = 2 ** 32;
const PAGE = 4096;
/** What is smaller than a page is kept in whole units of this many bytes, so that nothing shares one. */
const UNIT = 16;
/**
 * Boot data goes into [LOW_START, LOW_END) while there is room, else above 1 MiB. Page 0 stays free: 0 means "none" in much
 * of what the guest is told, and the BIOS data area of a PC was there. So does the end of low memory, where Linux puts a
 * trampoline before it has page tables of its own (arch/x86/boot/compressed/pgtable_64.c).
 */
const LOW_START = 0x1000;
const LOW_END = 0x9_0000;
/** What Linux assumes where no header says so: initrd_addr_max (boot.rst), and COMMAND_LINE_SIZE without the zero. */
const INITRD_ADDR_MAX = 0x7fff_ffff;
const CMDLINE_SIZE = 2047;
/** The limit for programs that are not Linux, so that a command line is no way to fill low memory. */
const PROGRAM_CMDLINE_SIZE = 0xffff;
/** Not for the initrd. */
const LOW_MEMORY: Range = { start: 0, end: MIB };
const STACK_SIZE = 4096;
/** The 64-bit entry point of a bzImage's protected-mode code (boot.rst, "64-bit Boot Protocol"). */
const STARTUP_64 = 0x200;

/** Segment descriptors, flat: code of 64 and of 32 bits, data (AMD64 APM volume 2, sections 4.7 and 4.8). */
const CODE64 = 0x00af_9b00_0000_ffffn;
const CODE32 = 0x00cf_9b00_0000_ffffn;
const DATA = 0x00cf_9300_0000_ffffn;
/** The selectors that boot.rst asks for are 0x10 (code) and 0x18 (data): the descriptors 2 and 3. */
const GDT_SIZE = 32;

/** What goes where; see {@link placeX86}. */
export interface X86Boot {
  readonly memory: GuestMemory;
  /** All RAM of the machine. */
  readonly ram: readonly SizedRange[];
  /** What the guest must not use as RAM, in RAM or beside it; where two overlap, the later one counts. */
  readonly reserved: readonly E820Entry[];
  readonly kernel: LoadedX86Kernel;
  readonly initrd?: Uint8Array | undefined;
  /** The kernel's command line. */
  readonly params: string;
  /** Where the ACPI tables' RSDP is, which is written by the caller; 0: there are none. */
  readonly acpiRsdp: Gpa;
  /** Random bytes for Linux's random number generator; not by PVH, which has no place for them. */
  readonly seed?: Uint8Array | undefined;
}

/**
 * The state that the first vCPU starts in. Segments are flat, CS is 0x10 and the others 0x18, interrupts are off, and registers
 * that are not named here are 0.
 */
export interface X86Start {
  /** 'long': 64-bit mode, paging by `cr3`; 'protected': 32-bit, paging off. */
  readonly mode: 'long' | 'protected';
  readonly rip: Gpa;
  /** The end of a page that nothing else is in. */
  readonly rsp: Gpa;
  /** boot_params for Linux's own entry points, else 0. */
  readonly rsi: Gpa;
  /** hvm_start_info for PVH and for bare-metal programs, else 0. */
  readonly rbx: Gpa;
  /** PML4; 'long' only, else 0. */
  readonly cr3: Gpa;
  /** GDTR: base, and limit in bytes. */
  readonly gdt: { readonly base: Gpa; readonly limit: number };
}

/** What {@link placeX86} is going to write, ordered by address, and how to start then. */
export interface X86Plan {
  readonly parts: readonly Part[];
  readonly start: X86Start;
}

/**
 * Copies a kernel, its initrd and all that it is told into guest memory: by Documentation/arch/x86/boot.rst for a bzImage and a
 * vmlinux of Linux, by PVH's start of day for everything else. A bzImage goes to its pref_address or, where that is
 * taken and it can be moved, to the next aligned place above; an ELF file to its segments' physical addresses. The
 * initrd goes as high as the kernel and 4 GiB allow, everything else as low as possible. Nothing is written before all of it
 * is known to fit.
 *
 * @throws VmError ERR_MEMORY_TOO_SMALL when more memory would help, ERR_DOES_NOT_FIT when it would not or when the command line
 *   or memory map is too long, ERR_KERNEL_CORRUPT for a broken ELF file.
 */
export function placeX86(boot: X86Boot): X86Start {
  const { parts, start } = planX86(boot);
  for (const part of parts) writePart(boot.memory, part);
  return start;
}

/** The plan that {@link placeX86} carries out. Throws as that does. */
export function planX86(boot: X86Boot): X86Plan {
  const { kernel } = boot;
  const usable = without(boot.ram.map(toRange), boot.reserved.map(toRange));
  const layout = new Layout(usable);
  const code =
    kernel.format === 'bzImage' ? bzImageParts(boot, kernel.header, usable) : programParts(boot, kernel.image, usable);
  for (const part of code) layout.add(part);
  const loadAddress = code[0]?.start ?? 0;

  const initrd = initrdPart(boot, layout.free(), code);
  if (initrd) layout.add(initrd);

  /** Puts `size` bytes of boot data as low as possible; `make` is told where. */
  const low = (what: string, size: number, align: number, make?: (at: Gpa) => Uint8Array): Gpa => {
    const free = layout.free();
    const start = lowestPlace(free, size, align, LOW_START, LOW_END) ?? lowestPlace(free, size, align, MIB, FOUR_GIB);
    if (start === undefined) throw tooSmall(boot, code);
    layout.add({ what, start, end: start + size, data: make?.(start) });
    return start;
  };

  const mode = kernel.format === 'pvh' || kernel.format === 'elf32' ? 'protected' : 'long';
  const stack = low('the stack', STACK_SIZE, PAGE);
  const gdt = low('the GDT', GDT_SIZE, UNIT, () => makeGdt(mode));
  const mapEnd = Math.max(FOUR_GIB, ...usable.map(r => r.end));
  const cr3 =
    mode === 'long' ? low('the page tables', identityMapSize(mapEnd), PAGE, at => makeIdentityMap(at, mapEnd)) : 0;
  const text = commandLineOf(boot);
  const commandLine = low('the command line', text.length, UNIT, () => text);

  const memoryMap = makeE820(boot.ram, boot.reserved);
  const told = { commandLine, initrd, acpiRsdp: boot.acpiRsdp, memoryMap };
  let [rsi, rbx] = [0, 0];
  if (kernel.format === 'bzImage' || kernel.format === 'vmlinux') {
    const seed = boot.seed?.length ? makeRngSeed(boot.seed) : undefined;
    const setupData = seed ? low('the seed', seed.length, UNIT, () => seed) : 0;
    const header = kernel.format === 'bzImage' ? kernel.header : undefined;
    const params = makeBootParams({ ...told, header, loadAddress, setupData });
    rsi = low('boot_params', BOOT_PARAMS_SIZE, PAGE, () => params);
  } else {
    rbx = low('hvm_start_info', hvmStartInfoSize(memoryMap.length), UNIT, at => makeHvmStartInfo(told, at));
  }

  const rip = kernel.format === 'bzImage' ? loadAddress + STARTUP_64 : kernel.entry;
  const start = { mode, rip, rsp: stack + STACK_SIZE, rsi, rbx, cr3, gdt: { base: gdt, limit: GDT_SIZE - 1 } } as const;
  return { parts: layout.parts(), start };
}

/** The kernel's code at its pref_address or above, and the room that it needs behind it. */
function bzImageParts(boot: X86Boot, header: BzImageHeader, usable: readonly Range[]): Part[] {
  const { relocatableKernel, kernelAlignment, prefAddress, protectedMode } = header;
  const size = Math.max(header.initSize, protectedMode.length);
  const align = relocatableKernel ? kernelAlignment : 1;
  // Not below pref_address: from there, the kernel would move itself up to it.
  const wanted = Math.ceil(prefAddress / align) * align;
  const limit = relocatableKernel ? FOUR_GIB : wanted + size;
  const start = lowestPlace(usable, size, align, wanted, limit);
  if (start === undefined) throw tooSmall(boot, [{ start: wanted, end: wanted + size }]);
  const end = start + protectedMode.length;
  return [
    { what: 'the kernel', start, end, data: protectedMode },
    { what: 'the room that the kernel needs', start: end, end: start + size, data: undefined },
  ];
}

/** The segments of an ELF file, which go where they are linked for. */
function programParts(boot: X86Boot, image: Uint8Array, usable: readonly Range[]): Part[] {
  const parts = elfParts(image);
  for (const part of parts) {
    if (usable.some(r => r.start <= part.start && part.end <= r.end)) continue;
    // Behind the end of RAM below 4 GiB there would be more with more memory; not so in a hole or among devices.
    if (part.end > lowEnd(boot) && part.end <= FOUR_GIB && !hasHighRam(boot)) throw tooSmall(boot, parts);
    const list = usable.map(rangeText).join(' and ');
    throw new VmError('ERR_DOES_NOT_FIT', `${part.what} is at ${rangeText(part)}, outside of RAM at ${list}`, {
      hint: "Link it for an address in RAM. ld's -n keeps the file's headers out of what is loaded.",
      details: { start: part.start, end: part.end },
    });
  }
  return parts;
}

/** The initrd, as high as the kernel takes it and below 4 GiB; undefined: there is none. */
function initrdPart(boot: X86Boot, free: readonly Range[], code: readonly Range[]): Part | undefined {
  const { kernel, initrd } = boot;
  if (!initrd || initrd.length === 0) return undefined;
  const start = highestPlace(without(free, [LOW_MEMORY]), initrd.length, PAGE, initrdLimit(kernel));
  if (start === undefined) throw tooSmall(boot, code);
  return { what: 'the initrd', start, end: start + initrd.length, data: initrd };
}

/** What the initrd must lie below. */
function initrdLimit(kernel: LoadedX86Kernel): Gpa {
  return 1 + (kernel.format === 'bzImage' ? kernel.header.initrdAddrMax : INITRD_ADDR_MAX);
}

/** UTF-8, with a zero behind it. */
function commandLineOf({ kernel, params }: X86Boot): Uint8Array {
  const text = new TextEncoder().encode(`${params}\0`);
  const limit =
    kernel.format === 'bzImage'
      ? kernel.header.cmdlineSize
      : kernel.format === 'vmlinux'
        ? CMDLINE_SIZE
        : PROGRAM_CMDLINE_SIZE;
  if (text.length - 1 > limit) {
    throw new VmError('ERR_DOES_NOT_FIT', `the command line has ${text.length - 1} bytes, the kernel takes ${limit}`, {
      hint: 'Shorten it.',
      details: { length: text.length - 1, limit },
    });
  }
  return text;
}

function makeGdt(mode: 'long' | 'protected'): Uint8Array {
  return new Uint8Array(BigUint64Array.of(0n, 0n, mode === 'long' ? CODE64 : CODE32, DATA).buffer);
}

/** What is placed where: no two parts share a unit, and all lie in usable RAM. */
class Layout {
  readonly #usable: readonly Range[];
  readonly #parts: Part[] = [];

  constructor(usable: readonly Range[]) {
    this.#usable = usable;
  }

  /** What is left. */
  free(): Range[] {
    const taken = this.#parts.map(p => ({
      start: Math.floor(p.start / UNIT) * UNIT,
      end: Math.ceil(p.end / UNIT) * UNIT,
    }));
    return without(this.#usable, taken);
  }

  add(part: Part): void {
    const inside = this.#usable.some(r => r.start <= part.start && part.end <= r.end);
    const other = this.#parts.find(p => overlap(p, part));
    if (!inside || other) {
      throw new VmError('ERR_INTERNAL', `${part.what} at ${rangeText(part)} is on ${other?.what ?? 'no RAM'}`);
    }
    this.#parts.push(part);
  }

  /** All parts, ordered by address. */
  parts(): Part[] {
    return [...this.#parts].sort((a, b) => a.start - b.start);
  }
}

/** True when RAM goes on above 4 GiB: then there is no more to be had below. */
function hasHighRam(boot: X86Boot): boolean {
  return boot.ram.some(r => r.base >= FOUR_GIB);
}

/** The end of RAM below 4 GiB. */
function lowEnd(boot: X86Boot): Gpa {
  return Math.max(0, ...boot.ram.filter(r => r.base < FOUR_GIB).map(r => Math.min(r.base + r.size, FOUR_GIB)));
}

/** The error for what does not fit with the kernel in `code`. */
function tooSmall(boot: X86Boot, code: readonly Range[]): VmError {
  const ramSize = boot.ram.reduce((sum, r) => sum + r.size, 0);
  const kernel = code.reduce((sum, r) => sum + r.end - r.start, 0);
  const initrd = boot.initrd?.length ?? 0;
  const needed = Math.max(...code.map(r => r.end)) + initrd + MIB;
  const sizes = `the kernel (${mib(kernel)}) and the initrd (${mib(initrd)})`;
  const details = { ramSize, kernel, initrd, needed };
  const limit = initrd > 0 ? initrdLimit(boot.kernel) : FOUR_GIB;
  if (hasHighRam(boot) || needed > limit) {
    return new VmError('ERR_DOES_NOT_FIT', `${sizes} do not fit below ${mib(limit)}`, {
      hint: initrd > 0 ? 'Use a smaller initrd.' : 'Use a kernel for an address in RAM.',
      details,
    });
  }
  const suggested = Math.ceil(needed / (64 * MIB)) * 64;
  return new VmError('ERR_MEMORY_TOO_SMALL', `${mib(ramSize)} of memory cannot hold ${sizes}`, {
    hint: `Give the machine more memory, at least ${suggested}M.`,
    details,
  });
}
