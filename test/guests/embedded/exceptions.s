// Exceptions: interrupts at EL1, and the one SVC from EL0. Anything else is reported and ends the guest.

        .balign 2048
vectors:
        .rept   5
        b       unexpected
        .balign 128
        .endr
        b       interrupt               // 0x280: IRQ, EL1 with its own stack
        .balign 128
        .rept   2
        b       unexpected
        .balign 128
        .endr
        b       from_user               // 0x400: synchronous, from EL0
        .balign 128
        .rept   7
        b       unexpected
        .balign 128
        .endr

        // What C compilers may change: X0..X18, X30; and what a nested exception would.
interrupt:
        sub     sp, sp, #192
        stp     x0, x1, [sp]
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        stp     x8, x9, [sp, #64]
        stp     x10, x11, [sp, #80]
        stp     x12, x13, [sp, #96]
        stp     x14, x15, [sp, #112]
        stp     x16, x17, [sp, #128]
        stp     x18, x30, [sp, #144]
        mrs     x0, ELR_EL1
        mrs     x1, SPSR_EL1
        stp     x0, x1, [sp, #160]
        bl      take_interrupt
        ldp     x0, x1, [sp, #160]
        msr     ELR_EL1, x0
        msr     SPSR_EL1, x1
        ldp     x0, x1, [sp]
        ldp     x2, x3, [sp, #16]
        ldp     x4, x5, [sp, #32]
        ldp     x6, x7, [sp, #48]
        ldp     x8, x9, [sp, #64]
        ldp     x10, x11, [sp, #80]
        ldp     x12, x13, [sp, #96]
        ldp     x14, x15, [sp, #112]
        ldp     x16, x17, [sp, #128]
        ldp     x18, x30, [sp, #144]
        add     sp, sp, #192
        eret

        // Runs user_code at EL0, where it is mapped for it; returns the X0 that it passes to SVC #7.
user_mode:
        stp     x29, x30, [sp, #-16]!
        adr     x0, user_code
        and     x0, x0, #0x3fffffff
        mov     x1, #USER_ENTRY << 30
        orr     x0, x0, x1
        msr     ELR_EL1, x0
        mov     x0, #0x3c0              // EL0, all interrupts masked
        msr     SPSR_EL1, x0
        mov     x0, #0
        eret
from_user:
        mrs     x1, ESR_EL1
        ldr     x2, =0x56000007         // EC 0x15: SVC in AArch64 state; IL; the number
        cmp     x1, x2
        b.ne    unexpected
        msr     DAIFClr, #2
        ldp     x29, x30, [sp], #16
        ret

user_code:
        mov     x0, #42
        svc     #7
        b       .

unexpected:
        adr     x28, state
        adr     x0, t_exception
        bl      print
        mrs     x0, ESR_EL1
        bl      print_hex
        adr     x0, t_elr
        bl      print
        mrs     x0, ELR_EL1
        bl      print_hex
        adr     x0, t_far
        bl      print
        mrs     x0, FAR_EL1
        bl      print_hex
        adr     x0, t_nothing
        // X0: why.
fail:   bl      print
        adr     x0, t_failed
        bl      print
        b       power_off
        .ltorg
