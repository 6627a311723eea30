import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';

/**
 * The setup header of a bzImage, Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header" and "Details of Header
 * Fields"). Offsets are from the start of the file and, as the header is copied as it is, of boot_params.
 */
export const SETUP_HEADER = {
  setup_sects: 0x1f1,
  syssize: 0x1f4,
  vid_mode: 0x1fa,
  boot_flag: 0x1fe,
  /** A short jump; its second byte says where the header ends. */
  jump: 0x200,
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  loadflags: 0x211,
  code32_start: 0x214,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
  cmd_line_ptr: 0x228,
  initrd_addr_max: 0x22c,
  kernel_alignment: 0x230,
  relocatable_kernel: 0x234,
  xloadflags: 0x236,
  cmdline_size: 0x238,
  setup_data: 0x250,
  pref_address: 0x258,
  init_size: 0x260,
} as const;

/** boot_flag, and header: "HdrS". */
export const BOOT_FLAG = 0xaa55;
export const HDRS = 0x53726448;
/** loadflags bit 0, LOADED_HIGH: the protected-mode code is loaded at or above 1 MiB. */
export const LOADED_HIGH = 1;

/** The first protocol with xloadflags, and so with a 64-bit entry point: 2.12, Linux 3.8. */
const VERSION_MIN = 0x20c;
/** xloadflags bit 0, XLF_KERNEL_64: there is a 64-bit entry point at offset 0x200 of the protected-mode code. */
const XLF_KERNEL_64 = 1;
/** The header ends before edd_mbr_sig_buffer of boot_params, and has init_size in every protocol from 2.10 on. */
const HEADER_END_MIN = 0x264;
const HEADER_END_MAX = 0x290;
const SECTOR = 512;

/** What the setup header of a bzImage says, as far as a 64-bit boot needs it. */
export interface BzImageHeader {
  /** Major version in the high byte, e.g. 0x20f for 2.15. */
  readonly version: number;
  /** The header's bytes, from `setup_sects` on. A view of the file. */
  readonly setupHeader: Uint8Array;
  /** What is loaded: the protected-mode code, from behind the setup sectors on. A view of the file. */
  readonly protectedMode: Uint8Array;
  /** initrd_addr_max: the highest address that the initrd's last byte may have. */
  readonly initrdAddrMax: number;
  /** kernel_alignment in bytes, a power of two; for a relocatable kernel only. */
  readonly kernelAlignment: number;
  readonly relocatableKernel: boolean;
  /** cmdline_size: bytes of the command line without the zero behind it. */
  readonly cmdlineSize: number;
  /** pref_address: where the kernel wants to be loaded; below it, it would move itself there. */
  readonly prefAddress: number;
  /** init_size: bytes that the kernel needs from where it is loaded, before it has looked at the memory map. */
  readonly initSize: number;
}

/** True when the bytes have the setup header of an x86 Linux kernel. */
export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < SETUP_HEADER.version) return false;
  const d = view(bytes);
  return d.getUint16(SETUP_HEADER.boot_flag, true) === BOOT_FLAG && d.getUint32(SETUP_HEADER.header, true) === HDRS;
}

/**
 * Reads and checks the setup header.
 *
 * @param what how messages name the file.
 * @throws VmError ERR_NOT_A_KERNEL without the header's magic numbers and for a kernel before Linux 3.8,
 *   ERR_WRONG_ARCHITECTURE for one without a 64-bit entry point, ERR_KERNEL_CORRUPT when the file is cut off or the header
 *   makes no sense.
 */
export function readBzImage(bytes: Uint8Array, what = 'the kernel'): BzImageHeader {
  if (!isBzImage(bytes)) throw new VmError('ERR_NOT_A_KERNEL', `${what} has no setup header of an x86 kernel`);
  const d = view(bytes);
  if (bytes.length < HEADER_END_MAX) throw corrupt(what, `it ends within its header, after ${bytes.length} bytes`);
  const version = d.getUint16(SETUP_HEADER.version, true);
  if (version < VERSION_MIN) {
    const text = `${version >> 8}.${String(version & 0xff).padStart(2, '0')}`;
    throw new VmError('ERR_NOT_A_KERNEL', `${what} speaks the boot protocol ${text}, which has no 64-bit entry point`, {
      hint: 'Use Linux 3.8 or later, which has boot protocol 2.12, or the vmlinux of this kernel.',
      details: { version },
    });
  }
  if ((d.getUint16(SETUP_HEADER.xloadflags, true) & XLF_KERNEL_64) === 0) {
    throw new VmError('ERR_WRONG_ARCHITECTURE', `${what} is a 32-bit x86 kernel: it has no 64-bit entry point`, {
      hint: 'Use a kernel for x86-64 (amd64).',
    });
  }
  // 0 stands for 4, for reasons of compatibility; the boot sector comes on top.
  const setupBytes = ((d.getUint8(SETUP_HEADER.setup_sects) || 4) + 1) * SECTOR;
  const size = d.getUint32(SETUP_HEADER.syssize, true) * 16;
  if (size === 0) throw corrupt(what, 'it says that it has no code (syssize)');
  if (setupBytes + size > bytes.length) {
    throw corrupt(what, `it is cut off: its code ends at ${setupBytes + size}, the file at ${bytes.length}`);
  }
  const headerEnd = SETUP_HEADER.header + d.getUint8(SETUP_HEADER.jump + 1);
  const prefAddress = d.getBigUint64(SETUP_HEADER.pref_address, true);
  const kernelAlignment = d.getUint32(SETUP_HEADER.kernel_alignment, true);
  const relocatableKernel = d.getUint8(SETUP_HEADER.relocatable_kernel) !== 0;
  if (headerEnd < HEADER_END_MIN || headerEnd > HEADER_END_MAX) {
    throw corrupt(what, `its header ends at ${hex(headerEnd)}`);
  }
  if ((d.getUint8(SETUP_HEADER.loadflags) & LOADED_HIGH) === 0)
    throw corrupt(what, 'it wants to be loaded below 1 MiB');
  if (prefAddress >= 1n << 52n) throw corrupt(what, `pref_address is ${hex(prefAddress)}`);
  if (relocatableKernel && (kernelAlignment === 0 || (kernelAlignment & (kernelAlignment - 1)) !== 0)) {
    throw corrupt(what, `kernel_alignment is ${hex(kernelAlignment)}`);
  }
  return {
    version,
    setupHeader: bytes.subarray(SETUP_HEADER.setup_sects, headerEnd),
    protectedMode: bytes.subarray(setupBytes, setupBytes + size),
    initrdAddrMax: d.getUint32(SETUP_HEADER.initrd_addr_max, true),
    kernelAlignment,
    relocatableKernel,
    cmdlineSize: d.getUint32(SETUP_HEADER.cmdline_size, true),
    prefAddress: Number(prefAddress),
    initSize: d.getUint32(SETUP_HEADER.init_size, true),
  };
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function corrupt(what: string, why: string): VmError {
  return new VmError('ERR_KERNEL_CORRUPT', `${what} is damaged: ${why}`, {
    hint: 'Download or copy the kernel again.',
  });
}
