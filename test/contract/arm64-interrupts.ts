import assert from 'node:assert/strict';
import { ARM_VIRT } from '../../src/machine/address-map.ts';
import { FIRST_LPI, gic, guest, handler, meet, meeting, vectors, WAIT } from './arm64-source.ts';
import { type ContractCase, type Rig, write } from './contract.ts';
import { ARM } from './places.ts';

// Interrupts: wires and messages through a GICv3 (Arm IHI 0069), and the generic timer (Arm ARM D11).

const D = ARM.device;
const R = ARM.data;
/** An SPI, and the wire that leads to it. */
const SPI = 35;
const WIRE = SPI - 32;
const PPI_VIRTUAL_TIMER = 27;
const SPURIOUS = 1023;

const interrupts = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'aarch64',
  ...c,
});

/** The device's answer to the handler: a write to its second register, with the INTID. */
const ACKNOWLEDGE = 'str     w26, [x28, #4]';

/** GITS_*: offsets of the ITS's registers; and where its tables are. */
const TABLES = { device: 0, collection: 0x1_0000, queue: 0x2_0000, itt: 0x3_0000, config: 0x4_0000, pending: 0x5_0000 };
const at = (name: keyof typeof TABLES) => ARM.its + TABLES[name];
const VALID = 1n << 63n;
const DEVICE = 0x10;
const EVENT = 3;

/** Commands of the ITS (Arm IHI 0069, 5.3), four words each: device 16's event 3 is LPI 8192, which the first vCPU gets. */
const COMMANDS: readonly (readonly bigint[])[] = [
  // MAPD: five bits of event, the interrupt translation table.
  [0x08n | (BigInt(DEVICE) << 32n), 4n, VALID | BigInt(at('itt')), 0n],
  // MAPC: collection 0 is redistributor 0.
  [0x09n, 0n, VALID, 0n],
  // MAPTI
  [0x0an | (BigInt(DEVICE) << 32n), BigInt(EVENT) | (BigInt(FIRST_LPI) << 32n), 0n, 0n],
  // INV
  [0x0cn | (BigInt(DEVICE) << 32n), BigInt(EVENT), 0n, 0n],
  // SYNC
  [0x05n, 0n, 0n, 0n],
];

/** Sets the ITS up with {@link COMMANDS}. Changes X8 to X15. */
const ITS = `
        ldr     x9, =${ARM_VIRT.its.base}
        add     x10, x9, #0x100             // GITS_BASER<n>
        mov     w11, #8
1:      ldr     x12, [x10]
        ubfx    x13, x12, #56, #3           // Type: 1 devices, 4 collections
        ldr     x14, =${at('device')}
        cmp     x13, #1
        b.eq    2f
        ldr     x14, =${at('collection')}
        cmp     x13, #4
        b.ne    3f
2:      ldr     x15, =0x8000000000000200    // Valid, one page of 64 KiB
        orr     x14, x14, x15
        str     x14, [x10]
3:      add     x10, x10, #8
        subs    w11, w11, #1
        b.ne    1b
        ldr     x14, =${VALID | BigInt(at('queue')) | 15n}
        str     x14, [x9, #0x80]            // GITS_CBASER: 16 pages of 4 KiB
        str     xzr, [x9, #0x88]            // GITS_CWRITER
        mov     w14, #1
        str     w14, [x9]                   // GITS_CTLR.Enabled
        ldr     x8, =${ARM_VIRT.gicr.base}
        ldr     x14, =${at('config') + 15}
        str     x14, [x8, #0x70]            // GICR_PROPBASER: 16 bits of INTID
        ldr     x14, =${BigInt(at('pending')) | (1n << 62n)}
        str     x14, [x8, #0x78]            // GICR_PENDBASER: PTZ
        mov     w14, #1
        str     w14, [x8]                   // GICR_CTLR.EnableLPIs
        mov     x14, #${32 * COMMANDS.length}
        str     x14, [x9, #0x88]            // GITS_CWRITER
4:      ldr     x15, [x9, #0x90]            // GITS_CREADR
        cmp     x15, x14
        b.ne    4b
`;

const its = `the machine's GITS_TRANSLATER`;

/** Runs a guest that waits for a message. */
async function message(rig: Rig): Promise<void> {
  const { interrupts: controller, engine } = rig.subject;
  const doorbell = ARM_VIRT.its.base + 0x1_0040;
  for (const [i, words] of COMMANDS.entries()) {
    for (const [j, w] of words.entries()) engine.memory.setU64(at('queue') + 32 * i + 8 * j, w);
  }
  // The LPI's byte of configuration: priority 0xa0, RES1, enabled.
  engine.memory.setU8(at('config'), 0xa3);
  rig.onWrite(D, () =>
    rig.later(() => {
      assert.equal(controller.signalMsi({ address: doorbell + 0x1000, data: EVENT, deviceId: DEVICE }), false);
      // Neither the event nor the device is mapped: dropped.
      assert.equal(controller.signalMsi({ address: doorbell, data: EVENT + 1, deviceId: DEVICE }), true, its);
      assert.equal(controller.signalMsi({ address: doorbell, data: EVENT, deviceId: DEVICE + 1 }), true, its);
      rig.later(() => controller.signalMsi({ address: doorbell, data: EVENT, deviceId: DEVICE }));
    }),
  );
  rig.start();
  await rig.finish();
}

/** Cases of interrupts and timers. */
export const INTERRUPT_CASES: readonly ContractCase[] = [
  interrupts('WFI waits for a wire, whose interrupt comes once when the device lowers it', {
    smoke: true,
    code: guest(
      `
        ${gic(SPI)}
        str     wzr, [x28]
        ${WAIT}
        mrs     x2, ICC_IAR1_EL1
        ldr     x0, [x29, #16]
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      rig.onWrite(D, () => rig.later(() => line.set(true)));
      rig.onWrite(D + 4, () => line.set(false));
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0), write(4, D + 4, SPI)],
    registers: { x0: SPI, x1: 1, x2: SPURIOUS },
  }),
  interrupts('a wire that is raised by a write interrupts before the guest has gone far', {
    code: guest(
      `
        ${gic(SPI)}
        str     wzr, [x28]
1:      ldr     x0, [x29, #16]
        cbz     x0, 1b`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      rig.onWrite(D, () => line.set(true));
      rig.onWrite(D + 4, () => line.set(false));
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0), write(4, D + 4, SPI)],
    registers: { x0: SPI },
  }),
  interrupts('a wire that stays high interrupts again after every end of interrupt', {
    code: guest(
      `
        ${gic(SPI)}
        str     wzr, [x28]
1:      ldr     x0, [x29, #24]
        cmp     x0, #3
        b.ne    1b
        mov     w9, #1000
2:      subs    w9, w9, #1
        b.ne    2b
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      let acknowledged = 0;
      rig.onWrite(D, () => line.set(true));
      rig.onWrite(D + 4, () => ++acknowledged === 3 && line.set(false));
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0), ...[1, 2, 3].map(() => write(4, D + 4, SPI))],
    registers: { x0: 3, x1: 3 },
  }),
  interrupts('an edge-triggered interrupt remembers a pulse', {
    code: guest(
      `
        ${gic(SPI, { trigger: 'edge' })}
        msr     DAIFSet, #2
        str     wzr, [x28]
        ${WAIT}
        mrs     x2, ICC_IAR1_EL1
        ldr     x0, [x29, #16]
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      rig.onWrite(D, () => {
        line.set(true);
        line.set(false);
      });
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0), write(4, D + 4, SPI)],
    registers: { x0: SPI, x1: 1, x2: SPURIOUS },
  }),
  interrupts('a level-triggered interrupt forgets a pulse that has ended', {
    code: guest(
      `
        ${gic(SPI)}
        msr     DAIFSet, #2
        str     wzr, [x28]
        isb
        mrs     x0, ISR_EL1
        msr     DAIFClr, #2
        isb
        mov     w9, #1000
1:      subs    w9, w9, #1
        b.ne    1b
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      rig.onWrite(D, () => {
        line.set(true);
        line.set(false);
      });
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0)],
    registers: { x0: 0, x1: 0 },
  }),
  interrupts('a wire works after a reset: what the device does next is seen', {
    code: guest(
      `
        str     xzr, [x29, #8]
        str     xzr, [x29, #16]
        str     xzr, [x29, #24]
        ${gic(SPI)}
        str     wzr, [x28]
        ${WAIT}
        ldr     x0, [x29, #16]
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      rig.onWrite(D, () => rig.later(() => line.set(true)));
      // The first time the device forgets to lower it until it is reset itself.
      let lowers = false;
      rig.onWrite(D + 4, () => (lowers ? line.set(false) : rig.engine.stop()));
      rig.start();
      await rig.until('the interrupt', () => rig.trace.length === 2);
      rig.engine.pause();
      line.set(false);
      rig.reset();
      lowers = true;
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 0), write(4, D + 4, SPI), write(4, D, 0), write(4, D + 4, SPI)],
    registers: { x0: SPI, x1: 1 },
  }),
  interrupts('a wire that is high throughout a reset interrupts after it', {
    code: guest(
      `
        str     xzr, [x29, #8]
        ${gic(SPI)}
        str     wzr, [x28]
        ${WAIT}
        ldr     x0, [x29, #16]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(WIRE);
      line.set(true);
      let lowers = false;
      rig.onWrite(D + 4, () => (lowers ? line.set(false) : rig.engine.stop()));
      rig.start();
      await rig.until('the interrupt', () => rig.trace.includes(write(4, D + 4, SPI)));
      rig.engine.pause();
      rig.reset();
      rig.trace.length = 0;
      lowers = true;
      rig.start();
      await rig.finish();
    },
    // It comes as soon as interrupts are unmasked, before the write.
    trace: [write(4, D + 4, SPI), write(4, D, 0)],
    registers: { x0: SPI },
  }),
  interrupts('a message through the ITS is its LPI; what is not mapped is dropped', {
    code: guest(
      `
        ${ITS}
        ${gic(FIRST_LPI)}
        str     wzr, [x28]
        ${WAIT}
        ldr     x0, [x29, #16]
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler(ACKNOWLEDGE)) },
    ),
    run: message,
    trace: [write(4, D, 0), write(4, D + 4, FIRST_LPI)],
    registers: { x0: FIRST_LPI, x1: 1 },
  }),
  interrupts('the virtual timer interrupts at its time or later, not before', {
    smoke: true,
    code: guest(
      `
        ${gic(PPI_VIRTUAL_TIMER)}
        mrs     x9, CNTFRQ_EL0
        mov     x10, #100
        udiv    x9, x9, x10                 // 10 ms
        mrs     x10, CNTVCT_EL0
        add     x9, x9, x10
        msr     CNTV_CVAL_EL0, x9
        mov     x10, #1
        msr     CNTV_CTL_EL0, x10
        isb
        ${WAIT}
        ldr     x11, [x29, #32]
        cmp     x11, x9
        cset    x0, hs
        ldr     x1, [x29, #16]
        ldr     x2, [x29, #24]`,
      {
        tail: vectors(
          handler(`
        isb
        mrs     x25, CNTVCT_EL0
        str     x25, [x29, #32]
        msr     CNTV_CTL_EL0, xzr
        isb`),
        ),
      },
    ),
    trace: [],
    registers: { x0: 1, x1: PPI_VIRTUAL_TIMER, x2: 1 },
  }),
  interrupts('a masked timer says that it has fired, and does not interrupt', {
    code: guest(
      `
        ${gic(PPI_VIRTUAL_TIMER)}
        msr     CNTV_CVAL_EL0, xzr
        mov     x10, #3                     // ENABLE, IMASK
        msr     CNTV_CTL_EL0, x10
        isb
        mrs     x0, CNTV_CTL_EL0
        ldr     x1, [x29, #24]`,
      { tail: vectors(handler('')) },
    ),
    trace: [],
    registers: { x0: 7, x1: 0 },
  }),
  interrupts('the virtual counter never goes back, and runs while the guest waits for the host', {
    code: guest(`
        mrs     x9, CNTVCT_EL0
        mov     w10, #2000
        mov     x0, #1
1:      isb
        mrs     x11, CNTVCT_EL0
        cmp     x11, x9
        csel    x0, x0, xzr, hs
        mov     x9, x11
        subs    w10, w10, #1
        b.ne    1b
        ${meet(1)}
        isb
        mrs     x11, CNTVCT_EL0
        mrs     x12, CNTFRQ_EL0
        sub     x13, x11, x9
        mov     x14, #1000
        mul     x13, x13, x14
        udiv    x13, x13, x12               // ms
        cmp     x13, #20
        cset    x1, hs`),
    run: async rig => {
      rig.start();
      await meeting(rig, 1, () => new Promise(resolve => setTimeout(resolve, 30)));
      await rig.finish(2);
    },
    trace: [],
    registers: { x0: 1, x1: 1 },
  }),
  interrupts('CNTFRQ is the engine’s frequency', {
    code: guest(`
        mrs     x0, CNTFRQ_EL0
        str     x0, [x29, #8]`),
    run: async rig => {
      rig.start();
      await rig.finish();
      assert.equal(Number(rig.engine.memory.u64(R + 8)), rig.engine.counterHz);
    },
    trace: [],
  }),
];
