import assert from 'node:assert/strict';
import { guest, meet, meeting } from './arm64-source.ts';
import { type ContractCase, read, write } from './contract.ts';
import { map, PAGE, setU32, u32, written } from './memory.ts';
import { ARM } from './places.ts';

// Memory that guests reach without an exit: slots of devices, memory that is plugged, pages that are logged or given back.

const D = ARM.device;
const R = ARM.data;
const S = ARM.slot;
const BLOCK = 2 * 2 ** 20;
const ONES = 0xffff_ffff;

const memory = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'aarch64',
  ...c,
});

/** Cases of memory. */
export const MEMORY_CASES: readonly ContractCase[] = [
  memory('device memory is read and written without an exit; beside it is the device', {
    smoke: true,
    reads: { [S + 2 * PAGE]: 0x77, [S - 4]: 0x66 },
    code: guest(`
        ldr     x9, =${S}
        ldr     w0, [x9, #0x10]
        mov     w1, #0x1234
        str     w1, [x9, #0x20]
        add     x10, x9, #0x2000
        str     w1, [x10, #-4]
        ldr     w2, [x10]
        str     w1, [x10]
        ldur    w3, [x9, #-4]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(2 * PAGE);
      setU32(bytes, 0x10, 0xabcd_ef01);
      map(rig, S, bytes);
      rig.start();
      await rig.finish();
      assert.equal(u32(bytes, 0x20), 0x1234);
      assert.equal(u32(bytes, 2 * PAGE - 4), 0x1234);
    },
    trace: [read(4, S + 2 * PAGE, 0x77), write(4, S + 2 * PAGE, 0x1234), read(4, S - 4, 0x66)],
    registers: { x0: 0xabcd_ef01, x2: 0x77, x3: 0x66 },
  }),
  memory('read-only memory is read without an exit, and a write of it is the device’s', {
    smoke: true,
    code: guest(`
        ldr     x9, =${S}
        ldr     w0, [x9, #8]
        mov     w1, #0x55
        strb    w1, [x9, #8]
        str     w1, [x9, #8]
        str     x1, [x9, #16]
        ldr     w2, [x9, #8]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 8, 0x0102_0304);
      map(rig, S, bytes, { readOnly: true });
      rig.start();
      await rig.finish();
      assert.equal(u32(bytes, 8), 0x0102_0304);
    },
    trace: [write(1, S + 8, 0x55), write(4, S + 8, 0x55), write(8, S + 16, 0x55)],
    registers: { x0: 0x0102_0304, x2: 0x0102_0304 },
  }),
  memory('memory of a device appears, moves and goes while the guest is paused', {
    code: guest(`
        ldr     x9, =${S}
        ldr     x10, =${S + 0x10_0000}
        ldr     w0, [x9]
        ldr     w1, [x10]
        ${meet(1)}
        ldr     w2, [x9]
        ldr     w3, [x10]
        ${meet(2)}
        ldr     w4, [x9]
        ldr     w5, [x10]
        mov     w11, #9
        str     w11, [x10, #4]
        ${meet(3)}
        ldr     w6, [x9]
        ldr     w7, [x10]
`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 0, 0x1111);
      let slot: Disposable | undefined;
      rig.start();
      await meeting(rig, 1, () => {
        slot = map(rig, S, bytes);
      });
      await meeting(rig, 2, () => {
        slot?.[Symbol.dispose]();
        slot = map(rig, S + 0x10_0000, bytes);
      });
      await meeting(rig, 3, () => slot?.[Symbol.dispose]());
      await rig.finish(4);
      assert.equal(u32(bytes, 4), 9);
    },
    trace: [
      read(4, S, ONES),
      read(4, S + 0x10_0000, ONES),
      read(4, S + 0x10_0000, ONES),
      read(4, S, ONES),
      read(4, S, ONES),
      read(4, S + 0x10_0000, ONES),
    ],
    registers: { x0: ONES, x1: ONES, x2: 0x1111, x3: ONES, x4: ONES, x5: 0x1111, x6: ONES, x7: ONES },
  }),
  memory('memory of a device moves by the guest’s own write to it, and is there for the next instruction', {
    code: guest(`
        ldr     x9, =${S}
        mov     w10, #1
        str     w10, [x28]
        ldr     w0, [x9, #4]
        add     x9, x9, #0x10, lsl #12
        mov     w10, #2
        str     w10, [x28]
        ldr     w1, [x9, #4]
        str     wzr, [x28]
        ldr     w2, [x9, #4]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 4, 0x2222);
      let slot: Disposable | undefined;
      rig.onWrite(D, value => {
        slot?.[Symbol.dispose]();
        slot = Number(value) === 0 ? undefined : map(rig, S + (Number(value) - 1) * 0x1_0000, bytes);
      });
      rig.start();
      await rig.finish();
    },
    trace: [write(4, D, 1), write(4, D, 2), write(4, D, 0), read(4, S + 0x1_0004, ONES)],
    registers: { x0: 0x2222, x1: 0x2222, x2: ONES },
  }),
  memory('a part of a device’s memory; two slots of the same memory are the same bytes', {
    code: guest(`
        ldr     x9, =${S}
        add     x10, x9, #0x10, lsl #12
        ldr     w0, [x9]
        mov     w1, #0x42
        str     w1, [x9, #4]
        ldr     w2, [x10, #4]
        ldr     w3, [x9, #${PAGE}]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(4 * PAGE);
      setU32(bytes, 2 * PAGE, 0x3333);
      map(rig, S, bytes, { offset: 2 * PAGE, size: PAGE });
      map(rig, S + 0x1_0000, bytes, { offset: 2 * PAGE, size: PAGE });
      rig.start();
      await rig.finish();
      assert.equal(u32(bytes, 2 * PAGE + 4), 0x42);
    },
    trace: [read(4, S + PAGE, ONES)],
    registers: { x0: 0x3333, x2: 0x42, x3: ONES },
  }),
  memory('memory of a device that is where RAM is: the guest sees RAM', {
    words: { [R + 0x10_0000]: 0x5a5a },
    code: guest(`
        add     x9, x29, #0x100, lsl #12
        ldr     w0, [x9]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      const slot = rig.engine.slots.map(R + 0x10_0000, PAGE, { bytes }, 0, false);
      rig.start();
      await rig.finish();
      slot?.[Symbol.dispose]();
    },
    trace: [],
    registers: { x0: 0x5a5a },
  }),
  memory('memory is plugged, keeps what is written while it is there, and goes', {
    hotplug: 2 * BLOCK,
    code: guest(`
        ldr     x9, =${ARM.hotplug}
        ldr     x10, =${ARM.hotplug + BLOCK}
        ldr     w0, [x9, #8]
        ${meet(1)}
        mov     w11, #0x99
        str     w11, [x9, #8]
        ldr     w1, [x9, #8]
        ldr     w2, [x10, #8]
        ${meet(2)}
        ldr     w3, [x9, #8]
        ldr     w4, [x10, #8]
        ${meet(3)}
        ldr     w5, [x9, #8]
        ldr     w6, [x10, #8]`),
    run: async rig => {
      rig.start();
      await meeting(rig, 1, () => rig.engine.plug(ARM.hotplug, BLOCK));
      await meeting(rig, 2, () => rig.engine.plug(ARM.hotplug + BLOCK, BLOCK));
      await meeting(rig, 3, () => rig.engine.unplug(ARM.hotplug, BLOCK));
      await rig.finish(4);
    },
    trace: [read(4, ARM.hotplug + 8, ONES), read(4, ARM.hotplug + BLOCK + 8, ONES), read(4, ARM.hotplug + 8, ONES)],
    registers: { x0: ONES, x1: 0x99, x2: ONES, x3: 0x99, x4: 0, x5: ONES, x6: 0 },
  }),
  memory('the pages that are reported as written are those that the guest writes, once', {
    smoke: true,
    code: guest(`
        add     x9, x29, #0x10, lsl #12
        ${meet(1)}
        str     x9, [x9]
        str     x9, [x9, #0x20]
        add     x10, x9, #3, lsl #12
        strb    w9, [x10]
        ldr     x11, [x10, #${PAGE}]
        add     x10, x10, #4, lsl #12
        stp     x9, x9, [x10, #-8]
        ${meet(2)}
        ldr     x11, [x9]
        ${meet(3)}
        str     x9, [x9]
        ${meet(4)}
        str     x9, [x10]`),
    run: async rig => {
      const base = R + 0x1_0000;
      rig.start();
      await meeting(rig, 1, () => rig.engine.writeTracker.start());
      await meeting(rig, 2, () => {
        assert.deepEqual(
          written(rig).map(p => (p - base) / PAGE),
          [0, 3, 6, 7],
        );
      });
      await meeting(rig, 3, () => assert.deepEqual(written(rig), []));
      await meeting(rig, 4, () => {
        assert.deepEqual(written(rig), [base]);
        rig.engine.writeTracker.stop();
      });
      await rig.finish(5);
      rig.engine.pause();
      // A log that starts again starts empty.
      rig.engine.writeTracker.start();
      assert.deepEqual(written(rig), []);
    },
    trace: [],
  }),
  memory('pages that are given back read as zeros, count as written, and can be written again', {
    smoke: true,
    words: { [R + 0x1000]: 0x1111, [R + 0x2000]: 0x2222, [R + 0x2ff8]: 0x3333, [R + 0x3000]: 0x4444 },
    code: guest(`
        add     x9, x29, #2, lsl #12
        ldr     x0, [x9]
        ${meet(1)}
        ldr     x1, [x9]
        ldr     x2, [x9, #0xff8]
        ldr     x3, [x9, #0x1000]
        ldur    x4, [x9, #-256]
        mov     x10, #7
        str     x10, [x9, #16]
        ldr     x5, [x9, #16]`),
    run: async rig => {
      rig.start();
      rig.engine.writeTracker.start();
      await meeting(rig, 1, () => {
        written(rig);
        rig.engine.discard(R + 0x2000, PAGE);
        assert.deepEqual(written(rig), [R + 0x2000]);
      });
      await rig.finish(2);
    },
    trace: [],
    memory: { [R + 0x1000]: 0x1111, [R + 0x2000]: 0, [R + 0x2010]: 7, [R + 0x2ff8]: 0, [R + 0x3000]: 0x4444 },
    registers: { x0: 0x2222, x1: 0, x2: 0, x3: 0x4444, x4: 0, x5: 7 },
  }),
  memory('writes that may wait come in their order before the next access is answered', {
    reads: { [D + 0x10]: 0x55 },
    code: guest(`
        mov     w0, #1
        str     w0, [x28]
        mov     w0, #2
        str     w0, [x28]
        ldr     w1, [x28, #0x10]
        str     w1, [x28]
        str     w1, [x28, #8]
        strb    w1, [x28]
        mov     w0, #3
        str     w0, [x28]`),
    run: async rig => {
      rig.subject.coalesce?.('memory', D, 4);
      rig.start();
      await rig.finish();
    },
    trace: [
      write(4, D, 1),
      write(4, D, 2),
      read(4, D + 0x10, 0x55),
      write(4, D, 0x55),
      write(4, D + 8, 0x55),
      write(1, D, 0x55),
      write(4, D, 3),
    ],
  }),
  memory('code that the host changes while the guest is paused is what runs next', {
    code: guest(
      `
        bl      routine
        mov     x1, x0
        ${meet(1)}
        dsb     sy
        ic      iallu
        dsb     sy
        isb
        bl      routine`,
      {
        tail: `
        .balign 64
routine: mov    x0, #1
        ret`,
      },
    ),
    run: async rig => {
      rig.start();
      await meeting(rig, 1, () => {
        const { memory: ram } = rig.engine;
        const MOV_X0_1 = 0xd280_0020;
        let at: number = ARM.code;
        while (ram.u32(at) !== MOV_X0_1) at += 4;
        // MOV (wide immediate): imm16 is in bits 20 to 5.
        ram.setU32(at, MOV_X0_1 + (1 << 5));
      });
      await rig.finish(2);
    },
    trace: [],
    registers: { x1: 1, x0: 2 },
  }),
];
