/** The C library of a Linux program. */
export type Libc = 'glibc' | 'musl';

/** Reads `length` bytes of a file at `offset`; fewer at its end. */
export type ByteReader = (offset: number, length: number) => Uint8Array;

/** e_machine of the ELF header (gABI, "ELF Header") by Node's name for the architecture. */
export const MACHINES: Readonly<Record<string, number>> = { ia32: 3, arm: 40, x64: 62, arm64: 183, riscv64: 243 };

const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const PT_INTERP = 3;

/** The header, if this is a little-endian 64-bit ELF file: EI_MAG, EI_CLASS = ELFCLASS64, EI_DATA = ELFDATA2LSB. */
function header(file: ByteReader): DataView | undefined {
  const bytes = file(0, EHDR_SIZE);
  if (bytes.length < EHDR_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return view.getUint32(0) === 0x7f454c46 && view.getUint16(4) === 0x0201 ? view : undefined;
}

/** e_machine of an ELF file; undefined for what is none (or not 64-bit little-endian, where tsvisor has no addon). */
export function elfMachine(file: ByteReader): number | undefined {
  return header(file)?.getUint16(18, true);
}

/** The path of the dynamic linker that a program asks for (PT_INTERP); undefined without one. */
export function elfInterpreter(file: ByteReader): string | undefined {
  const ehdr = header(file);
  if (ehdr === undefined) return undefined;
  const phoff = Number(ehdr.getBigUint64(32, true));
  const [phentsize, phnum] = [ehdr.getUint16(54, true), ehdr.getUint16(56, true)];
  if (phentsize < PHDR_SIZE) return undefined;
  const bytes = file(phoff, phentsize * phnum);
  const phdrs = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + PHDR_SIZE <= phdrs.byteLength; at += phentsize) {
    if (phdrs.getUint32(at, true) !== PT_INTERP) continue;
    const path = file(Number(phdrs.getBigUint64(at + 8, true)), Number(phdrs.getBigUint64(at + 32, true)));
    return new TextDecoder().decode(path).split('\0')[0];
  }
  return undefined;
}

/**
 * The C library that a program is linked with, by its dynamic linker: ld-linux-x86-64.so.2, ld-musl-aarch64.so.1. That is
 * the truth about the process where a host has both; /usr/bin/ldd is about the host. undefined for a static program.
 */
export function libcOf(program: ByteReader): Libc | undefined {
  const linker = elfInterpreter(program)?.split('/').at(-1);
  if (linker === undefined) return undefined;
  return linker.startsWith('ld-musl-') ? 'musl' : linker.startsWith('ld-') ? 'glibc' : undefined;
}
