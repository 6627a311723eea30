import assert from 'node:assert/strict';
import { ARM_VIRT } from '../../src/machine/address-map.ts';
import { guest, meet, meeting } from './arm64-source.ts';
import { type ContractCase, ended, read, write } from './contract.ts';
import { endedByTimer, kickedByExit, kickedByThread, longStep, stoppedByExit, toTheEnd } from './control.ts';
import { ARM } from './places.ts';

// What the host does to a guest that runs, and what the guest asks of its machine (PSCI, DEN0022).

const D = ARM.device;
const R = ARM.data;
const S = ARM.slot;

const control = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'aarch64',
  ...c,
});

const PSCI = {
  PSCI_VERSION: 0x8400_0000,
  CPU_OFF: 0x8400_0002,
  CPU_ON: 0xc400_0003,
  AFFINITY_INFO: 0xc400_0004,
  SYSTEM_OFF: 0x8400_0008,
  SYSTEM_RESET: 0x8400_0009,
};
const NOT_SUPPORTED = 2n ** 64n - 1n;
const INVALID_PARAMETERS = 2n ** 64n - 2n;
const ALREADY_ON = 2n ** 64n - 4n;

/** A call with up to three arguments. */
const psci = (id: keyof typeof PSCI | number, ...args: readonly (number | string)[]) => `
        ${args.map((a, i) => `ldr     x${i + 1}, =${a}`).join('\n        ')}
        ldr     x0, =${typeof id === 'number' ? id : PSCI[id]}
        hvc     #0
`;

const SPIN = `
1:      add     x0, x0, #1
        str     x0, [x29, #8]
        b       1b
`;

/** Cases of the host's control and of the guest's power. */
export const CONTROL_CASES: readonly ContractCase[] = [
  control('kick() from an exit ends the step of a guest that spins', {
    smoke: true,
    code: guest(`
        str     wzr, [x28]
        ${SPIN}`),
    run: rig => kickedByExit(rig, D),
    trace: [write(4, D, 0)],
  }),
  control('another thread ends the step of a guest that spins', {
    code: guest(SPIN),
    run: rig => kickedByThread(rig, () => rig.engine.memory.u64(R + 8)),
    trace: [],
  }),
  control('a timer of the machine’s ends the step of a guest that spins, and runs', {
    code: guest(SPIN),
    run: rig => endedByTimer(rig),
    trace: [],
  }),
  control('stop() from an exit ends the step of a guest that spins, and every later one', {
    smoke: true,
    code: guest(`
        str     wzr, [x28]
        ${SPIN}`),
    run: rig => stoppedByExit(rig, D, () => rig.engine.memory.u64(R + 8)),
    trace: [write(4, D, 0)],
  }),
  control('stop() between two steps keeps the guest from running', {
    code: guest('str     wzr, [x28]'),
    run: rig => {
      rig.start();
      rig.engine.stop();
      assert.equal(longStep(rig), 'stopped');
    },
    trace: [],
  }),
  control('a paused guest does nothing, and goes on where it was', {
    smoke: true,
    code: guest(SPIN),
    run: async rig => {
      const count = () => rig.engine.memory.u64(R + 8);
      rig.start();
      for (let round = 1; round <= 3; round++) {
        const at = count();
        await rig.until('counting', () => count() > at + 1000n);
        rig.engine.pause();
        const paused = count();
        rig.engine.pause();
        await new Promise(resolve => setTimeout(resolve, 20));
        assert.equal(count(), paused);
        // The loop is one addition and one store: the register is at most one ahead.
        const x0 = rig.registers().x0 ?? 0n;
        assert.ok(x0 === paused || x0 === paused + 1n, `x0 is ${x0}, memory ${paused}`);
      }
    },
    trace: [],
  }),
  control('registers that the host changes between two steps are what the guest goes on with', {
    code: guest(`
        mov     x0, #1
        adr     x2, 2f
        ${meet(1)}
        mov     x1, x0
        mrs     x3, TPIDR_EL1
        mrs     x4, NZCV
        ${meet(2)}
        mov     x5, #0xbad
2:      mov     x6, #6`),
    run: async rig => {
      const [cpu] = rig.engine.vcpus;
      rig.start();
      await meeting(rig, 1, () => {
        const { pstate = 0n } = rig.registers();
        // The comparison of the meeting will set the flags anew: a subtraction of equal values is Z and C.
        cpu!.setRegisters({ x0: 0x7777_8888_9999_aaaan, tpidr_el1: 0x1234n, pstate: pstate | (9n << 28n) });
      });
      await meeting(rig, 2, () => cpu!.setRegisters({ pc: rig.registers().x2! }));
      await rig.finish(3);
    },
    trace: [],
    registers: { x0: 0x7777_8888_9999_aaaan, x1: 0x7777_8888_9999_aaaan, x3: 0x1234, x4: 0x6000_0000, x5: 0, x6: 6 },
  }),
  control('registers are reported as the guest has set them', {
    code: guest(`
        ldr     x9, =0x1000
        mov     sp, x9
        ldr     x10, =0x2000
        msr     SP_EL0, x10
        ldr     x9, =${ARM.code + 0x800}
        msr     VBAR_EL1, x9
        ldr     x9, =0x0123456789abcdef
        msr     TPIDR_EL0, x9
        msr     TPIDR_EL1, x9
        msr     ELR_EL1, x9
        ldr     x9, =0x44ff
        msr     MAIR_EL1, x9
        ldr     x9, =0x80000005
        msr     SPSR_EL1, x9
        ldr     x9, =0x56000000
        msr     ESR_EL1, x9
        ldr     x9, =0xffff000012345678
        msr     FAR_EL1, x9
        ldr     x9, =0x300000
        msr     CPACR_EL1, x9
        isb
        movi    v0.16b, #1
        ldr     x30, =0x3030303030303030
        mov     x9, #-2
        adds    x9, x9, #3                  // C`),
    trace: [],
    registers: {
      sp_el0: 0x2000,
      sp_el1: 0x1000,
      vbar_el1: ARM.code + 0x800,
      tpidr_el0: 0x0123_4567_89ab_cdefn,
      tpidr_el1: 0x0123_4567_89ab_cdefn,
      elr_el1: 0x0123_4567_89ab_cdefn,
      mair_el1: 0x44ff,
      spsr_el1: 0x8000_0005n,
      esr_el1: 0x5600_0000,
      far_el1: 0xffff_0000_1234_5678n,
      cpacr_el1: 0x30_0000,
      x9: 1,
      // C; interrupts masked, EL1h.
      pstate: 0x2000_03c5,
    },
  }),
  control('time that is held does not pass for the guest', {
    code: guest(`
        isb
        mrs     x9, CNTVCT_EL0
        ${meet(1)}
        isb
        mrs     x10, CNTVCT_EL0
        sub     x9, x10, x9
        str     x9, [x29, #8]`),
    run: async rig => {
      const HELD_MS = 300;
      const started = performance.now();
      rig.start();
      await meeting(rig, 1, async () => {
        rig.engine.holdTime();
        await new Promise(resolve => setTimeout(resolve, HELD_MS));
        rig.engine.releaseTime();
      });
      await rig.finish(2);
      const guestMs = (Number(rig.engine.memory.u64(R + 8)) * 1000) / rig.engine.counterHz;
      const ms = performance.now() - started;
      // A timer may come a millisecond early.
      assert.ok(guestMs <= ms - HELD_MS + 2, `${guestMs} ms passed for the guest in ${ms}`);
    },
    trace: [],
  }),
  control('a reset starts afresh: registers and interrupts are, RAM and mapped memory stay', {
    smoke: true,
    hotplug: 2 * 2 ** 20,
    code: guest(
      `
        mov     x20, x0
        mrs     x21, SCTLR_EL1
        and     x21, x21, #1
        mrs     x22, DAIF
        ldr     x1, =${ARM_VIRT.gicd.base}
        ldr     w23, [x1]
        and     x23, x23, #2                // EnableGrp1; ARE may be always set
        mov     x2, #0x12
        ldr     w24, [x1, #0x104]           // GICD_ISENABLER1
        ldr     x4, =${S}
        ldr     w25, [x4]
        ldr     x5, =${ARM.hotplug}
        ldr     x19, [x5]
        ldr     x18, [x29, #16]
        add     x17, x18, #1
        str     x17, [x29, #16]
        // What must be gone the second time.
        str     w2, [x1]
        mov     w3, #8
        str     w3, [x1, #0x104]
        msr     DAIFClr, #2
        mov     x6, #0x66
        str     x6, [x5]
        str     w6, [x4, #4]`,
    ),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(4096);
      bytes[0] = 0x25;
      assert.ok(rig.engine.slots.map(S, 4096, { bytes }, 0, false));
      rig.engine.plug(ARM.hotplug, 2 * 2 ** 20);
      rig.start();
      await rig.finish();
      rig.engine.pause();
      rig.reset();
      rig.start();
      await rig.finish(2);
      assert.equal(bytes[4], 0x66);
    },
    trace: [],
    registers: { x20: ARM.x0, x21: 0, x22: 0x3c0, x23: 0, x24: 0, x25: 0x25, x19: 0x66, x18: 1 },
    memory: { [R + 16]: 2 },
  }),
  control('a reset in the midst of a write that has just been made', {
    reads: { [D]: [7, 8] },
    code: guest(`
        mov     x1, x2
        mov     x2, #5
        ldr     w0, [x28]
        str     w0, [x28, #4]
1:      ldr     w3, [x29, #8]
        cbz     w3, 1b`),
    run: async rig => {
      rig.onWrite(D + 4, () => rig.engine.kick());
      rig.start();
      await rig.until('the write', () => rig.trace.length === 2);
      rig.engine.pause();
      rig.reset();
      rig.engine.memory.setU32(R + 8, 1);
      rig.start();
      await rig.finish();
    },
    trace: [read(4, D, 7), write(4, D + 4, 7), read(4, D, 8), write(4, D + 4, 8)],
    registers: { x0: 8, x1: 0, x2: 5 },
  }),
  control('stop() and reset(): the guest runs again', {
    code: guest('str     wzr, [x28]'),
    run: async rig => {
      rig.start();
      rig.engine.stop();
      assert.equal(rig.step(), 'stopped');
      rig.reset();
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0)],
  }),
  control('PSCI: version 1.1; unknown calls are not supported', {
    smoke: true,
    code: guest(`
        ${psci('PSCI_VERSION')}
        mov     x20, x0
        ${psci(0x8400_ff00)}
        mov     x21, x0
        ${psci(0xc400_1fff)}
        mov     x22, x0`),
    trace: [],
    registers: { x20: 0x1_0001, x21: NOT_SUPPORTED, x22: NOT_SUPPORTED },
  }),
  control('PSCI: SYSTEM_OFF ends the machine', {
    smoke: true,
    code: guest(`
        str     wzr, [x28]
        ${psci('SYSTEM_OFF')}
        str     wzr, [x28, #4]`),
    run: rig => toTheEnd(rig),
    trace: [write(4, D, 0), ended('shutdown')],
  }),
  control('PSCI: SYSTEM_RESET ends the machine', {
    code: guest(psci('SYSTEM_RESET')),
    run: rig => toTheEnd(rig),
    trace: [ended('reset')],
  }),
  control('PSCI: AFFINITY_INFO and CPU_ON of CPUs that are on, off, or not there', {
    cpus: 2,
    code: guest(`
        ${psci('AFFINITY_INFO', 0, 0)}
        mov     x20, x0
        ${psci('AFFINITY_INFO', 1, 0)}
        mov     x21, x0
        ${psci('AFFINITY_INFO', 0x100, 0)}
        mov     x22, x0
        ${psci('CPU_ON', 0, ARM.code, 0)}
        mov     x23, x0
        ${psci('CPU_ON', 0x500, ARM.code, 0)}
        mov     x24, x0`),
    trace: [],
    // DEN0022 5.7.3: 0 is ON, 1 is OFF.
    registers: { x20: 0, x21: 1, x22: INVALID_PARAMETERS, x23: ALREADY_ON, x24: INVALID_PARAMETERS },
  }),
  control('PSCI: CPU_ON starts a CPU at its entry with its context, CPU_OFF ends it', {
    cpus: 2,
    code: guest(
      `
        adr     x2, second
        mov     x1, #1
        ldr     x3, =0xabcdef
        ldr     x0, =${PSCI.CPU_ON}
        hvc     #0
        mov     x20, x0
1:      ldr     x21, [x29, #16]
        cbz     x21, 1b
        ldr     x22, [x29, #24]
        ldr     x23, [x29, #32]
2:      ${psci('AFFINITY_INFO', 1, 0)}
        cmp     x0, #1
        b.ne    2b
        str     wzr, [x28]`,
      {
        tail: `
second: ldr     x29, =${R}
        mrs     x1, MPIDR_EL1
        and     x1, x1, #0xffffff
        str     x1, [x29, #24]
        mrs     x1, SCTLR_EL1
        and     x1, x1, #1
        str     x1, [x29, #32]
        dmb     sy
        str     x0, [x29, #16]
        ldr     x28, =${D}
        str     w0, [x28, #8]
        ${psci('CPU_OFF')}
        str     w0, [x28, #12]
        .ltorg`,
      },
    ),
    trace: [write(4, D + 8, 0xab_cdef, 1), write(4, D, 0)],
    registers: { x20: 0, x21: 0xab_cdef, x22: 1, x23: 0 },
  }),
  control('the state of vCPUs: off, on, and off again after a reset', {
    cpus: 2,
    code: guest(
      `
        adr     x2, second
        mov     x1, #1
        ldr     x0, =${PSCI.CPU_ON}
        hvc     #0
1:      ldr     x21, [x29, #16]
        cbz     x21, 1b
        ${meet(1)}`,
      {
        tail: `
second: ldr     x29, =${R}
        mov     x0, #1
        str     x0, [x29, #16]
2:      b       2b
        .ltorg`,
      },
    ),
    run: async rig => {
      const states = () => rig.engine.vcpus.map(v => v.state);
      assert.equal(states()[1], 'off');
      rig.start();
      assert.deepEqual(states(), ['on', 'off']);
      await meeting(rig, 1, () => assert.deepEqual(states(), ['on', 'on']));
      await rig.finish(2);
      rig.engine.pause();
      rig.reset();
      assert.equal(states()[1], 'off');
    },
    trace: [],
  }),
];
