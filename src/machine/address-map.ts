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
  gicd: { base: 0x0800_0000, size: 0x1_0000 },
  gicc: { base: 0x0801_0000, size: 0x1_0000 },
  gicv2m: { base: 0x0802_0000, size: 0x1000 },
  its: { base: 0x0808_0000, size: 0x2_0000 },
  gicr: { base: 0x080a_0000, size: 0x00f6_0000 },
  pl011: { base: 0x0900_0000, size: 0x1000 },
  pl031: { base: 0x0901_0000, size: 0x1000 },
  ram: { base: 0x4000_0000, size: 0xff_0000_0000 },
} as const satisfies Record<string, AddressRange>;

/** Shared peripheral interrupts of arm-virt, counted from 0 (INTID 32). */
export const ARM_VIRT_SPI = { pl011: 1, pl031: 2, v2m: 48, v2mCount: 64 } as const;

/** Number of shared peripheral interrupts. */
export const ARM_VIRT_SPIS = 256;
