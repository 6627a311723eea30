import type { Gpa, GuestMemory } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { elfEntry, readElfHeader } from './elf.ts';
import type { LoadedKernel } from './kernel.ts';
import { elfParts, highestPlace, mib, type Part, type Range, rangeText, without, writePart } from './placement.ts';

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
  const ram: Range = { start: ramBase, end: ramBase + boot.ramSize };
  const parts = kernel.format === 'elf' ? programParts(kernel, ram) : [imagePart(kernel, boot)];

  const free = without([ram], parts);
  const dtbAddress = highestPlace(free, Math.max(dtbSize, 8), TWO_MIB, ramBase + 512 * MIB);
  if (dtbAddress === undefined) throw tooSmall(boot, parts);

  let initrdStart: Gpa | undefined;
  if (initrd !== undefined && initrd.length > 0) {
    const left = without(free, [{ start: dtbAddress, end: dtbAddress + TWO_MIB }]);
    const kernelStart = Math.min(...parts.map(p => p.start));
    const window = Math.floor(kernelStart / GIB) * GIB + INITRD_WINDOW;
    initrdStart =
      highestPlace(left, initrd.length, PAGE, Math.min(dtbAddress, window)) ??
      highestPlace(left, initrd.length, PAGE, window);
    if (initrdStart === undefined) throw tooSmall(boot, parts);
  }

  for (const part of parts) writePart(memory, part);
  if (initrd !== undefined && initrdStart !== undefined) memory.write(initrdStart, initrd);
  return {
    entry: kernel.format === 'elf' ? programEntry(kernel) : (parts[0]?.start ?? ramBase),
    dtbAddress,
    initrdStart,
    initrdEnd: initrdStart === undefined || initrd === undefined ? undefined : initrdStart + initrd.length,
  };
}

function imagePart(kernel: LoadedKernel, boot: Arm64Boot): Part {
  const start = Math.ceil(boot.ramBase / TWO_MIB) * TWO_MIB + kernel.textOffset;
  const end = start + Math.max(kernel.imageSize, kernel.image.length);
  const part = { what: 'the kernel', start, end, data: kernel.image };
  if (end > boot.ramBase + boot.ramSize) throw tooSmall(boot, [part]);
  return part;
}

function programParts(kernel: LoadedKernel, ram: Range): Part[] {
  const parts = elfParts(kernel.image);
  const outside = parts.find(p => p.start < ram.start || p.end > ram.end);
  if (outside) {
    throw new VmError(
      'ERR_DOES_NOT_FIT',
      `${outside.what} is at ${rangeText(outside)}, outside of RAM at ${rangeText(ram)}`,
      {
        hint: 'Link it for an address in RAM, or give the machine more memory.',
        details: { start: outside.start, end: outside.end },
      },
    );
  }
  return parts;
}

/** Where a bare-metal program starts: the MMU is off, so at the physical address. */
function programEntry(kernel: LoadedKernel): Gpa {
  const entry = elfEntry(kernel.image);
  if (entry === undefined || entry % 4 !== 0) {
    const { entry: virtual } = readElfHeader(kernel.image);
    throw new VmError('ERR_KERNEL_CORRUPT', `the ELF file's entry point ${hex(virtual)} is not an address of its code`);
  }
  return entry;
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
