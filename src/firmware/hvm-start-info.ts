import type { Gpa } from '../memory/types.ts';
import type { E820Entry } from './e820.ts';
import type { Range } from './placement.ts';

/** hvm_start_info of PVH, version 1: its magic number (xen/include/public/arch-x86/hvm/start_info.h). */
export const HVM_START_MAGIC = 0x336ec578;
const VERSION = 1;
/** Sizes of hvm_start_info, hvm_modlist_entry and hvm_memmap_table_entry, bytes. */
const START_INFO = 56;
const MODULE = 32;
const MEMMAP_ENTRY = 24;

/** What a guest that starts by PVH is told. */
export interface HvmStartInfo {
  /** Where the command line is, with its zero. */
  readonly commandLine: Gpa;
  /** The only module; undefined: there is none. */
  readonly initrd: Range | undefined;
  /** 0: there is none. */
  readonly acpiRsdp: Gpa;
  readonly memoryMap: readonly E820Entry[];
}

/** Bytes of {@link makeHvmStartInfo} for that many entries of the memory map. */
export function hvmStartInfoSize(memoryMapEntries: number): number {
  return START_INFO + MODULE + MEMMAP_ENTRY * memoryMapEntries;
}

/** hvm_start_info with, behind it, its list of modules and its memory map, for the address `at`. */
export function makeHvmStartInfo(info: HvmStartInfo, at: Gpa): Uint8Array {
  const { initrd, memoryMap } = info;
  const [modules, map] = [START_INFO, START_INFO + MODULE];
  const bytes = new Uint8Array(hvmStartInfoSize(memoryMap.length));
  const d = new DataView(bytes.buffer);
  const u64 = (offset: number, value: number) => d.setBigUint64(offset, BigInt(value), true);
  d.setUint32(0, HVM_START_MAGIC, true);
  d.setUint32(4, VERSION, true);
  d.setUint32(12, initrd ? 1 : 0, true); // nr_modules
  u64(16, initrd ? at + modules : 0); // modlist_paddr
  u64(24, info.commandLine); // cmdline_paddr
  u64(32, info.acpiRsdp); // rsdp_paddr
  u64(40, at + map); // memmap_paddr
  d.setUint32(48, memoryMap.length, true); // memmap_entries
  if (initrd) {
    u64(modules, initrd.start); // paddr
    u64(modules + 8, initrd.end - initrd.start); // size
  }
  for (const [i, { base, size, type }] of memoryMap.entries()) {
    const entry = map + i * MEMMAP_ENTRY;
    u64(entry, base);
    u64(entry + 8, size);
    d.setUint32(entry + 16, type, true);
  }
  return bytes;
}
