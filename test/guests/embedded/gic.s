// The interrupt controller, GICv3 (IHI 0069) or GICv2 (IHI 0048), for the boot CPU: its private interrupts only.

gic_on: stp     x29, x30, [sp, #-16]!
        // What is enabled: the timer and both SGIs.
        mov     w19, #(1 << SGI_SELF) | (1 << SGI_RAN)
        ldr     w1, [x28, #S_TIMER]
        mov     w2, #1
        lsl     w2, w2, w1
        orr     w19, w19, w2
        ldr     x20, [x28, #S_GICD]
        ldr     x21, [x28, #S_GICR]
        ldr     w0, [x28, #S_GIC]
        cmp     w0, #2
        b.eq    gic2_on

        mov     w0, #0x10               // GICD_CTLR.ARE first, then EnableGrp1
        str     w0, [x20]
        bl      gicd_settle
        mov     w0, #0x12
        str     w0, [x20]
        bl      gicd_settle
        // This CPU's redistributor: GICR_TYPER has its affinity, and where the next one is.
        ldr     x1, [x28, #S_BOOT_CPU]
        lsr     x2, x1, #32
        bfi     x1, x2, #24, #8         // Aff3.Aff2.Aff1.Aff0
1:      ldr     x2, [x21, #8]
        lsr     x3, x2, #32
        cmp     w3, w1
        b.eq    2f
        adr     x0, t_no_gicr
        tbnz    x2, #4, fail            // Last
        mov     x3, #0x20000
        tst     x2, #2                  // VLPIS: two more frames
        csel    x4, x3, xzr, ne
        add     x21, x21, x3
        add     x21, x21, x4
        b       1b
2:      ldr     w0, [x21, #0x14]        // GICR_WAKER.ProcessorSleep, ChildrenAsleep
        and     w0, w0, #~2
        str     w0, [x21, #0x14]
3:      ldr     w0, [x21, #0x14]
        tbnz    w0, #2, 3b
        add     x21, x21, #0x10000      // SGI_base
        mov     w0, #-1
        str     w0, [x21, #0x80]        // GICR_IGROUPR0: all in group 1
        str     w19, [x21, #0x100]      // GICR_ISENABLER0
        bl      gic3_cpu_on
        mov     x0, #0xff
        msr     ICC_PMR_EL1, x0
        mov     x0, #1
        msr     ICC_IGRPEN1_EL1, x0
        isb
        b       9f

gic2_on:
        mov     w0, #1
        str     w0, [x20]               // GICD_CTLR
        str     w19, [x20, #0x100]      // GICD_ISENABLER0
        ldrb    w1, [x20, #0x800]       // GICD_ITARGETSR0 reads as the mask of this CPU, or as zero if it is alone
        cmp     w1, #0
        csinc   w1, w1, wzr, ne
        str     w1, [x28, #S_GIC2_MASK]
        mov     w1, #0xff
        str     w1, [x21, #4]           // GICC_PMR
        str     w0, [x21]               // GICC_CTLR
9:      dsb     sy
        msr     DAIFClr, #2
        isb
        ldp     x29, x30, [sp], #16
        ret

        // System registers instead of memory: ICC_SRE_EL1.SRE.
gic3_cpu_on:
        mrs     x0, ICC_SRE_EL1
        orr     x0, x0, #1
        msr     ICC_SRE_EL1, x0
        isb
        ret

gicd_settle:
        ldr     w0, [x20]
        tbnz    w0, #31, gicd_settle    // RWP
        ret

        // Sends SGI X0 to the CPU with the affinity X1; on a GICv2 that must be the boot CPU.
gic_send:
        stp     x29, x30, [sp, #-16]!
        ldr     w2, [x28, #S_GIC]
        cmp     w2, #2
        b.eq    1f
        lsl     x3, x0, #24             // INTID
        bl      gic3_cpu_on
        ubfx    x4, x1, #0, #4          // TargetList, a bit for each Aff0 of 16
        mov     x5, #1
        lsl     x5, x5, x4
        orr     x3, x3, x5
        ubfx    x4, x1, #4, #4
        bfi     x3, x4, #44, #4         // RS
        ubfx    x4, x1, #8, #8
        bfi     x3, x4, #16, #8         // Aff1
        ubfx    x4, x1, #16, #8
        bfi     x3, x4, #32, #8         // Aff2
        ubfx    x4, x1, #32, #8
        bfi     x3, x4, #48, #8         // Aff3
        dsb     ish
        msr     ICC_SGI1R_EL1, x3
        isb
        b       2f
1:      ldr     w2, [x28, #S_GIC2_MASK]
        orr     w0, w0, w2, lsl #16
        ldr     x2, [x28, #S_GICD]
        dsb     ish
        str     w0, [x2, #0xf00]        // GICD_SGIR
2:      ldp     x29, x30, [sp], #16
        ret

        // Waits until the interrupt X0 has been taken.
wait_for:
        add     x1, x28, #S_TAKEN
1:      msr     DAIFSet, #2
        ldr     w2, [x1, x0, lsl #2]
        cbnz    w2, 2f
        wfi
        msr     DAIFClr, #2
        isb
        b       1b
2:      msr     DAIFClr, #2
        ret

        // Acknowledges an interrupt, counts it, stops the timer if it is that, and ends it.
take_interrupt:
        ldr     w4, [x28, #S_GIC]
        ldr     x5, [x28, #S_GICR]
        cmp     w4, #2
        b.eq    1f
        mrs     x0, ICC_IAR1_EL1
        b       2f
1:      ldr     w0, [x5, #0xc]          // GICC_IAR
2:      and     w1, w0, #0x3ff
        cmp     w1, #32
        b.hs    9f                      // spurious, or not ours
        ldr     w2, [x28, #S_TIMER]
        cmp     w1, w2
        b.ne    3f
        msr     CNTV_CTL_EL0, xzr
        isb
3:      add     x2, x28, #S_TAKEN
        ldr     w3, [x2, x1, lsl #2]
        add     w3, w3, #1
        str     w3, [x2, x1, lsl #2]
        cmp     w4, #2
        b.eq    4f
        msr     ICC_EOIR1_EL1, x0
        isb
        ret
4:      str     w0, [x5, #0x10]         // GICC_EOIR
9:      ret
