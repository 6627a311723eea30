import { VmError } from '../util/errors.ts';
import { type Arm64ImageFlags, isArm64Image, readArm64ImageHeader } from './arm64-image.ts';
import { gunzip, isGzip, isZstd } from './decompress.ts';
import { EM_AARCH64, ET_DYN, ET_EXEC, elfMachineName, isElf, readElfHeader } from './elf.ts';
import { isZboot, unpackZboot } from './zboot.ts';

/** What a kernel file is, judged by its first bytes; 'unknown' is everything that cannot be started. */
export type KernelFormat = 'image' | 'gzip' | 'zboot' | 'elf' | 'unknown';

/** A machine's architecture, as messages call it. */
export type GuestMachine = 'arm64' | 'x86-64';

/** An arm64 kernel ready to be placed into guest memory. */
export interface LoadedKernel {
  /** An arm64 Linux image, or an ELF file of a bare-metal program. */
  readonly format: 'image' | 'elf';
  /** The unpacked bytes of the image or of the ELF file. */
  readonly image: Uint8Array;
  /** Image: offset in bytes from a 2 MiB aligned base; ELF: 0. */
  readonly textOffset: number;
  /** Image: bytes to keep free from the start, BSS included; ELF: the size of the file. */
  readonly imageSize: number;
  /** Image only. */
  readonly flags: Arm64ImageFlags | undefined;
}

/** Options of {@link loadKernel} and of its counterpart for x86. */
export interface LoadKernelOptions {
  /** Unpack to at most this many bytes; default 512 MiB. */
  readonly limit?: number;
  /** How messages name the file; default 'the kernel'. */
  readonly what?: string;
}

const DEFAULT_LIMIT = 512 << 20;
const HINT = 'Give an arm64 Linux kernel (Image, Image.gz or an EFI zboot vmlinuz) or an AArch64 ELF file.';

/** Judges a kernel file by its first bytes. */
export function identifyKernel(bytes: Uint8Array): KernelFormat {
  // An Image with an EFI stub starts with "MZ" as zboot and other PE files do: its own magic decides.
  if (isArm64Image(bytes)) return 'image';
  if (isZboot(bytes)) return 'zboot';
  if (isGzip(bytes)) return 'gzip';
  if (isElf(bytes)) return 'elf';
  return 'unknown';
}

/**
 * Unpacks and checks a kernel.
 *
 * @throws VmError ERR_NOT_A_KERNEL saying what the file looks like instead, ERR_WRONG_ARCHITECTURE for a kernel of another
 *   machine, ERR_KERNEL_CORRUPT for a damaged file, ERR_DOES_NOT_FIT when it unpacks to more than the limit.
 */
export function loadKernel(bytes: Uint8Array, options: LoadKernelOptions = {}): LoadedKernel {
  const { limit = DEFAULT_LIMIT, what = 'the kernel' } = options;
  switch (identifyKernel(bytes)) {
    case 'image':
      return loadImage(bytes);
    case 'elf':
      return loadElf(bytes, what);
    case 'gzip':
      return loadUnpacked(gunzip(bytes, limit, what), `${what} (gzip)`);
    case 'zboot':
      return loadUnpacked(unpackZboot(bytes, limit), `${what} (EFI zboot)`);
    case 'unknown':
      throw notAKernel(bytes, what, 'arm64', HINT);
  }
}

/** What was packed must be a kernel itself: archives within archives are not searched. */
function loadUnpacked(image: Uint8Array, what: string): LoadedKernel {
  const format = identifyKernel(image);
  if (format === 'image') return loadImage(image);
  if (format === 'elf') return loadElf(image, what);
  throw notAKernel(image, `${what}, unpacked,`, 'arm64', HINT);
}

function loadImage(image: Uint8Array): LoadedKernel {
  return { format: 'image', image, ...readArm64ImageHeader(image) };
}

function loadElf(image: Uint8Array, what: string): LoadedKernel {
  const { bits, machine, type } = readElfHeader(image);
  if (machine !== EM_AARCH64 || bits !== 64) {
    throw wrongArchitecture(`${what} is a ${bits}-bit ELF file for ${elfMachineName(machine)}`, 'arm64', HINT);
  }
  if (type !== ET_EXEC && type !== ET_DYN) {
    throw new VmError('ERR_NOT_A_KERNEL', `${what} is an ELF file that is not linked (e_type ${type})`, { hint: HINT });
  }
  return { format: 'elf', image, textOffset: 0, imageSize: image.length, flags: undefined };
}

/**
 * The error for a file that `machine` cannot start: ERR_WRONG_ARCHITECTURE when it is a kernel of another one, otherwise
 * ERR_NOT_A_KERNEL, which says what the file looks like.
 */
export function notAKernel(bytes: Uint8Array, what: string, machine: GuestMachine, hint: string): VmError {
  const text = (at: number, length: number) => String.fromCharCode(...bytes.subarray(at, at + length));
  const wrap = (looks: string) => new VmError('ERR_NOT_A_KERNEL', `${what} is not a kernel: ${looks}`, { hint });
  const other = (kernel: string) => wrongArchitecture(`${what} is ${kernel}`, machine, hint);
  if (bytes.length === 0) return wrap('the file is empty');
  // Documentation/arch/x86/boot.rst: the setup header of a bzImage starts at 0x1f1, its signature is at 0x202.
  if (text(0x202, 4) === 'HdrS') return other('an x86 kernel (bzImage)');
  if (isArm64Image(bytes)) return other('an arm64 kernel');
  // x86 has no such images; which of the others it is stands in what is packed.
  if (isZboot(bytes)) return other('an EFI zboot kernel, of arm64 as a rule');
  // Documentation/arch/riscv/boot-image-header.rst: the same header as arm64's, with magic2 "RSC\x05".
  if (text(0x38, 4) === 'RSC\x05') return other('a RISC-V kernel');
  // arch/arm/boot/compressed/head.S puts 0x016f2818 at offset 0x24 of a zImage.
  if (text(0x24, 4) === '\x18\x28\x6f\x01') return other('a 32-bit Arm kernel (zImage)');
  if (text(0, 2) === 'MZ') return wrap('it is a PE (EFI) program without the header of a kernel');
  if (text(0, 6) === '070701' || text(0, 6) === '070702') return wrap('it is a cpio archive; give it as the initrd');
  if (isGzip(bytes)) return wrap('it is gzip data');
  if (isZstd(bytes)) return wrap('it is zstd data');
  if (text(0, 6) === '\xfd7zXZ\0') return wrap('it is xz data');
  if (text(0, 8) === '!<arch>\n') return wrap('it is an ar archive or a Debian package');
  if (text(257, 5) === 'ustar') return wrap('it is a tar archive');
  if (text(0, 4) === 'PK\x03\x04') return wrap('it is a zip archive');
  if (text(0, 4) === 'QFI\xfb') return wrap('it is a qcow2 disk image');
  if (text(0, 2) === '#!') return wrap('it is a script');
  if (text(510, 2) === '\x55\xaa') return wrap('it is a disk image with a boot sector');
  const start = bytes.subarray(0, 512);
  if (start.every(b => b >= 0x20 || (b >= 9 && b <= 13) || b === 27)) return wrap('it is a text file');
  if (start.every(b => b === 0)) return wrap('it starts with zeros');
  const magic = [...bytes.subarray(0, 4)].map(b => b.toString(16).padStart(2, '0')).join(' ');
  return wrap(`it starts with ${magic}, which is no format that is known here`);
}

/** The error for a kernel of another architecture than the machine's; `message` says what the kernel is. */
export function wrongArchitecture(message: string, machine: GuestMachine, hint: string): VmError {
  return new VmError('ERR_WRONG_ARCHITECTURE', `${message}: the machine is ${machine}`, { hint });
}
