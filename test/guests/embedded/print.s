// Text over the PL011 (DDI 0183), and the lock that keeps lines of different CPUs apart.

uart_on:
        ldr     x1, [x28, #S_UART]
        cbz     x1, 1f
        mov     w0, #0x70               // UARTLCR_H: 8 bits, FIFOs
        str     w0, [x1, #0x2c]
        mov     w0, #0x301              // UARTCR: UARTEN, TXE, RXE
        str     w0, [x1, #0x30]
1:      ret

        // One character, in W0. Without a UART there is nowhere to complain.
put:    ldr     x1, [x28, #S_UART]
        cbz     x1, 2f
1:      ldr     w2, [x1, #0x18]         // UARTFR.TXFF
        tbnz    w2, #5, 1b
        str     w0, [x1]
2:      ret

newline:
        mov     w0, #'\n'
        b       put

        // The string X0.
print:  stp     x29, x30, [sp, #-32]!
        str     x19, [sp, #16]
        mov     x19, x0
1:      ldrb    w0, [x19], #1
        cbz     w0, 2f
        bl      put
        b       1b
2:      ldr     x19, [sp, #16]
        ldp     x29, x30, [sp], #32
        ret

        // The number X0.
print_hex:
        mov     x1, #16
        stp     x29, x30, [sp, #-16]!
        stp     x0, x1, [sp, #-16]!
        adr     x0, t_0x
        bl      print
        ldp     x0, x1, [sp], #16
        ldp     x29, x30, [sp], #16
        b       print_number
print_decimal:
        mov     x1, #10
print_number:
        stp     x29, x30, [sp, #-64]!
        str     x19, [sp, #16]
        add     x19, sp, #56            // digits grow down from here
        strb    wzr, [x19]
1:      udiv    x2, x0, x1
        msub    x3, x2, x1, x0
        mov     x0, x2
        cmp     x3, #10
        add     w3, w3, #'0'
        add     w4, w3, #'a' - '0' - 10
        csel    w3, w3, w4, lo
        strb    w3, [x19, #-1]!
        cbnz    x0, 1b
        mov     x0, x19
        bl      print
        ldr     x19, [sp, #16]
        ldp     x29, x30, [sp], #64
        ret

        // A lock of the kind that Arm ARM K13.3 shows: whoever waits sleeps until the lock is written.
lock:   add     x1, x28, #S_LOCK
        mov     w2, #1
        sevl
1:      wfe
2:      ldaxr   w3, [x1]
        cbnz    w3, 1b
        stxr    w3, w2, [x1]
        cbnz    w3, 2b
        ret
unlock: add     x1, x28, #S_LOCK
        stlr    wzr, [x1]
        ret

t_title:    .asciz "tsvisor: embedded guest, no kernel is needed\n"
t_machine:  .asciz "  machine  "
t_memory:   .asciz "\n  memory   "
t_mib_at:   .asciz " MiB at "
t_cpus:     .asciz "\n  cpus     "
t_midr:     .asciz ", MIDR_EL1 "
t_gic:      .asciz "\n  gic      GICv"
t_at:       .asciz " at "
t_counter:  .asciz "\n  counter  "
t_hz:       .asciz " Hz"
t_psci:     .asciz "\n  psci     "
t_dot:      .asciz "."
t_hvc:      .asciz " by HVC"
t_smc:      .asciz " by SMC"
t_uart:     .asciz "\n  uart     PL0"
t_revision: .asciz " revision "
t_0x:       .asciz "0x"
t_mmu:      .asciz "mmu: on, unaligned access works\n"
t_timer:    .asciz "timer: took interrupt "
t_sgi:      .asciz "gic: took SGI 1 from itself\n"
t_svc:      .asciz "el0: SVC 7 from EL0 brought 42\n"
t_cpu:      .asciz "psci: cpu "
t_mpidr:    .asciz " is on, MPIDR_EL1 "
t_others:   .asciz "psci: cpus that ran and are off again: "
t_done:     .asciz "tsvisor: embedded guest done\n"
t_unknown:  .asciz "unknown"
t_nothing:  .asciz ""
t_unaligned: .asciz "an unaligned access went wrong"
t_no_svc:   .asciz "SVC brought something else"
t_cpu_on:   .asciz "PSCI CPU_ON failed"
t_no_gicr:  .asciz "this CPU has no redistributor"
t_exception: .asciz "exception: ESR_EL1 "
t_elr:      .asciz ", ELR_EL1 "
t_far:      .asciz ", FAR_EL1 "
t_failed:   .asciz "\ntsvisor: embedded guest FAILED\n"
        .balign 16
