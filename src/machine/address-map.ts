import type { Gpa } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';

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
  /** Page of the VM clock; QEMU's board has nothing there. */
  vmclock: { base: 0x090f_0000, size: 0x1000 },
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

/** Where `size` bytes of memory that is plugged later go: behind the end of RAM, and in no description of the machine. */
export function hotplugRange(ramEnd: Gpa, size: number): AddressRange {
  return { base: Math.ceil(ramEnd / HOTPLUG_ALIGNMENT) * HOTPLUG_ALIGNMENT, size };
}

/**
 * Checks that memory ends before `limit`, where something else is.
 * @throws VmError ERR_MEMORY_TOO_LARGE.
 */
export function checkMemoryEnd(parts: readonly (AddressRange | undefined)[], limit: Gpa): void {
  const end = Math.max(...parts.map(r => (r === undefined ? 0 : r.base + r.size)));
  if (end <= limit) return;
  throw new VmError('ERR_MEMORY_TOO_LARGE', `memory would end at ${hex(end)}, and has room up to ${hex(limit)}`, {
    hint: 'use less memory and hotplug',
    details: { end, limit },
  });
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

/**
 * The x86-pc memory map. Guests must not know it; the e820 map and ACPI tell them. RAM is below `ramLowEnd` and from
 * `ramHigh` on; what lies between is for devices.
 */
export const X86_PC = {
  /** First address behind the RAM below 4 GiB. */
  ramLowEnd: 0xb000_0000,
  ramHigh: 0x1_0000_0000,
  /** Below 1 MiB, read-only for the guest by convention: ACPI tables and the RSDP, where a guest looks for it. */
  acpi: { base: 0xe_0000, size: 0x2_0000 },
  /** Configuration space of buses 0 to 255. */
  pciEcam: { base: 0xb000_0000, size: 0x1000_0000 },
  /** 32-bit window of PCI memory. */
  pciMem32: { base: 0xc000_0000, size: 0x3ec0_0000 },
  ioapic: { base: 0xfec0_0000, size: 0x1000 },
  lapic: { base: 0xfee0_0000, size: 0x1000 },
  /** Page of the VM clock, behind the addresses of message-signalled interrupts. */
  vmclock: { base: 0xfeff_0000, size: 0x1000 },
  /** Four pages that KVM on Intel needs for itself: identity map, then the task state segment (api.rst 4.35 and 4.36). */
  kvmReserved: { base: 0xfffb_c000, size: 0x4000 },
} as const;

/** The x86-pc I/O ports. */
export const X86_PC_PORT = {
  /** i8042, as far as a reset needs it. */
  i8042: { base: 0x60, size: 8 },
  rtc: { base: 0x70, size: 2 },
  com1: { base: 0x3f8, size: 8 },
  /** PM1a_EVT_BLK (4 bytes), PM1a_CNT_BLK (2) and PM_TMR_BLK (4) of ACPI. */
  pm1aEvt: { base: 0x600, size: 4 },
  pm1aCnt: { base: 0x604, size: 2 },
  pmTmr: { base: 0x608, size: 4 },
  /** CONFIG_ADDRESS and CONFIG_DATA of PCI's mechanism #1; the reset control register lies inside, at 0xcf9. */
  pciConfig: { base: 0xcf8, size: 8 },
  reset: { base: 0xcf9, size: 1 },
  /** What BARs may be given. */
  pciIo: { base: 0x1000, size: 0xf000 },
} as const;

/** Global system interrupts of x86-pc: the pins of its one I/O APIC. */
export const X86_PC_GSI = {
  com1: 4,
  rtc: 8,
  /** ACPI's SCI, level-triggered. */
  sci: 9,
  /** INTA; INTB to INTD are the next three. Level-triggered, active high. */
  pciIntx: 16,
} as const;

/** The 64-bit window of PCI memory of a CPU with that many bits of physical address: the second quarter from the top half. */
export function x86PciMem64(physicalAddressBits: number): AddressRange {
  const bits = Math.min(physicalAddressBits, 40);
  return { base: 2 ** (bits - 1), size: 2 ** (bits - 2) };
}
