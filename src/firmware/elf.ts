import { VmError } from '../util/errors.ts';

/** `e_machine` of 32-bit x86, AArch64 and x86-64 (ELF gABI and the processor supplements). */
export const EM_386 = 3;
export const EM_AARCH64 = 183;
export const EM_X86_64 = 62;
/** `e_type` of a relocatable object, an executable and a position-independent executable. */
export const ET_REL = 1;
export const ET_EXEC = 2;
export const ET_DYN = 3;
/** `p_type` of a segment that is loaded, and of one that holds notes. */
const PT_LOAD = 1;
const PT_NOTE = 4;
/** `sh_type` of a section that occupies no bytes of the file. */
const SHT_NOBITS = 8;

/** Sizes of the headers, and where the fields are that differ between the two classes (ELF gABI, chapters 4 and 5). */
const ELF64 = { ehdr: 64, phdr: 56, phoff: 32, phentsize: 54, phnum: 56 };
const ELF32 = { ehdr: 52, phdr: 32, phoff: 28, phentsize: 42, phnum: 44 };
const SHDR = 64;
/** More segments and notes than any linker makes; bounds the work that a broken file can cause. */
const SEGMENT_LIMIT = 1024;
const NOTE_LIMIT = 1024;

/** A segment to load: `data` at `address`, then zeros up to `size`. */
export interface ElfSegment {
  /** p_paddr. */
  readonly address: number;
  /** p_vaddr. */
  readonly vaddr: bigint;
  /** p_memsz in bytes, at least `data.length`. */
  readonly size: number;
  /** p_filesz bytes; a view of the file. */
  readonly data: Uint8Array;
}

/** A note of a PT_NOTE segment. */
export interface ElfNote {
  /** Who defined the type, e.g. "GNU". */
  readonly owner: string;
  readonly type: number;
  /** A view of the file. */
  readonly description: Uint8Array;
}

/** What an ELF header says. */
export interface ElfHeader {
  /** EI_CLASS. */
  readonly bits: 32 | 64;
  readonly machine: number;
  readonly type: number;
  /** e_entry, a virtual address. */
  readonly entry: bigint;
}

/** True when the bytes start with ELF's magic number. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** A short word for a file's `e_machine`, for messages. */
export function elfMachineName(machine: number): string {
  const names: Record<number, string> = { 3: 'x86', 8: 'MIPS', 21: 'PowerPC64', 22: 's390x', 40: 'Arm' };
  if (machine === EM_AARCH64) return 'arm64';
  if (machine === EM_X86_64) return 'x86-64';
  if (machine === 243) return 'RISC-V';
  if (machine === 258) return 'LoongArch';
  return names[machine] ?? `machine ${machine}`;
}

/**
 * The header of a little-endian ELF file of either class.
 *
 * @throws VmError ERR_NOT_A_KERNEL when it is no ELF, ERR_WRONG_ARCHITECTURE for a big-endian one, ERR_KERNEL_CORRUPT when
 *   it is cut off.
 */
export function readElfHeader(bytes: Uint8Array): ElfHeader {
  if (!isElf(bytes)) throw new VmError('ERR_NOT_A_KERNEL', 'not an ELF file');
  const [bits, order] = [bytes[4], bytes[5]];
  if (bits !== 1 && bits !== 2) throw new VmError('ERR_WRONG_ARCHITECTURE', 'an ELF file neither of 32 nor of 64 bits');
  if (order !== 1) {
    throw new VmError(
      'ERR_WRONG_ARCHITECTURE',
      `a ${order === 2 ? 'big-endian' : 'broken'} ELF file: need little-endian`,
    );
  }
  const { ehdr } = bits === 2 ? ELF64 : ELF32;
  if (bytes.length < ehdr) throw corrupt(`the header needs ${ehdr} bytes, the file has ${bytes.length}`);
  const d = dataView(bytes);
  return {
    bits: bits === 2 ? 64 : 32,
    type: d.getUint16(16, true),
    machine: d.getUint16(18, true),
    entry: bits === 2 ? d.getBigUint64(24, true) : BigInt(d.getUint32(24, true)),
  };
}

/**
 * The PT_LOAD segments of a little-endian ELF file, in the file's order; empty ones are left out.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when a table or segment lies outside the file, or an address beyond 2^52.
 */
export function readElfSegments(bytes: Uint8Array): ElfSegment[] {
  const segments: ElfSegment[] = [];
  for (const { index, vaddr, address, size, data } of programHeaders(bytes, PT_LOAD)) {
    if (size === 0) continue;
    if (data.length > size)
      throw corrupt(`segment ${index} has more bytes in the file (${data.length}) than in memory (${size})`);
    segments.push({ address, vaddr, size, data });
  }
  return segments;
}

/**
 * Where an ELF file starts when no paging is on yet: e_entry as the physical address in the segment that it lies in. Linkers
 * write a virtual address there, Linux's script for x86 a physical one; so the segments' virtual addresses are tried
 * first, then their physical ones. undefined: it lies in no segment.
 *
 * @throws VmError ERR_KERNEL_CORRUPT as {@link readElfSegments}.
 */
export function elfEntry(bytes: Uint8Array): number | undefined {
  const { entry } = readElfHeader(bytes);
  const segments = readElfSegments(bytes);
  const inside = (start: bigint, size: number) => entry >= start && entry < start + BigInt(size);
  const virtual = segments.find(s => inside(s.vaddr, s.size));
  if (virtual) return virtual.address + Number(entry - virtual.vaddr);
  return segments.some(s => inside(BigInt(s.address), s.size)) ? Number(entry) : undefined;
}

/**
 * The notes of the PT_NOTE segments of a little-endian ELF file (gABI, chapter 5, "Note Section": three words, then owner and
 * description, each padded to 4 bytes, in files of both classes).
 *
 * @throws VmError ERR_KERNEL_CORRUPT when a table, segment or note lies outside of what holds it.
 */
export function readElfNotes(bytes: Uint8Array): ElfNote[] {
  const notes: ElfNote[] = [];
  for (const { index, data } of programHeaders(bytes, PT_NOTE)) {
    const d = dataView(data);
    for (let at = 0; at + 12 <= data.length; ) {
      const [ownerSize, size, type] = [d.getUint32(at, true), d.getUint32(at + 4, true), d.getUint32(at + 8, true)];
      const start = at + 12 + align4(ownerSize);
      if (start + size > data.length) throw corrupt(`a note of segment ${index} lies outside of it`);
      if (notes.length === NOTE_LIMIT) throw corrupt(`it has more than ${NOTE_LIMIT} notes`);
      const owner = String.fromCharCode(...data.subarray(at + 12, at + 12 + Math.min(ownerSize, 64)));
      notes.push({ owner: owner.split('\0')[0] ?? '', type, description: data.subarray(start, start + size) });
      at = start + align4(size);
    }
  }
  return notes;
}

interface ProgramHeader extends ElfSegment {
  /** Counted from 0 in the file's table. */
  readonly index: number;
}

/** The program headers of one p_type. */
function programHeaders(bytes: Uint8Array, type: number): ProgramHeader[] {
  const { bits } = readElfHeader(bytes);
  const { phdr, phoff, phentsize, phnum } = bits === 64 ? ELF64 : ELF32;
  const d = dataView(bytes);
  // Words of the class's width; a program header has six of them that matter here.
  const word = (at: number) => (bits === 64 ? offset64(d, at) : d.getUint32(at, true));
  const [offset, entsize, count] = [word(phoff), d.getUint16(phentsize, true), d.getUint16(phnum, true)];
  if (count > SEGMENT_LIMIT) throw corrupt(`it has ${count} program headers`);
  if (count > 0 && entsize !== phdr) throw corrupt(`program headers of ${entsize} bytes, expected ${phdr}`);
  if (offset + count * phdr > bytes.length) throw corrupt('its program headers lie outside the file');
  const headers: ProgramHeader[] = [];
  for (let index = 0; index < count; index++) {
    const at = offset + index * phdr;
    if (d.getUint32(at, true) !== type) continue;
    // p_offset, p_vaddr, p_paddr, p_filesz and p_memsz follow each other, behind p_type (and p_flags in ELF64).
    const [first, width] = bits === 64 ? [at + 8, 8] : [at + 4, 4];
    const [start, address] = [word(first), word(first + 2 * width)];
    const [filesz, size] = [word(first + 3 * width), word(first + 4 * width)];
    const vaddr = bits === 64 ? d.getBigUint64(first + width, true) : BigInt(d.getUint32(first + width, true));
    if (start + filesz > bytes.length) throw corrupt(`segment ${index} lies outside the file`);
    headers.push({ index, address, vaddr, size, data: bytes.subarray(start, start + filesz) });
  }
  return headers;
}

/**
 * The bytes of the section of an ELF64 file called `name`, or undefined when there is none.
 *
 * @throws VmError ERR_WRONG_ARCHITECTURE for a 32-bit file, ERR_KERNEL_CORRUPT when the section table is broken.
 */
export function elfSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  if (readElfHeader(bytes).bits !== 64) throw new VmError('ERR_WRONG_ARCHITECTURE', 'a 32-bit ELF file: need ELF64');
  const d = dataView(bytes);
  const [offset, entsize, count, strings] = [
    offset64(d, 40),
    d.getUint16(58, true),
    d.getUint16(60, true),
    d.getUint16(62, true),
  ];
  if (count === 0) return undefined;
  if (entsize !== SHDR) throw corrupt(`section headers of ${entsize} bytes, expected ${SHDR}`);
  if (offset + count * SHDR > bytes.length || strings >= count)
    throw corrupt('its section headers lie outside the file');
  const section = (i: number): Uint8Array => {
    const at = offset + i * SHDR;
    if (d.getUint32(at + 4, true) === SHT_NOBITS) return bytes.subarray(0, 0);
    const [start, size] = [offset64(d, at + 24), offset64(d, at + 32)];
    if (start + size > bytes.length) throw corrupt(`section ${i} lies outside the file`);
    return bytes.subarray(start, start + size);
  };
  const names = section(strings);
  const wanted = new TextEncoder().encode(`${name}\0`);
  for (let i = 0; i < count; i++) {
    const at = d.getUint32(offset + i * SHDR, true);
    if (wanted.every((c, k) => names[at + k] === c)) return section(i);
  }
  return undefined;
}

function align4(n: number): number {
  return Math.ceil(n / 4) * 4;
}

function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit offset, size or physical address as a double; such values are below 2^52 in every file that makes sense. */
function offset64(d: DataView, at: number): number {
  const v = d.getBigUint64(at, true);
  if (v >= 1n << 52n) throw corrupt(`the value ${v} at offset ${at} is out of range`);
  return Number(v);
}

function corrupt(why: string): VmError {
  return new VmError('ERR_KERNEL_CORRUPT', `a broken ELF file: ${why}`, { hint: 'Build or download the file again.' });
}
