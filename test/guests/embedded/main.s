        .equ    SGI_SELF, 1
        .equ    SGI_RAN, 2

main:   stp     x29, x30, [sp, #-16]!
        adr     x0, t_title
        bl      print
        bl      report

        // An access across a cache line: unaligned ones need Normal memory, that is, the MMU.
        add     x1, x28, #S_SCRATCH
        add     x1, x1, #64
        and     x1, x1, #~63
        ldr     x2, =0x0123456789abcdef
        stur    x2, [x1, #-3]
        ldur    x3, [x1, #-3]
        cmp     x2, x3
        adr     x0, t_unaligned
        b.ne    fail
        adr     x0, t_mmu
        bl      print

        bl      gic_on

        // The virtual timer, 10 ms from now.
        mrs     x0, CNTFRQ_EL0
        mov     x1, #100
        udiv    x0, x0, x1
        msr     CNTV_TVAL_EL0, x0
        mov     x0, #1
        msr     CNTV_CTL_EL0, x0
        isb
        ldr     w0, [x28, #S_TIMER]
        bl      wait_for
        adr     x0, t_timer
        bl      print
        ldr     w0, [x28, #S_TIMER]
        bl      print_decimal
        bl      newline

        mov     x0, #SGI_SELF
        ldr     x1, [x28, #S_BOOT_CPU]
        bl      gic_send
        mov     x0, #SGI_SELF
        bl      wait_for
        adr     x0, t_sgi
        bl      print

        bl      user_mode
        cmp     x0, #42
        adr     x0, t_no_svc
        b.ne    fail
        adr     x0, t_svc
        bl      print

        bl      start_others
        adr     x0, t_done
        bl      print
        ldp     x29, x30, [sp], #16
        ret

        // What the machine is, from the device tree and the CPU's own registers.
report: stp     x29, x30, [sp, #-16]!
        adr     x0, t_machine
        bl      print
        ldr     x0, [x28, #S_MODEL]
        bl      print
        adr     x0, t_memory
        bl      print
        ldr     x0, [x28, #S_RAM_SIZE]
        lsr     x0, x0, #20
        bl      print_decimal
        adr     x0, t_mib_at
        bl      print
        ldr     x0, [x28, #S_RAM_BASE]
        bl      print_hex
        adr     x0, t_cpus
        bl      print
        ldr     w0, [x28, #S_CPUS]
        bl      print_decimal
        adr     x0, t_midr
        bl      print
        mrs     x0, MIDR_EL1
        bl      print_hex
        adr     x0, t_gic
        bl      print
        ldr     w0, [x28, #S_GIC]
        bl      print_decimal
        adr     x0, t_at
        bl      print
        ldr     x0, [x28, #S_GICD]
        bl      print_hex
        adr     x0, t_counter
        bl      print
        mrs     x0, CNTFRQ_EL0
        bl      print_decimal
        adr     x0, t_hz
        bl      print
        adr     x0, t_psci
        bl      print
        ldr     x0, =0x84000000         // PSCI_VERSION
        bl      psci
        mov     w19, w0
        lsr     w0, w19, #16
        bl      print_decimal
        adr     x0, t_dot
        bl      print
        and     w0, w19, #0xffff
        bl      print_decimal
        ldr     w1, [x28, #S_SMC]
        cmp     w1, #0
        adr     x0, t_hvc
        adr     x2, t_smc
        csel    x0, x0, x2, eq
        bl      print
        // UARTPeriphID: part number in bits 11:0, revision in bits 23:20 (DDI 0183 section 3.3.15).
        adr     x0, t_uart
        bl      print
        ldr     x1, [x28, #S_UART]
        add     x1, x1, #0xfe0
        ldr     w0, [x1]
        ldr     w2, [x1, #4]
        bfi     w0, w2, #8, #4
        ldr     w19, [x1, #8]
        ubfx    w0, w0, #0, #12
        mov     x1, #16
        bl      print_number
        adr     x0, t_revision
        bl      print
        lsr     w0, w19, #4
        bl      print_decimal
        adr     x0, t_at
        bl      print
        ldr     x0, [x28, #S_UART]
        bl      print_hex
        bl      newline
        ldp     x29, x30, [sp], #16
        ret

        // Powers every other CPU on at once, waits until all have reported and turned themselves off.
start_others:
        stp     x29, x30, [sp, #-16]!
        mov     x19, #0                 // index into the list of CPUs
        mov     x20, #0                 // CPUs started
1:      ldr     w1, [x28, #S_CPUS]
        cmp     x19, x1
        b.hs    3f
        add     x2, x28, #S_MPIDRS
        ldr     x1, [x2, x19, lsl #3]
        add     x19, x19, #1
        ldr     x2, [x28, #S_BOOT_CPU]
        cmp     x1, x2
        b.eq    1b
        add     x20, x20, #1
        ldr     x0, =0xc4000003         // CPU_ON(mpidr, entry, context)
        adr     x2, secondary
        mov     x3, x20
        bl      psci
        mov     x1, x0
        adr     x0, t_cpu_on
        cbnz    x1, fail
        b       1b

        // A pending interrupt ends WFI even when masked: what is counted between test and WFI is not missed.
3:      msr     DAIFSet, #2
        add     x1, x28, #S_RAN
        ldar    w2, [x1]
        cmp     w2, w20
        b.hs    4f
        wfi
        msr     DAIFClr, #2
        isb
        b       3b
4:      msr     DAIFClr, #2

        mov     x19, #0
5:      ldr     w1, [x28, #S_CPUS]
        cmp     x19, x1
        b.hs    7f
        add     x2, x28, #S_MPIDRS
        ldr     x21, [x2, x19, lsl #3]
        add     x19, x19, #1
        ldr     x2, [x28, #S_BOOT_CPU]
        cmp     x21, x2
        b.eq    5b
6:      ldr     x0, =0xc4000004         // AFFINITY_INFO(mpidr, 0): 1 is OFF
        mov     x1, x21
        mov     x2, #0
        bl      psci
        cmp     x0, #1
        b.eq    5b
        yield
        b       6b
7:      cbz     x20, 8f
        adr     x0, t_others
        bl      print
        mov     x0, x20
        bl      print_decimal
        bl      newline
8:      ldp     x29, x30, [sp], #16
        ret
        .ltorg
