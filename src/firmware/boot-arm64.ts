import type { Gpa, GuestMemory } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { readElfHeader, readElfSegments } from './elf.ts';
import type { LoadedKernel } from './kernel.ts';

const MIB = 1 << 20;
const TWO_MIB = 2 * MIB;
const GIB = 1 << 30;
/** booting.rst, section 2: the device tree is at most 2 MiB and must not cross a 2 MiB boundary to be mapped in one block. */
const DTB_MAX = TWO_MIB;
/** booting.rst, section 3: kernel and initrd lie in one 1 GiB aligned window of up to 32 GiB. */
const INITRD_WINDOW = 32 * GIB;
const PAGE = 4096;

/** What goes where; see {@link placeArm64}. */
export interface Arm64Boot {
  readonly memory: GuestMemory;
  /** Start and size in bytes of the RAM that everything goes into. */
  readonly ramBase: Gpa;
  readonly ramSize: number;
  readonly kernel: LoadedKernel;
  readonly initrd?: Uint8Array | undefined;
  /** Bytes to reserve for the device tree, which is written by the caller: its contents depend on the placement. */
  readonly dtbSize: number;
}

/** Where everything went, and how to start: PC = `entry`, X0 = `dtbAddress`, X1 to X3 = 0. */
export interface Arm64Placement {
  readonly entry: Gpa;
  readonly dtbAddress: Gpa;
  /** First byte of the initrd and the byte behind its last; undefined without one. */
  readonly initrdStart: Gpa | undefined;
  readonly initrdEnd: Gpa | undefined;
}

/** A half-open range of guest-physical addresses that is taken. */
interface Range {
  readonly what: string;
  readonly start: Gpa;
  readonly end: Gpa;
}

/**
 * Copies kernel and initrd into guest memory and finds a place for the device tree, by the rules of
 * Documentation/arch/arm64/booting.rst. A Linux image goes to the start of RAM (2 MiB aligned, plus text_offset), an ELF file
 * to its segments' physical addresses. The device tree comes last in the lowest 512 MiB, the initrd just below it or, when
 * it does not fit there, behind it. Nothing is written before all of it is known to fit.
 *
 * @throws VmError ERR_MEMORY_TOO_SMALL when RAM cannot hold all of it, ERR_DOES_NOT_FIT when a part cannot be where it must
 *   be, ERR_KERNEL_CORRUPT for a broken ELF file.
 */
export function placeArm64(boot: Arm64Boot): Arm64Placement {
  const { memory, ramBase, kernel, initrd, dtbSize } = boot;
  if (dtbSize > DTB_MAX) {
    throw new VmError('ERR_DOES_NOT_FIT', `the device tree has ${dtbSize} bytes, Linux takes at most ${DTB_MAX}`);
  }
  const ram: Range = { what: 'RAM', start: ramBase, end: ramBase + boot.ramSize };
  const parts = kernel.format === 'elf' ? elfParts(kernel, ram) : [imagePart(kernel, boot)];
  const taken: Range[] = [...parts];

  const dtbAddress = findPlace(ram, taken, Math.max(dtbSize, 8), TWO_MIB, ramBase + 512 * MIB);
  if (dtbAddress === undefined) throw tooSmall(boot, parts);
  taken.push({ what: 'the device tree', start: dtbAddress, end: dtbAddress + TWO_MIB });

  let initrdStart: Gpa | undefined;
  if (initrd !== undefined && initrd.length > 0) {
    const kernelStart = Math.min(...parts.map(p => p.start));
    const window = Math.floor(kernelStart / GIB) * GIB + INITRD_WINDOW;
    initrdStart =
      findPlace(ram, taken, initrd.length, PAGE, Math.min(dtbAddress, window)) ??
      findPlace(ram, taken, initrd.length, PAGE, window);
    if (initrdStart === undefined) throw tooSmall(boot, parts);
  }

  for (const part of parts) {
    memory.write(part.start, part.data);
    fillZeros(memory, part.start + part.data.length, part.end);
  }
  if (initrd !== undefined && initrdStart !== undefined) memory.write(initrdStart, initrd);
  return {
    entry: kernel.format === 'elf' ? elfEntry(kernel) : (parts[0]?.start ?? ramBase),
    dtbAddress,
    initrdStart,
    initrdEnd: initrdStart === undefined || initrd === undefined ? undefined : initrdStart + initrd.length,
  };
}

interface Part extends Range {
  readonly data: Uint8Array;
}

function imagePart(kernel: LoadedKernel, boot: Arm64Boot): Part {
  const start = Math.ceil(boot.ramBase / TWO_MIB) * TWO_MIB + kernel.textOffset;
  const end = start + Math.max(kernel.imageSize, kernel.image.length);
  const part = { what: 'the kernel', start, end, data: kernel.image };
  if (end > boot.ramBase + boot.ramSize) throw tooSmall(boot, [part]);
  return part;
}

function elfParts(kernel: LoadedKernel, ram: Range): Part[] {
  const parts = readElfSegments(kernel.image).map((s, i) => ({
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
    if (part.start < ram.start || part.end > ram.end) {
      throw new VmError('ERR_DOES_NOT_FIT', `${part.what} is at ${range(part)}, outside of RAM at ${range(ram)}`, {
        hint: 'Link it for an address in RAM, or give the machine more memory.',
        details: { start: part.start, end: part.end },
      });
    }
    const other = parts.slice(0, i).find(p => p.start < part.end && part.start < p.end);
    if (other) throw new VmError('ERR_KERNEL_CORRUPT', `in the ELF file, ${part.what} overlaps ${other.what}`);
  }
  return parts;
}

/**
 * Where a bare-metal program starts: e_entry, translated to a physical address by the segment that it lies in, since the
 * MMU is off.
 */
function elfEntry(kernel: LoadedKernel): Gpa {
  const entry = Number(readElfHeader(kernel.image).entry);
  const segment = readElfSegments(kernel.image).find(s => entry >= s.vaddr && entry < s.vaddr + s.size);
  if (!segment || entry % 4 !== 0) {
    throw new VmError('ERR_KERNEL_CORRUPT', `the ELF file's entry point ${hex(entry)} is not an address of its code`);
  }
  return segment.address + (entry - segment.vaddr);
}

/** The highest aligned place below `below` for `size` bytes, clear of all that is taken. */
function findPlace(ram: Range, taken: readonly Range[], size: number, align: number, below: Gpa): Gpa | undefined {
  let start = Math.floor((Math.min(ram.end, below) - size) / align) * align;
  while (start >= ram.start) {
    const end = start + size;
    const blockers = taken.filter(t => t.start < end && start < t.end);
    if (blockers.length === 0) return start;
    start = Math.floor((Math.min(...blockers.map(b => b.start)) - size) / align) * align;
  }
  return undefined;
}

function fillZeros(memory: GuestMemory, from: Gpa, to: Gpa): void {
  if (to <= from) return;
  const view = memory.view(from, to - from);
  if (view) view.fill(0);
  else for (let a = from; a < to; a += PAGE) memory.write(a, new Uint8Array(Math.min(PAGE, to - a)));
}

function tooSmall(boot: Arm64Boot, parts: readonly Range[]): VmError {
  const kernel = parts.reduce((sum, p) => sum + (p.end - p.start), 0);
  const initrd = boot.initrd?.length ?? 0;
  const needed = Math.max(...parts.map(p => p.end)) - boot.ramBase + initrd + 2 * TWO_MIB;
  const suggested = Math.ceil(needed / (64 * MIB)) * 64;
  return new VmError(
    'ERR_MEMORY_TOO_SMALL',
    `${mib(boot.ramSize)} of memory cannot hold the kernel (${mib(kernel)}), the initrd (${mib(initrd)}) and a device tree`,
    {
      hint: `Give the machine more memory, at least ${suggested}M.`,
      details: { ramSize: boot.ramSize, kernel, initrd, needed },
    },
  );
}

function mib(bytes: number): string {
  return bytes < MIB && bytes > 0 ? `${Math.ceil(bytes / 1024)} KiB` : `${Math.ceil(bytes / MIB)} MiB`;
}

function hex(n: number): string {
  return `0x${n.toString(16)}`;
}

function range(r: Range): string {
  return `${hex(r.start)}-${hex(r.end - 1)}`;
}
