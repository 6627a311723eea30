import { guest } from './arm64-source.ts';
import { type ContractCase, read, write } from './contract.ts';
import { ARM } from './places.ts';

// Loads and stores, to devices and to RAM. What hardware does not decode for a hypervisor (pairs, write-back: Arm ARM
// D17.2.37, ISS.ISV) is left out for devices: KVM cannot answer it.

const D = ARM.device;
const R = ARM.data;
const WORD = 0x8182_8384_8586_8788n;

const access = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'aarch64',
  ...c,
});

/** Cases of loads and stores. */
export const ACCESS_CASES: readonly ContractCase[] = [
  access('reads of 1, 2, 4 and 8 bytes of a device, zero-extended', {
    smoke: true,
    reads: { [D + 0x10]: WORD },
    code: guest(`
        mov     x0, #-1
        mov     x1, #-1
        mov     x2, #-1
        ldrb    w0, [x28, #0x10]
        ldrh    w1, [x28, #0x10]
        ldr     w2, [x28, #0x10]
        ldr     x3, [x28, #0x10]`),
    trace: [
      read(1, D + 0x10, 0x88),
      read(2, D + 0x10, 0x8788),
      read(4, D + 0x10, 0x8586_8788),
      read(8, D + 0x10, WORD),
    ],
    registers: { x0: 0x88, x1: 0x8788, x2: 0x8586_8788, x3: WORD, x28: D },
  }),
  access('writes of 1, 2, 4 and 8 bytes of a device', {
    smoke: true,
    code: guest(`
        ldr     x0, =0x8182838485868788
        strb    w0, [x28, #0x11]
        strh    w0, [x28, #0x12]
        str     w0, [x28, #0x14]
        str     x0, [x28, #0x18]`),
    trace: [
      write(1, D + 0x11, 0x88),
      write(2, D + 0x12, 0x8788),
      write(4, D + 0x14, 0x8586_8788),
      write(8, D + 0x18, WORD),
    ],
    registers: { x0: WORD },
  }),
  access('sign-extending loads from a device', {
    needs: ['sign-extending loads of devices'],
    reads: { [D + 0x20]: WORD, [D + 0x28]: 0x7172_7374_7576_7778n },
    code: guest(`
        ldrsb   w0, [x28, #0x20]
        ldrsb   x1, [x28, #0x20]
        ldrsh   w2, [x28, #0x20]
        ldrsh   x3, [x28, #0x20]
        ldrsw   x4, [x28, #0x20]
        ldrsb   x5, [x28, #0x28]
        ldrsh   x6, [x28, #0x28]
        ldrsw   x7, [x28, #0x28]`),
    trace: [
      ...[1, 1].map(s => read(s, D + 0x20, 0x88)),
      ...[2, 2].map(s => read(s, D + 0x20, 0x8788)),
      read(4, D + 0x20, 0x8586_8788),
      read(1, D + 0x28, 0x78),
      read(2, D + 0x28, 0x7778),
      read(4, D + 0x28, 0x7576_7778),
    ],
    registers: {
      x0: 0xffff_ff88,
      x1: 0xffff_ffff_ffff_ff88n,
      x2: 0xffff_8788,
      x3: 0xffff_ffff_ffff_8788n,
      x4: 0xffff_ffff_8586_8788n,
      x5: 0x78,
      x6: 0x7778,
      x7: 0x7576_7778,
    },
  }),
  access('the zero register: its stores are zeros, and loads to it reach the device', {
    reads: { [D + 8]: 0x55 },
    code: guest(`
        str     xzr, [x28]
        strb    wzr, [x28, #4]
        ldr     wzr, [x28, #8]`),
    trace: [write(8, D, 0), write(1, D + 4, 0), read(4, D + 8, 0x55)],
  }),
  access('device addresses from registers, scaled and extended', {
    reads: { [D + 0x40]: 1, [D + 0x80]: 2, [D + 0xc0]: 3, [D + 0x7c]: 4, [D + 0x101]: 5 },
    code: guest(`
        mov     x9, #0x40
        ldr     w0, [x28, x9]
        mov     x9, #0x20
        ldr     w1, [x28, x9, lsl #2]
        ldr     x9, =0xffffffff00000030
        ldr     w2, [x28, w9, uxtw #2]
        add     x10, x28, #0x80
        ldr     x9, =0xffffffff
        ldr     w3, [x10, w9, sxtw #2]
        ldurb   w5, [x28, #0xff]
        add     x10, x28, #0x110
        ldurb   w4, [x10, #-15]
        mov     w11, #0x77
        str     w11, [x28, x9, lsl #2]`),
    trace: [
      read(4, D + 0x40, 1),
      read(4, D + 0x80, 2),
      read(4, D + 0xc0, 3),
      read(4, D + 0x7c, 4),
      read(1, D + 0xff, 0xff),
      read(1, D + 0x101, 5),
      write(4, D + 0x3_ffff_fffc, 0x77),
    ],
    registers: { x0: 1, x1: 2, x2: 3, x3: 4, x4: 5, x5: 0xff },
  }),
  access('load-acquire and store-release of a device', {
    reads: { [D + 0x30]: 0xa1a2_a3a4n },
    code: guest(`
        add     x1, x28, #0x30
        ldar    w0, [x1]
        ldarb   w2, [x1]
        stlr    w0, [x1]
        stlrh   w0, [x1]`),
    trace: [
      read(4, D + 0x30, 0xa1a2_a3a4),
      read(1, D + 0x30, 0xa4),
      write(4, D + 0x30, 0xa1a2_a3a4),
      write(2, D + 0x30, 0xa3a4),
    ],
    registers: { x0: 0xa1a2_a3a4, x2: 0xa4 },
  }),
  access('an address where nothing is reads as all ones', {
    code: guest(`
        mov     x9, #0xf00000
        add     x9, x28, x9
        ldrb    w0, [x9]
        ldrh    w1, [x9]
        ldr     w2, [x9]
        ldr     x3, [x9]
        str     w9, [x9]`),
    trace: [
      read(1, D + 0xf0_0000, 0xff),
      read(2, D + 0xf0_0000, 0xffff),
      read(4, D + 0xf0_0000, 0xffff_ffff),
      read(8, D + 0xf0_0000, 0xffff_ffff_ffff_ffffn),
      write(4, D + 0xf0_0000, 0x0af0_0000),
    ],
    registers: { x0: 0xff, x1: 0xffff, x2: 0xffff_ffff, x3: 2n ** 64n - 1n },
  }),
  access('a register that a device gives goes on to another device', {
    reads: { [D]: [1, 2, 3, 4] },
    code: guest(`
        mov     w9, #4
1:      ldr     w0, [x28]
        str     w0, [x28, #8]
        add     x1, x1, x0
        subs    w9, w9, #1
        b.ne    1b`),
    trace: [1, 2, 3, 4].flatMap(n => [read(4, D, n), write(4, D + 8, n)]),
    registers: { x0: 4, x1: 10, x9: 0 },
  }),
  access('pairs, write-back and unaligned accesses of RAM never leave the guest', {
    // Alignment is checked for Device memory, which all of RAM is while the MMU is off (Arm ARM B2.7.2).
    code: guest(
      `
        ldr     x0, =0x1111111122222222
        ldr     x1, =0x3333333344444444
        add     x9, x29, #0x100
        stp     x0, x1, [x9]
        stp     w0, w1, [x9, #16]
        ldp     x2, x3, [x9, #8]
        ldpsw   x4, x5, [x9, #12]
        str     x1, [x9, #0x21]
        ldr     x6, [x9, #0x1d]
        mov     x10, x9
        ldr     x7, [x10], #8
        ldr     x8, [x10, #8]!
        ldrh    w11, [x9, #7]`,
      { mmu: true },
    ),
    trace: [],
    memory: {
      [R + 0x100]: 0x1111_1111_2222_2222n,
      [R + 0x108]: 0x3333_3333_4444_4444n,
      [R + 0x110]: 0x4444_4444_2222_2222n,
      [R + 0x120]: 0x3333_3344_4444_4400n,
      [R + 0x128]: 0x33n,
    },
    registers: {
      x2: 0x3333_3333_4444_4444n,
      x3: 0x4444_4444_2222_2222n,
      x4: 0x3333_3333n,
      x5: 0x2222_2222n,
      x6: 0x4444_4444_0000_0000n,
      x7: 0x1111_1111_2222_2222n,
      x8: 0x4444_4444_2222_2222n,
      x10: R + 0x110,
      x11: 0x4411,
    },
  }),
  access('the state that the first vCPU starts in: EL1, MMU and caches off, interrupts masked, X0 as told', {
    smoke: true,
    code: guest(
      `
        mov     x20, x0
        mrs     x1, CurrentEL
        mrs     x2, DAIF
        mrs     x3, SCTLR_EL1
        mov     x7, #5
        and     x3, x3, x7
        mrs     x4, SPSel
        mrs     x5, MPIDR_EL1
        and     x5, x5, #0xffffff
        adr     x6, start`,
    ),
    trace: [],
    registers: { x20: ARM.x0, x1: 4, x2: 0x3c0, x3: 0, x4: 1, x5: 0, x6: ARM.code },
  }),
];
