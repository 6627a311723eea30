// Identity map: 39 bits of address, blocks of 1 GiB. Arm ARM D8.

        .equ    BLOCK, 1 | 1 << 10                      // valid block, AF
        .equ    DEVICE, BLOCK | 3 << 53                 // AttrIndx 0, UXN, PXN
        .equ    NORMAL, BLOCK | 1 << 2 | 3 << 8         // AttrIndx 1, inner shareable
        .equ    USER, NORMAL | 3 << 6                   // read-only for EL1 and EL0
        .equ    USER_ENTRY, 256                         // where EL0 sees the program: 1 GiB from 256 GiB

mmu_tables:
        stp     x29, x30, [sp, #-16]!
        adr     x0, table
        // Devices first: RAM in the same GiB would win.
        ldr     x1, =DEVICE
        ldr     x2, [x28, #S_UART]
        bl      map
        ldr     x2, [x28, #S_GICD]
        bl      map
        ldr     x2, [x28, #S_GICR]
        bl      map
        ldr     x1, =NORMAL
        ldr     x2, [x28, #S_RAM_BASE]
        ldr     x4, [x28, #S_RAM_SIZE]
        add     x4, x2, x4
        lsr     x2, x2, #30
        sub     x4, x4, #1
        lsr     x4, x4, #30
1:      orr     x3, x1, x2, lsl #30
        str     x3, [x0, x2, lsl #3]
        add     x2, x2, #1
        cmp     x2, x4
        b.ls    1b
        // The GiB that this program is in, once more, for EL0: what EL0 may write, EL1 may not execute.
        adr     x2, image
        lsr     x2, x2, #30
        ldr     x1, =USER
        orr     x3, x1, x2, lsl #30
        str     x3, [x0, #8 * USER_ENTRY]
        dsb     ish
        ldp     x29, x30, [sp], #16
        ret

        // Maps the GiB of the address X2 with attributes X1.
map:    lsr     x2, x2, #30
        and     x2, x2, #0x1ff
        orr     x3, x1, x2, lsl #30
        str     x3, [x0, x2, lsl #3]
        ret

mmu_on: mov     x0, #0xff00             // MAIR: 0 = Device-nGnRnE, 1 = Normal write-back
        msr     MAIR_EL1, x0
        ldr     x0, =0x200803519        // TCR: T0SZ = 25, write-back inner shareable walks, EPD1, 40 bits out
        msr     TCR_EL1, x0
        adr     x0, table
        msr     TTBR0_EL1, x0
        isb
        tlbi    vmalle1
        dsb     nsh
        isb
        mrs     x0, SCTLR_EL1
        mov     x1, #0x1005             // I, C, M
        orr     x0, x0, x1
        bic     x0, x0, #2              // A: no alignment checks
        msr     SCTLR_EL1, x0
        isb
        ret
        .ltorg
