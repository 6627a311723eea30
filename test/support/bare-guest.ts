import { assemble } from '../../scripts/asm/assemble.ts';

/**
 * A bare-metal guest that says '>' on its console and then does something with each key that is typed. MMU off, no interrupts.
 * @param setup runs once, with the PL011's base in X1. @param key runs for each key, which is in W2; it may use X3 and above.
 * @returns an arm64 Image (Documentation/arch/arm64/booting.rst section 4).
 */
export function keyGuest(setup: string, key: string): Uint8Array {
  return assemble(`
image:  b       boot
        .word   0
        .quad   0
        .quad   end - image
        .quad   0xa
        .quad   0, 0, 0
        .ascii  "ARM\\x64"
        .word   0
boot:   ldr     x1, =0x09000000
        mov     w2, #0x701              // UARTCR: DTR, RXE, TXE, UARTEN
        str     w2, [x1, #0x30]
        mov     w2, #0x3e
        str     w2, [x1]
        ${setup}
1:      ldr     w2, [x1, #0x18]
        tbnz    w2, #4, 1b              // UARTFR.RXFE
        ldr     w2, [x1]
        ${key}
        b       1b
end:
`).bytes;
}
