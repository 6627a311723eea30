// The embedded guest: what runs when there is no kernel. It knows nothing of the machine but the device tree in X0; it
// prints what it finds, uses each part once and powers off.
//
// Files, assembled as one in this order: boot.s, main.s, tree.s, mmu.s, gic.s, exceptions.s, print.s, state.s.
// X28 is the base of the state (state.s) everywhere. Position-independent, with an arm64 Image header
// (Documentation/arch/arm64/booting.rst section 4).

image:  b       boot
        .word   0
        .quad   0                       // text_offset
        .quad   end - image             // image_size, with state and stacks
        .quad   0xa                     // flags: little-endian, 4 KiB pages, anywhere in memory
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .word   0

boot:   msr     DAIFSet, #15
        mov     x19, x0
        adr     x28, state
        // Memory is not cleared by everyone who loads an image.
        mov     x1, x28
        adr     x2, stacks
1:      stp     xzr, xzr, [x1], #16
        cmp     x1, x2
        b.lo    1b
        adr     x1, end
        mov     sp, x1
        adr     x1, vectors
        msr     VBAR_EL1, x1
        isb
        mov     x0, x19
        bl      read_tree
        bl      mmu_tables
        bl      mmu_on
        bl      uart_on
        bl      main
        // PSCI SYSTEM_OFF does not return.
power_off:
        ldr     x0, =0x84000008
        bl      psci
1:      wfi
        b       1b

        // A vCPU that CPU_ON has started: X0 is its number.
secondary:
        msr     DAIFSet, #15
        mov     x20, x0
        adr     x28, state
        adr     x1, end
        sub     x1, x1, x20, lsl #12
        mov     sp, x1
        adr     x1, vectors
        msr     VBAR_EL1, x1
        bl      mmu_on
        bl      lock
        adr     x0, t_cpu
        bl      print
        mov     x0, x20
        bl      print_decimal
        adr     x0, t_mpidr
        bl      print
        mrs     x0, MPIDR_EL1
        bl      print_hex
        bl      newline
        bl      unlock
        add     x1, x28, #S_RAN
1:      ldaxr   w2, [x1]
        add     w2, w2, #1
        stlxr   w3, w2, [x1]
        cbnz    w3, 1b
        dsb     ish
        mov     x0, #SGI_RAN
        ldr     x1, [x28, #S_BOOT_CPU]
        bl      gic_send
        ldr     x0, =0x84000002         // PSCI CPU_OFF does not return
        bl      psci
1:      wfi
        b       1b

        // X0..X3: function and arguments. The device tree says by which instruction.
psci:   ldr     w9, [x28, #S_SMC]
        cbnz    w9, 1f
        hvc     #0
        ret
1:      smc     #0
        ret
        .ltorg
