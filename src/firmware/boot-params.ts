import type { Gpa } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { BOOT_FLAG, type BzImageHeader, HDRS, LOADED_HIGH, SETUP_HEADER } from './bzimage.ts';
import type { E820Entry } from './e820.ts';
import type { Range } from './placement.ts';

/** Bytes of boot_params. */
export const BOOT_PARAMS_SIZE = 4096;

/** Fields of boot_params outside of the setup header (Documentation/arch/x86/zero-page.rst). */
export const BOOT_PARAMS = {
  acpi_rsdp_addr: 0x070,
  ext_ramdisk_image: 0x0c0,
  ext_ramdisk_size: 0x0c4,
  ext_cmd_line_ptr: 0x0c8,
  e820_entries: 0x1e8,
  e820_table: 0x2d0,
} as const;

/** Bytes of an entry of e820_table, and how many there are (E820_MAX_ENTRIES_ZEROPAGE). */
const E820_ENTRY = 20;
const E820_MAX_ENTRIES = 128;
/** type_of_loader: a boot loader without an assigned number. */
const LOADER_UNDEFINED = 0xff;
/** vid_mode: "normal". */
const VID_MODE_NORMAL = 0xffff;
/** setup_data of this type is a seed for the random number generator (arch/x86/include/uapi/asm/setup_data.h). */
const SETUP_RNG_SEED = 9;

/** What Linux is told in boot_params. */
export interface BootParams {
  /** Of a bzImage; undefined for a vmlinux, which has no setup header. */
  readonly header: BzImageHeader | undefined;
  /** Where the protected-mode code is. */
  readonly loadAddress: Gpa;
  readonly memoryMap: readonly E820Entry[];
  /** Where the command line is, with its zero. */
  readonly commandLine: Gpa;
  readonly initrd: Range | undefined;
  /** 0: Linux looks for it. */
  readonly acpiRsdp: Gpa;
  /** First of the list of setup_data; 0: there is none. */
  readonly setupData: Gpa;
}

/**
 * boot_params, the "zero page" (boot.rst, "64-bit Boot Protocol"): zeros, with the kernel's own setup header copied into it, and
 * the fields that boot.rst has a boot loader write.
 *
 * @throws VmError ERR_DOES_NOT_FIT when the memory map has more than 128 entries.
 */
export function makeBootParams(params: BootParams): Uint8Array {
  const { header, memoryMap, initrd } = params;
  if (memoryMap.length > E820_MAX_ENTRIES) {
    throw new VmError(
      'ERR_DOES_NOT_FIT',
      `the memory map has ${memoryMap.length} entries, Linux takes ${E820_MAX_ENTRIES}`,
    );
  }
  const bytes = new Uint8Array(BOOT_PARAMS_SIZE);
  const d = new DataView(bytes.buffer);
  if (header) bytes.set(header.setupHeader, SETUP_HEADER.setup_sects);
  else {
    d.setUint16(SETUP_HEADER.boot_flag, BOOT_FLAG, true);
    d.setUint32(SETUP_HEADER.header, HDRS, true);
    d.setUint8(SETUP_HEADER.loadflags, LOADED_HIGH);
  }
  d.setUint16(SETUP_HEADER.vid_mode, VID_MODE_NORMAL, true);
  d.setUint8(SETUP_HEADER.type_of_loader, LOADER_UNDEFINED);
  d.setUint32(SETUP_HEADER.code32_start, params.loadAddress, true);
  if (params.setupData !== 0) d.setBigUint64(SETUP_HEADER.setup_data, BigInt(params.setupData), true);
  d.setBigUint64(BOOT_PARAMS.acpi_rsdp_addr, BigInt(params.acpiRsdp), true);

  // 64-bit values whose low and high words lie apart.
  const wide = (low: number, high: number, value: number) => {
    d.setUint32(low, value % 2 ** 32, true);
    d.setUint32(high, Math.floor(value / 2 ** 32), true);
  };
  wide(SETUP_HEADER.cmd_line_ptr, BOOT_PARAMS.ext_cmd_line_ptr, params.commandLine);
  wide(SETUP_HEADER.ramdisk_image, BOOT_PARAMS.ext_ramdisk_image, initrd?.start ?? 0);
  wide(SETUP_HEADER.ramdisk_size, BOOT_PARAMS.ext_ramdisk_size, initrd ? initrd.end - initrd.start : 0);

  d.setUint8(BOOT_PARAMS.e820_entries, memoryMap.length);
  for (const [i, { base, size, type }] of memoryMap.entries()) {
    const at = BOOT_PARAMS.e820_table + i * E820_ENTRY;
    d.setBigUint64(at, BigInt(base), true);
    d.setBigUint64(at + 8, BigInt(size), true);
    d.setUint32(at + 16, type, true);
  }
  return bytes;
}

/**
 * A list of one struct setup_data with a seed for the guest's random number generator. Linux since 6.0 takes it and wipes it,
 * older ones ignore it.
 */
export function makeRngSeed(seed: Uint8Array): Uint8Array {
  // next (0: the last), type, len, data.
  const bytes = new Uint8Array(16 + seed.length);
  const d = new DataView(bytes.buffer);
  d.setUint32(8, SETUP_RNG_SEED, true);
  d.setUint32(12, seed.length, true);
  bytes.set(seed, 16);
  return bytes;
}
