import { VmError } from '../util/errors.ts';

/** `e_machine` of AArch64 and x86-64 (ELF gABI and the processor supplements). */
export const EM_AARCH64 = 183;
export const EM_X86_64 = 62;
/** `e_type` of a relocatable object, an executable and a position-independent executable. */
export const ET_REL = 1;
export const ET_EXEC = 2;
export const ET_DYN = 3;
/** `p_type` of a segment that is loaded. */
const PT_LOAD = 1;
/** `sh_type` of a section that occupies no bytes of the file. */
const SHT_NOBITS = 8;

const EHDR = 64;
const PHDR = 56;
const SHDR = 64;
/** More segments than any linker makes; bounds the work that a broken file can cause. */
const SEGMENT_LIMIT = 1024;

/** A segment to load: `data` at `address`, then zeros up to `size`. */
export interface ElfSegment {
  /** p_paddr. */
  readonly address: number;
  /** p_vaddr. */
  readonly vaddr: number;
  /** p_memsz in bytes, at least `data.length`. */
  readonly size: number;
  /** p_filesz bytes; a view of the file. */
  readonly data: Uint8Array;
}

/** What an ELF64 header says. */
export interface ElfHeader {
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
  const names: Record<number, string> = { 3: 'x86', 8: 'MIPS', 21: 'PowerPC64', 22: 's390x', 40: '32-bit Arm' };
  if (machine === EM_AARCH64) return 'arm64';
  if (machine === EM_X86_64) return 'x86-64';
  if (machine === 243) return 'RISC-V';
  if (machine === 258) return 'LoongArch';
  return names[machine] ?? `machine ${machine}`;
}

/**
 * The header of a little-endian ELF64 file.
 *
 * @throws VmError ERR_NOT_A_KERNEL when it is no ELF, a 32-bit or big-endian one, ERR_KERNEL_CORRUPT when it is cut off.
 */
export function readElfHeader(bytes: Uint8Array): ElfHeader {
  if (!isElf(bytes)) throw new VmError('ERR_NOT_A_KERNEL', 'not an ELF file');
  if (bytes.length < EHDR) throw corrupt(`the header needs ${EHDR} bytes, the file has ${bytes.length}`);
  const d = dataView(bytes);
  const [bits, order] = [d.getUint8(4), d.getUint8(5)];
  if (bits !== 2)
    throw new VmError('ERR_WRONG_ARCHITECTURE', `a ${bits === 1 ? '32-bit' : 'broken'} ELF file: need ELF64`);
  if (order !== 1) {
    throw new VmError(
      'ERR_WRONG_ARCHITECTURE',
      `a ${order === 2 ? 'big-endian' : 'broken'} ELF file: need little-endian`,
    );
  }
  return { type: d.getUint16(16, true), machine: d.getUint16(18, true), entry: d.getBigUint64(24, true) };
}

/**
 * The PT_LOAD segments of a little-endian ELF64 file, in the file's order; empty ones are left out.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when a table or segment lies outside the file, or an address beyond 2^52.
 */
export function readElfSegments(bytes: Uint8Array): ElfSegment[] {
  readElfHeader(bytes);
  const d = dataView(bytes);
  const [offset, entsize, count] = [offset64(d, 32), d.getUint16(54, true), d.getUint16(56, true)];
  if (count > SEGMENT_LIMIT) throw corrupt(`it has ${count} program headers`);
  if (count > 0 && entsize !== PHDR) throw corrupt(`program headers of ${entsize} bytes, expected ${PHDR}`);
  if (offset + count * PHDR > bytes.length) throw corrupt('its program headers lie outside the file');
  const segments: ElfSegment[] = [];
  for (let i = 0; i < count; i++) {
    const at = offset + i * PHDR;
    if (d.getUint32(at, true) !== PT_LOAD) continue;
    const [start, vaddr, address] = [offset64(d, at + 8), d.getBigUint64(at + 16, true), offset64(d, at + 24)];
    const [filesz, size] = [offset64(d, at + 32), offset64(d, at + 40)];
    if (size === 0) continue;
    if (start + filesz > bytes.length) throw corrupt(`segment ${i} lies outside the file`);
    if (filesz > size) throw corrupt(`segment ${i} has more bytes in the file (${filesz}) than in memory (${size})`);
    segments.push({ address, vaddr: Number(vaddr), size, data: bytes.subarray(start, start + filesz) });
  }
  return segments;
}

/**
 * The bytes of the section called `name`, or undefined when there is none.
 *
 * @throws VmError ERR_KERNEL_CORRUPT when the section table is broken.
 */
export function elfSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  readElfHeader(bytes);
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
