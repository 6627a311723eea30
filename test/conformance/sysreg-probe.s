// Runs on QEMU's virt board at EL1: tries every register of probes.inc (MRS X0; SVC; MSR X0; SVC, 16 bytes each) at EL0
// with all access disabled, at EL0 with all enabled, and at EL1. Prints the exception class of each as two hexadecimal
// digits (15: it was the SVC, the access worked), one line for each of the three.
.arch armv8-a
.equ PSCI_SYSTEM_OFF, 0x84000008
.global _start
_start:
  adr x0, vectors
  msr vbar_el1, x0
  mov x0, #(3 << 20)
  msr cpacr_el1, x0
  msr oslar_el1, xzr
  ldr x20, =0x09000000 // PL011
  mov x0, #1
  msr icc_sre_el1, x0
  isb
  mov x21, #0
phase:
  mrs x0, sctlr_el1
  mov x1, #((1 << 15) | (1 << 9)) // UCT, UMA
  cbnz x21, 1f
  bic x0, x0, x1
  msr sctlr_el1, x0
  msr cntkctl_el1, xzr
  msr pmuserenr_el0, xzr
  b 2f
1:orr x0, x0, x1
  msr sctlr_el1, x0
  mov x0, #0x303
  msr cntkctl_el1, x0
  mov x0, #15
  msr pmuserenr_el0, x0
2:adr x22, probes
  ldr x23, =probes_end
next:
  cmp x22, x23
  b.hs done
  msr elr_el1, x22
  mov x1, #0x3c0 // EL0, then EL1 with SP_EL1
  cmp x21, #2
  b.ne 3f
  mov x1, #0x3c5
3:msr spsr_el1, x1
  tst x22, #8 // the write stores what the read brought, or 0
  b.ne 4f
  mov x0, #0
4:isb
  eret
taken:
  mrs x1, esr_el1
  lsr x1, x1, #26
  lsr x2, x1, #4
  add x2, x2, #'0'
  strb w2, [x20]
  and x2, x1, #15
  add x2, x2, #'0'
  cmp x2, #'9'
  b.ls 5f
  add x2, x2, #('a' - '9' - 1)
5:strb w2, [x20]
  add x22, x22, #8
  b next
done:
  mov w2, #'\n'
  strb w2, [x20]
  add x21, x21, #1
  cmp x21, #3
  b.ne phase
  ldr w0, =PSCI_SYSTEM_OFF
  hvc #0
  b .
.ltorg
.balign 2048
vectors:
.rept 16
  b taken
  .balign 128
.endr
probes:
.include "probes.inc"
probes_end:
