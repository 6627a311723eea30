// Start of the benchmark programs: an arm64 Image (Documentation/arch/arm64/booting.rst section 4), so that both loaders
// give it the device tree in X0. Linked for 0x40200000: text_offset puts it there with either loader.

        .section .head, "ax"
        .globl  _start
_start: b       start
        .word   0
        .quad   0x200000                // text_offset
        .quad   _end - _start           // image_size
        .quad   0x2                     // flags: little-endian, 4 KiB pages
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .word   0

        .text
start:  mov     x19, x0
        msr     DAIFSet, #15
        adr     x0, vectors
        msr     VBAR_EL1, x0
        mov     x0, #(3 << 20)          // CPACR_EL1.FPEN: no trap
        msr     CPACR_EL1, x0

        // Identity map, 39 bits, 1 GiB blocks: devices below RAM and from 256 GiB on, Normal write-back from 1 GiB on.
        ldr     x0, =0xff00             // MAIR: 0 = Device-nGnRnE, 1 = Normal write-back
        msr     MAIR_EL1, x0
        ldr     x0, =0x200803519        // TCR: T0SZ=25, inner shareable write-back, EPD1, IPS=40 bits
        msr     TCR_EL1, x0
        adrp    x0, table
        msr     TTBR0_EL1, x0
        mov     x1, #0x401              // block, AF, AttrIndx 0
        movk    x1, #0x0060, lsl #48    // UXN, PXN
        str     x1, [x0]
        movk    x1, #0x0040, lsl #32    // the same at 256 GiB, where configuration space is
        str     x1, [x0, #2048]
        mov     x1, #0x40000000
        movk    x1, #0x0705             // block, AF, inner shareable, AttrIndx 1
        mov     x3, #0x40000000
        mov     x2, #1
1:      str     x1, [x0, x2, lsl #3]
        add     x1, x1, x3
        add     x2, x2, #1
        cmp     x2, #8
        b.lo    1b
        dsb     sy
        tlbi    vmalle1
        dsb     sy
        isb
        mrs     x0, SCTLR_EL1
        ldr     x1, =0x1005             // I, C, M
        orr     x0, x0, x1
        bic     x0, x0, #2              // no alignment checks
        msr     SCTLR_EL1, x0
        isb

        adrp    x0, _stack_top
        mov     sp, x0
        adrp    x0, _bss
        add     x0, x0, :lo12:_bss
        adrp    x1, _bss_end
        add     x1, x1, :lo12:_bss_end
2:      cmp     x0, x1
        b.hs    3f
        str     xzr, [x0], #8
        b       2b
3:      mov     x0, x19
        bl      start_c
4:      wfi
        b       4b

        .globl  hypercall
hypercall:                              // u64 hypercall(u64 id, bool smc)
        cbnz    w1, 1f
        hvc     #0
        ret
1:      smc     #0
        ret

        .balign 2048
vectors:
        .rept   16
        mrs     x0, ESR_EL1
        mrs     x1, ELR_EL1
        mrs     x2, FAR_EL1
        b       failed
        .balign 128
        .endr

        .section .pagetable, "aw", %nobits
        .balign 4096
table:  .skip   4096
