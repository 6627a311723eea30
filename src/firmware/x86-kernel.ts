import type { Gpa } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { type BzImageHeader, isBzImage, readBzImage } from './bzimage.ts';
import { gunzip, gunzipStart, isGzip } from './decompress.ts';
import {
  EM_386,
  EM_X86_64,
  ET_DYN,
  ET_EXEC,
  elfEntry,
  elfMachineName,
  isElf,
  readElfHeader,
  readElfNotes,
  readElfSegments,
} from './elf.ts';
import { type LoadKernelOptions, notAKernel, wrongArchitecture } from './kernel.ts';

/** A kernel of Linux with its setup code and decompressor. */
export interface LoadedBzImage {
  readonly format: 'bzImage';
  readonly header: BzImageHeader;
}

/**
 * An ELF file and how it starts:
 *
 * - `vmlinux`: Linux at its 64-bit entry point, boot_params in RSI;
 * - `pvh`: at the PVH entry point, 32-bit protected mode, hvm_start_info in EBX;
 * - `elf64`: a bare-metal program in long mode, hvm_start_info in RBX;
 * - `elf32`: the same in 32-bit protected mode.
 */
export interface LoadedX86Elf {
  readonly format: 'vmlinux' | 'pvh' | 'elf64' | 'elf32';
  /** The ELF file, unpacked. */
  readonly image: Uint8Array;
  /** The physical address that it starts at. */
  readonly entry: Gpa;
}

/** An x86 kernel ready to be placed into guest memory. */
export type LoadedX86Kernel = LoadedBzImage | LoadedX86Elf;

/** Options of {@link loadX86Kernel}. */
export interface LoadX86KernelOptions extends LoadKernelOptions {
  /**
   * The entry point to use where there is a choice. 'linux64': Linux's 64-bit one, also of an ELF file that does not look
   * like Linux. 'pvh': that of the PVH note. Default: 'linux64' for Linux, because only boot_params can carry a seed for its
   * random numbers and because it is what a bzImage does; 'pvh' for any other program with the note.
   */
  readonly entry?: 'linux64' | 'pvh' | undefined;
}

const DEFAULT_LIMIT = 512 << 20;
const HINT = 'Give an x86-64 Linux kernel (bzImage, as /boot/vmlinuz is, or vmlinux) or an ELF file for x86.';
/** A note of owner "Xen": the physical address of the 32-bit PVH entry point (xen/include/public/elfnote.h). */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** Where Linux maps its image: __START_KERNEL_map (Documentation/arch/x86/x86_64/mm.rst, "kernel text mapping"). */
const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;
/** More than any of the headers that tell what a file is needs. */
const START = 1024;

/**
 * True for what {@link loadX86Kernel} takes, judged by the first bytes, also within gzip: a bzImage or an ELF file of
 * 32-bit x86 or x86-64. Cheap, and never throws: for choosing the machine.
 */
export function isX86Kernel(bytes: Uint8Array): boolean {
  const start = isGzip(bytes) ? gunzipStart(bytes, START) : bytes;
  if (isBzImage(start)) return true;
  // Byte 5 is EI_DATA, 1 for little-endian; e_machine is at 18 in files of both classes.
  if (!isElf(start) || start.length < 20 || start[5] !== 1) return false;
  const machine = (start[18] ?? 0) | ((start[19] ?? 0) << 8);
  return machine === EM_386 || machine === EM_X86_64;
}

/**
 * Unpacks and checks an x86 kernel.
 *
 * An ELF file counts as Linux when it has a note of owner "Linux", which every kernel since 4.19 has; or, for older ones, when
 * it is linked as Linux is: mapped at __START_KERNEL_map, but with a physical address as its entry point. A bare-metal
 * program built like that gets its boot information in RSI, not RBX; nothing else differs.
 *
 * @throws VmError ERR_NOT_A_KERNEL saying what the file looks like instead, ERR_WRONG_ARCHITECTURE for a kernel of another
 *   machine, ERR_KERNEL_CORRUPT for a damaged file, ERR_DOES_NOT_FIT when it unpacks to more than the limit, ERR_USAGE when
 *   it has not the entry point asked for.
 */
export function loadX86Kernel(bytes: Uint8Array, options: LoadX86KernelOptions = {}): LoadedX86Kernel {
  const { limit = DEFAULT_LIMIT, what = 'the kernel', entry } = options;
  // What was packed must be a kernel itself: archives within archives are not searched.
  if (isGzip(bytes)) return loadUnpacked(gunzip(bytes, limit, what), `${what}, unpacked,`, entry);
  return loadUnpacked(bytes, what, entry);
}

function loadUnpacked(image: Uint8Array, what: string, entry: 'linux64' | 'pvh' | undefined): LoadedX86Kernel {
  if (isBzImage(image)) {
    if (entry === 'pvh') throw noPvhEntry(`${what} is a bzImage`);
    return { format: 'bzImage', header: readBzImage(image, what) };
  }
  if (isElf(image)) return loadElf(image, what, entry);
  throw notAKernel(image, what, 'x86-64', HINT);
}

function loadElf(image: Uint8Array, what: string, wanted: 'linux64' | 'pvh' | undefined): LoadedX86Elf {
  const { bits, machine, type, entry } = readElfHeader(image);
  if (machine !== EM_386 && machine !== EM_X86_64) {
    throw wrongArchitecture(`${what} is a ${bits}-bit ELF file for ${elfMachineName(machine)}`, 'x86-64', HINT);
  }
  if (type !== ET_EXEC && type !== ET_DYN) {
    throw new VmError('ERR_NOT_A_KERNEL', `${what} is an ELF file that is not linked (e_type ${type})`, { hint: HINT });
  }
  const pvh = pvhEntry(image);
  const linux = wanted === 'linux64' || isLinux(image);
  if (wanted === 'pvh' || (wanted === undefined && !linux && pvh !== undefined)) {
    if (pvh === undefined) throw noPvhEntry(`${what} has no PVH note`);
    return { format: 'pvh', image, entry: pvh };
  }
  if (linux && machine === EM_386) {
    throw new VmError('ERR_WRONG_ARCHITECTURE', `${what} is a 32-bit x86 kernel: it has no 64-bit entry point`, {
      hint: pvh === undefined ? 'Use a kernel for x86-64 (amd64).' : 'It can be started at its PVH entry point.',
    });
  }
  const start = elfEntry(image);
  if (start === undefined) {
    throw new VmError('ERR_KERNEL_CORRUPT', `the ELF file's entry point ${hex(entry)} is not an address of its code`);
  }
  // The machine decides, not the class: the x32 ABI and some boot loaders put 64-bit code into 32-bit files.
  const format = linux ? 'vmlinux' : machine === EM_X86_64 ? 'elf64' : 'elf32';
  return { format, image, entry: start };
}

/** See {@link loadX86Kernel}. */
function isLinux(image: Uint8Array): boolean {
  if (readElfNotes(image).some(n => n.owner === 'Linux')) return true;
  const segments = readElfSegments(image);
  const { entry } = readElfHeader(image);
  return segments[0]?.vaddr === START_KERNEL_MAP + BigInt(segments[0]?.address ?? 0) && entry < START_KERNEL_MAP;
}

/** The address in the PVH note, or undefined without one. */
function pvhEntry(image: Uint8Array): Gpa | undefined {
  const note = readElfNotes(image).find(n => n.owner === 'Xen' && n.type === XEN_ELFNOTE_PHYS32_ENTRY);
  if (!note) return undefined;
  // A word of 4 bytes or, in what Linux writes for x86-64, of 8.
  const { buffer, byteOffset, length } = note.description;
  const entry = length >= 4 ? new DataView(buffer, byteOffset, length).getUint32(0, true) : -1;
  if (!readElfSegments(image).some(s => entry >= s.address && entry < s.address + s.size)) {
    throw new VmError(
      'ERR_KERNEL_CORRUPT',
      `the ELF file's PVH entry point ${hex(entry)} is not an address of its code`,
    );
  }
  return entry;
}

function noPvhEntry(why: string): VmError {
  return new VmError('ERR_USAGE', `${why}: it cannot be started by PVH`, {
    hint: 'PVH needs the vmlinux of a kernel with CONFIG_PVH, or another ELF file with the note XEN_ELFNOTE_PHYS32_ENTRY.',
  });
}
