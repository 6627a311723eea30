// The flattened device tree: Devicetree specification 0.4, chapter 5.

        // X0: the tree. Finds RAM, CPUs, UART, interrupt controller, timer and PSCI. What a node has is collected in
        // slots, and judged where the node's properties end: at its first child or its end.
read_tree:
        stp     x29, x30, [sp, #-16]!
        mrs     x1, MPIDR_EL1
        ldr     x2, =0xff00ffffff
        and     x1, x1, x2
        str     x1, [x28, #S_BOOT_CPU]
        mov     w1, #2                  // the root's cells, if it does not say
        str     w1, [x28, #S_ADDRESS_CELLS]
        adr     x1, t_unknown
        str     x1, [x28, #S_MODEL]
        mov     x19, x0
        ldr     w0, [x19]
        rev     w0, w0
        ldr     w1, =0xd00dfeed
        cmp     w0, w1
        b.ne    9f
        ldr     w0, [x19, #8]           // off_dt_struct
        rev     w0, w0
        add     x20, x19, x0
        ldr     w0, [x19, #12]          // off_dt_strings
        rev     w0, w0
        add     x21, x19, x0
        mov     x22, #0                 // depth
next:   ldr     w23, [x20], #4
        rev     w23, w23
        cmp     w23, #3
        b.eq    property
        cmp     w23, #4                 // NOP
        b.eq    next
        bl      judge
        cmp     w23, #1
        b.eq    begin
        cmp     w23, #2
        b.ne    9f                      // END
        sub     x22, x22, #1
        b       next
begin:  add     x22, x22, #1
1:      ldrb    w0, [x20], #1
        cbnz    w0, 1b
        add     x20, x20, #3
        and     x20, x20, #~3
        b       next
9:      ldp     x29, x30, [sp], #16
        ret

property:
        ldp     w24, w25, [x20], #8
        rev     w24, w24                // length
        rev     w25, w25                // name
        mov     x26, x20                // value
        add     x20, x20, x24
        add     x20, x20, #3
        and     x20, x20, #~3
        adr     x27, names
        mov     x19, #0                 // slot
1:      ldrb    w0, [x27]
        cbz     w0, next
        add     x0, x21, x25
        mov     x1, x27
        bl      equal
        cbnz    x0, 3f
2:      ldrb    w0, [x27], #1           // to the next name
        cbnz    w0, 2b
        add     x19, x19, #1
        b       1b
3:      add     x0, x28, #S_SLOTS
        add     x0, x0, x19, lsl #4
        stp     x26, x24, [x0]
        cmp     x22, #1
        b.ne    next
        // The root's own.
        cmp     x19, #SLOT_MODEL
        b.ne    4f
        str     x26, [x28, #S_MODEL]
4:      cmp     x19, #SLOT_CELLS
        b.ne    next
        ldr     w0, [x26]
        rev     w0, w0
        str     w0, [x28, #S_ADDRESS_CELLS]
        b       next

        .equ    SLOT_COMPATIBLE, 0
        .equ    SLOT_REG, 1
        .equ    SLOT_TYPE, 2
        .equ    SLOT_METHOD, 3
        .equ    SLOT_INTERRUPTS, 4
        .equ    SLOT_MODEL, 5
        .equ    SLOT_CELLS, 6
        .equ    SLOTS, 7
names:  .asciz  "compatible", "reg", "device_type", "method", "interrupts", "model", "#address-cells", ""
        .balign 4

        // Takes what it knows from the slots, and empties them.
judge:  stp     x29, x30, [sp, #-16]!
        ldr     x0, [x28, #S_SLOTS + 16 * SLOT_TYPE]
        cbz     x0, 2f
        adr     x1, n_cpu
        bl      equal
        cbz     x0, 1f
        bl      reg_is_cpu
        b       9f
1:      ldr     x0, [x28, #S_SLOTS + 16 * SLOT_TYPE]
        adr     x1, n_memory
        bl      equal
        cbz     x0, 2f
        bl      reg_first
        str     x0, [x28, #S_RAM_BASE]
        bl      reg_next
        str     x0, [x28, #S_RAM_SIZE]
        b       9f

2:      adr     x0, n_pl011
        bl      compatible
        cbz     x0, 3f
        bl      reg_first
        str     x0, [x28, #S_UART]
        b       9f
3:      adr     x0, n_gic3
        bl      compatible
        mov     w19, #3
        cbnz    x0, 4f
        adr     x0, n_gic2
        bl      compatible
        mov     w19, #2
        cbz     x0, 5f
4:      str     w19, [x28, #S_GIC]
        bl      reg_first
        str     x0, [x28, #S_GICD]
        bl      reg_next                // its size
        bl      reg_next
        str     x0, [x28, #S_GICR]      // redistributors, or the CPU interface of a GICv2
        b       9f
5:      adr     x0, n_psci
        bl      compatible
        cbz     x0, 6f
        ldr     x0, [x28, #S_SLOTS + 16 * SLOT_METHOD]
        cbz     x0, 9f
        adr     x1, n_smc
        bl      equal
        str     w0, [x28, #S_SMC]
        b       9f
6:      adr     x0, n_timer
        bl      compatible
        cbz     x0, 9f
        ldr     x1, [x28, #S_SLOTS + 16 * SLOT_INTERRUPTS]
        cbz     x1, 9f
        ldr     w0, [x1, #28]           // third specifier of three cells: the virtual timer; PPIs start at INTID 16
        rev     w0, w0
        add     w0, w0, #16
        str     w0, [x28, #S_TIMER]

9:      add     x0, x28, #S_SLOTS
        mov     x1, #SLOTS
1:      stp     xzr, xzr, [x0], #16
        subs    x1, x1, #1
        b.ne    1b
        ldp     x29, x30, [sp], #16
        ret

        // Adds a CPU; its reg has one cell or two.
reg_is_cpu:
        ldp     x1, x2, [x28, #S_SLOTS + 16 * SLOT_REG]
        cbz     x1, 9f
        ldr     w0, [x1]
        rev     w0, w0
        cmp     x2, #8
        b.lo    1f
        ldr     w2, [x1, #4]
        rev     w2, w2
        orr     x0, x2, x0, lsl #32
1:      ldr     w1, [x28, #S_CPUS]
        cmp     w1, #MAX_CPUS
        b.hs    9f
        add     x2, x28, #S_MPIDRS
        str     x0, [x2, x1, lsl #3]
        add     w1, w1, #1
        str     w1, [x28, #S_CPUS]
9:      ret

        // X0: the first number of reg, or the next one. Addresses and sizes have the same number of cells here.
reg_first:
        ldr     x0, [x28, #S_SLOTS + 16 * SLOT_REG]
        str     x0, [x28, #S_REG_AT]
reg_next:
        ldr     x1, [x28, #S_REG_AT]
        mov     x0, #0
        cbz     x1, 2f
        ldr     w2, [x28, #S_ADDRESS_CELLS]
1:      cbz     w2, 2f
        ldr     w3, [x1], #4
        rev     w3, w3
        orr     x0, x3, x0, lsl #32
        sub     w2, w2, #1
        b       1b
2:      str     x1, [x28, #S_REG_AT]
        ret

        // Whether the node's list "compatible" has the string X0.
compatible:
        stp     x29, x30, [sp, #-32]!
        stp     x19, x20, [sp, #16]
        ldp     x19, x20, [x28, #S_SLOTS + 16 * SLOT_COMPATIBLE]
        add     x20, x19, x20
        str     x0, [x28, #S_WANTED]
1:      cmp     x19, x20
        mov     x0, #0
        b.hs    9f
        mov     x0, x19
        ldr     x1, [x28, #S_WANTED]
        bl      equal
        cbnz    x0, 9f
2:      ldrb    w0, [x19], #1
        cbnz    w0, 2b
        b       1b
9:      ldp     x19, x20, [sp, #16]
        ldp     x29, x30, [sp], #32
        ret

        // Whether the strings X0 and X1 are equal.
equal:  ldrb    w2, [x0], #1
        ldrb    w3, [x1], #1
        cmp     w2, w3
        b.ne    1f
        cbnz    w2, equal
1:      cset    x0, eq
        ret
        .ltorg
n_cpu:    .asciz "cpu"
n_memory: .asciz "memory"
n_pl011:  .asciz "arm,pl011"
n_gic3:   .asciz "arm,gic-v3"
n_gic2:   .asciz "arm,cortex-a15-gic"
n_psci:   .asciz "arm,psci-0.2"
n_smc:    .asciz "smc"
n_timer:  .asciz "arm,armv8-timer"
        .balign 4
