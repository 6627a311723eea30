import type { Gpa } from '../memory/types.ts';

/** One range of the machine's physical address space. */
export interface AddressRange {
  readonly base: Gpa;
  /** Bytes. */
  readonly size: number;
}

/**
 * The arm-virt memory map: QEMU's `virt` board, so that firmware built for that board runs here too. Guests must not
 * know it; the device tree tells them.
 */
export const ARM_VIRT = {
  /** Firmware. */
  flash0: { base: 0, size: 0x400_0000 },
  /** Variables of the firmware. */
  flash1: { base: 0x400_0000, size: 0x400_0000 },
  gicd: { base: 0x0800_0000, size: 0x1_0000 },
  gicc: { base: 0x0801_0000, size: 0x1_0000 },
  gicv2m: { base: 0x0802_0000, size: 0x1000 },
  its: { base: 0x0808_0000, size: 0x2_0000 },
  gicr: { base: 0x080a_0000, size: 0x00f6_0000 },
  pl011: { base: 0x0900_0000, size: 0x1000 },
  pl031: { base: 0x0901_0000, size: 0x1000 },
  /** 32-bit window of PCI memory, addresses as on the bus. */
  pciMem32: { base: 0x1000_0000, size: 0x2eff_0000 },
  /** PCI I/O ports 0 to 0xffff; aligned to 64 KiB, so that any guest can map it (IOW-3). */
  pciIo: { base: 0x3eff_0000, size: 0x1_0000 },
  ram: { base: 0x4000_0000, size: 0x3f_c000_0000 },
  /** Configuration space of buses 0 to 255. */
  pciEcam: { base: 0x40_1000_0000, size: 0x1000_0000 },
  /** 64-bit window of PCI memory. */
  pciMem64: { base: 0x80_0000_0000, size: 0x80_0000_0000 },
} as const satisfies Record<string, AddressRange>;

/**
 * Alignment of memory that is plugged later, bytes: a memory block of Linux for arm64 with 4 KiB pages. What lies in parts of one
 * that guest would leave unused.
 */
export const HOTPLUG_ALIGNMENT = 128 * 2 ** 20;

/** Where `size` bytes of memory that is plugged later go: behind `ramBytes` of RAM, and in no device tree. */
export function hotplugRange(ramBytes: number, size: number): AddressRange {
  return { base: ARM_VIRT.ram.base + Math.ceil(ramBytes / HOTPLUG_ALIGNMENT) * HOTPLUG_ALIGNMENT, size };
}

/** Shared peripheral interrupts of arm-virt, counted from 0 (INTID 32). */
export const ARM_VIRT_SPI = {
  pl011: 1,
  pl031: 2,
  /** INTA; INTB to INTD are the next three. */
  pciIntx: 3,
  v2m: 48,
  v2mCount: 64,
} as const;

/** Number of shared peripheral interrupts. */
export const ARM_VIRT_SPIS = 256;
