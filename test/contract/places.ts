import { ARM_VIRT } from '../../src/machine/address-map.ts';

// Where things are in the guests of the suite.

const RAM = ARM_VIRT.ram.base;

/** arm64. */
export const ARM = {
  ram: RAM,
  ramBytes: 0x80_0000,
  code: RAM + 0x1_0000,
  /** Exception vectors (2 KiB aligned) are in the code; translation tables are here, see mmuTables(). */
  tables: RAM + 0x2_0000,
  /** For the ITS: tables and the queue of commands. */
  its: RAM + 0x10_0000,
  /** What guests read and write. */
  data: RAM + 0x20_0000,
  hotplug: RAM + 0x80_0000,
  /** Device accesses: nothing of the board is here. */
  device: 0x0a00_0000,
  /** A guest's last write. */
  end: 0x0a00_0ff8,
  /** For device memory: the window of PCI. */
  slot: ARM_VIRT.pciMem32.base,
  /** X0 of the first vCPU at its start. */
  x0: 0x1122_3344_5566_7788n,
} as const;

/** x86-64. */
export const X86 = {
  code: 0x1000,
  gdt: 0x3000,
  idt: 0x4000,
  stack: 0x8000,
  data: 0x1_0000,
  /** RAM ends here, and goes on at `high`. */
  low: 0xa_0000,
  /** Device accesses below 1 MiB, and above RAM. */
  lowDevice: 0xb_8000,
  high: 0x10_0000,
  highBytes: 0x70_0000,
  pageTables: 0x20_0000,
  hotplug: 0x80_0000,
  device: 0xd000_0000,
  slot: 0xd800_0000,
  reserved: 0xfffb_c000,
  /** A port: a guest's last write. */
  end: 0xf4,
  /** Registers of the first vCPU at its start. */
  rsi: 0x1234,
  rbx: 0x5678,
} as const;
