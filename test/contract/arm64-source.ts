import { ARM_VIRT } from '../../src/machine/address-map.ts';
import type { Rig } from './contract.ts';
import { ARM } from './places.ts';

// Parts that arm64 guests of the suite are made of. X28 is ARM.device, X29 ARM.data; X30 and SP are anybody's.

const hex = (v: number) => `0x${v.toString(16)}`;

/** INTIDs from here on are LPIs. */
export const FIRST_LPI = 8192;

/**
 * A guest: `body`, and the last write.
 * @param o mmu: RAM is Normal memory, devices are Device memory, addresses stay; see {@link mmuTables}.
 *   tail: what comes behind the end, such as subroutines and vectors.
 */
export function guest(body: string, o: { readonly mmu?: boolean; readonly tail?: string } = {}): string {
  return `
start:  ldr     x28, =${hex(ARM.device)}
        ldr     x29, =${hex(ARM.data)}
        ${o.mmu === true ? MMU_ON : ''}
        ${body}
end:    ldr     x30, =${hex(ARM.end)}
        str     wzr, [x30]
99:     wfi
        b       99b
        .ltorg
        ${o.tail ?? ''}
`;
}

/** A write that the host waits for (Rig.finish), and a wait until the host has written `n` to the first word of data. */
export function meet(n: number): string {
  return `
        ldr     x30, =${hex(ARM.end)}
        str     wzr, [x30]
98:     ldr     w30, [x29]
        cmp     w30, #${n}
        b.ne    98b
`;
}

/** The host's side of {@link meet}: waits for the guest's `n`th write, does something while no vCPU runs, and lets it go on. */
export async function meeting(rig: Rig, n: number, then: () => void | Promise<void>): Promise<void> {
  await rig.finish(n);
  rig.engine.pause();
  await then();
  rig.engine.memory.setU32(ARM.data, n);
}

/**
 * Turns the MMU on for tables of one page: 39 bits, 4 KiB granule, level 1, the first GiB Device memory, the second one
 * Normal (Arm ARM D8.3.1; the tables are written by the guest itself, with the MMU off).
 */
const MMU_ON = `
        ldr     x30, =${hex(ARM.tables)}
        ldr     x27, =0x60000000000405      // AttrIndx 1, AF, UXN and PXN: a block at 0
        str     x27, [x30]
        ldr     x27, =${hex(ARM.ram + 0x701)}         // AttrIndx 0, AF, inner shareable: a block at the start of RAM
        str     x27, [x30, #8]
        msr     TTBR0_EL1, x30
        ldr     x27, =0x00ff                // Normal write-back; Device-nGnRnE
        msr     MAIR_EL1, x27
        ldr     x27, =0x200803519           // T0SZ 25, write-back tables, inner shareable, EPD1, 40 bits
        msr     TCR_EL1, x27
        isb
        tlbi    vmalle1
        dsb     sy
        isb
        mrs     x27, SCTLR_EL1
        ldr     x30, =0x1005                // M, C, I
        orr     x27, x27, x30
        msr     SCTLR_EL1, x27
        isb
`;

/** Vectors of a guest whose only exceptions are interrupts from EL1 with SP_EL1, which `handler` gets. Anything else ends in a spin. */
export function vectors(handler: string): string {
  return `
        .balign 2048
vectors:
        .skip   0x280
        b       irq
        .balign 2048
irq:    ${handler}
`;
}

/**
 * The interrupt controller of a vCPU (Arm IHI 0069, chapter 12): group 1, all priorities, interrupts unmasked, {@link vectors}.
 * @param intid to enable; an SPI goes to the first vCPU. An LPI is enabled by its table.
 * @param o trigger of an SPI: what it is after a reset is not defined (12.9.7).
 */
export function gic(intid: number, o: { readonly cpu?: number; readonly trigger?: 'level' | 'edge' } = {}): string {
  const { cpu = 0, trigger = 'level' } = o;
  // Two frames of 64 KiB for each vCPU.
  const rd = ARM_VIRT.gicr.base + 0x2_0000 * cpu;
  const sgi = rd + 0x1_0000;
  const enable =
    intid >= FIRST_LPI
      ? ''
      : intid < 32
        ? `
        ldr     x30, =${hex(sgi)}
        mov     w27, #-1
        str     w27, [x30, #0x80]           // GICR_IGROUPR0
        ldr     w27, =${hex(2 ** intid)}
        str     w27, [x30, #0x100]          // GICR_ISENABLER0`
        : `
        mov     w27, #-1
        str     w27, [x30, #${0x80 + 4 * (intid >>> 5)}]           // GICD_IGROUPR<n>
        ldr     w27, =${trigger === 'edge' ? hex(2 * 4 ** (intid & 15)) : 0}
        str     w27, [x30, #${0xc00 + 4 * (intid >>> 4)}]          // GICD_ICFGR<n>
        mov     w27, #${2 ** (intid & 31)}
        str     w27, [x30, #${0x100 + 4 * (intid >>> 5)}]          // GICD_ISENABLER<n>
        ldr     x27, =${hex(ARM_VIRT.gicd.base + 0x6000 + 8 * intid)}
        str     xzr, [x27]                  // GICD_IROUTER<n>: affinity 0.0.0.0`;
  return `
        ldr     x30, =${hex(ARM_VIRT.gicd.base)}
        mov     w27, #0x12                  // GICD_CTLR: ARE, EnableGrp1
        str     w27, [x30]
        ldr     x27, =${hex(rd)}
        str     wzr, [x27, #0x14]           // GICR_WAKER
97:     ldr     w26, [x27, #0x14]
        tbnz    w26, #2, 97b                // ChildrenAsleep
        ${enable}
        mov     x27, #7
        msr     ICC_SRE_EL1, x27
        isb
        mov     x27, #0xff
        msr     ICC_PMR_EL1, x27
        mov     x27, #1
        msr     ICC_IGRPEN1_EL1, x27
        isb
        adr     x27, vectors
        msr     VBAR_EL1, x27
        isb
        msr     DAIFClr, #2
`;
}

/** Waits in WFI until the second word of data is not 0; an interrupt that comes before the WFI is not lost (Arm ARM D1.6.2). */
export const WAIT = `
96:     msr     DAIFSet, #2
        ldr     x30, [x29, #8]
        cbnz    x30, 95f
        wfi
        msr     DAIFClr, #2
        isb
        b       96b
95:     msr     DAIFClr, #2
`;

/**
 * A handler that notes the INTID in the third word of data, counts in the fourth, does `device`, and ends WAIT by the second one.
 * It changes X26 and X27.
 */
export const handler = (device: string): string => `
        mrs     x26, ICC_IAR1_EL1
        str     x26, [x29, #16]
        ldr     x27, [x29, #24]
        add     x27, x27, #1
        str     x27, [x29, #24]
        ${device}
        dsb     sy
        msr     ICC_EOIR1_EL1, x26
        isb
        mov     x27, #1
        str     x27, [x29, #8]
        eret
`;
