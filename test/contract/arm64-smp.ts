import assert from 'node:assert/strict';
import { gic, guest, handler, meet, meeting, vectors, WAIT } from './arm64-source.ts';
import { type ContractCase, type Rig, read, write } from './contract.ts';
import { map, PAGE, setU32 } from './memory.ts';
import { ARM } from './places.ts';

// Two vCPUs at a time.

const D = ARM.device;
const R = ARM.data;
const S = ARM.slot;
const CPU_ON = 0xc400_0003;

const smp = (title: string, c: Omit<ContractCase, 'title' | 'arch' | 'cpus'>): ContractCase => ({
  title,
  arch: 'aarch64',
  cpus: 2,
  ...c,
});

/** Starts the second vCPU at `second`. */
const START = `
        adr     x2, second
        mov     x1, #1
        mov     x3, #0
        ldr     x0, =${CPU_ON}
        hvc     #0
`;

/** The beginning of the second vCPU's program, with the first one's X28 and X29. */
const SECOND = `
second: ldr     x28, =${D}
        ldr     x29, =${R}
`;

/** Waits until the second vCPU has written 1 to data + 0x80. */
const JOIN = `
94:     ldr     x30, [x29, #0x80]
        cbz     x30, 94b
        dmb     sy
`;
const DONE = `
        dmb     sy
        mov     x0, #1
        str     x0, [x29, #0x80]
93:     wfi
        b       93b
        .ltorg
`;

/** Which vCPU comes first is nobody's to say: each one's accesses in their order, the first vCPU's before the second's. */
function byCpu(rig: Rig): void {
  rig.trace.sort((a, b) => a.slice(0, 5).localeCompare(b.slice(0, 5)));
}

/** Counts 500 times at data + 0x40 by `add`, which may use X0 to X4. */
const count = (add: string) => `
        add     x4, x29, #0x40
        mov     w5, #500
1:      ${add}
        subs    w5, w5, #1
        b.ne    1b
`;

const EXCLUSIVES = `
2:      ldxr    x0, [x4]
        add     x0, x0, #1
        stxr    w1, x0, [x4]
        cbnz    w1, 2b`;

const ATOMICS = `
        mov     x0, #1
        ldadd   x0, x1, [x4]`;

const counting = (title: string, add: string): ContractCase =>
  smp(title, {
    code: guest(
      `
        ${START}
        ${count(add)}
        ${JOIN}
        ldr     x0, [x29, #0x40]`,
      { mmu: true, tail: `${SECOND} ${second()} ${count(add)} ${DONE}` },
    ),
    trace: [],
    registers: { x0: 1000 },
  });

/** The second vCPU's MMU is turned on as the first one's was, by the same code, which then comes back to here. */
function second(): string {
  const lines = guest('', { mmu: true }).split('\n');
  const first = lines.findIndex(l => l.includes('x29, =')) + 1;
  const last = lines.findLastIndex(l => l.startsWith('end:'));
  return lines.slice(first, last).join('\n');
}

/** Reads 20 values of a register of its own, and writes each one's double. */
const talk = (offset: number) => `
        mov     w5, #20
1:      ldr     w0, [x28, #${offset}]
        add     w0, w0, w0
        str     w0, [x28, #${offset + 4}]
        add     w6, w6, w0
        subs    w5, w5, #1
        b.ne    1b
`;
const VALUES = [0, 1].map(cpu => Array.from({ length: 20 }, (_, i) => 1000 * (cpu + 1) + i));
const talked = (cpu: number) =>
  VALUES[cpu]!.flatMap(v => [read(4, D + 0x100 * (cpu + 1), v, cpu), write(4, D + 0x100 * (cpu + 1) + 4, 2 * v, cpu)]);

/** Cases of two vCPUs. */
export const SMP_CASES: readonly ContractCase[] = [
  counting('two vCPUs count together with exclusive accesses', EXCLUSIVES),
  counting('two vCPUs count together with atomic additions', ATOMICS),
  smp('the exits of two vCPUs are answered each to its own', {
    smoke: true,
    reads: { [D + 0x100]: VALUES[0]!, [D + 0x200]: VALUES[1]! },
    code: guest(
      `
        mov     w6, #0
        ${START}
        ${talk(0x100)}
        mov     w20, w6
        ${JOIN}
        ldr     x21, [x29, #0x48]`,
      { tail: `${SECOND} mov w6, #0\n ${talk(0x200)} str x6, [x29, #0x48]\n ${DONE}` },
    ),
    run: async rig => {
      rig.start();
      await rig.finish();
      byCpu(rig);
    },
    trace: [...talked(0), ...talked(1)],
    registers: {
      x20: 2 * VALUES[0]!.reduce((a, b) => a + b),
      x21: 2 * VALUES[1]!.reduce((a, b) => a + b),
    },
  }),
  smp('a software-generated interrupt wakes the other vCPU', {
    code: guest(
      `
        ${START}
1:      ldr     x0, [x29, #0x50]
        cbz     x0, 1b
        ldr     x0, =0x2000002              // SGI 2 to affinity 0.0.0, target list 1 << 1
        msr     ICC_SGI1R_EL1, x0
        isb
        ${JOIN}
        ldr     x1, [x29, #16]
        ldr     x2, [x29, #24]`,
      {
        tail: `
        ${SECOND}
        ${gic(2, { cpu: 1 })}
        mov     x0, #1
        str     x0, [x29, #0x50]
        ${WAIT}
        ${DONE}
        ${vectors(handler(''))}`,
      },
    ),
    trace: [],
    registers: { x1: 2, x2: 1 },
  }),
  smp('no vCPU runs while the machine is paused; both go on', {
    code: guest(
      `
        ${START}
1:      ldr     x0, [x29, #0x40]
        add     x0, x0, #1
        str     x0, [x29, #0x40]
        b       1b`,
      {
        tail: `
        ${SECOND}
1:      ldr     x0, [x29, #0x48]
        add     x0, x0, #1
        str     x0, [x29, #0x48]
        b       1b
        .ltorg`,
      },
    ),
    run: async rig => {
      const { memory } = rig.engine;
      const counts = () => [memory.u64(R + 0x40), memory.u64(R + 0x48)] as const;
      rig.start();
      for (let round = 0; round < 3; round++) {
        const [a, b] = counts();
        await rig.until('both counting', () => counts()[0] > a + 100n && counts()[1] > b + 100n);
        rig.engine.pause();
        const paused = counts();
        await new Promise(resolve => setTimeout(resolve, 20));
        assert.deepEqual(counts(), paused);
      }
    },
    trace: [],
  }),
  smp('pages that either vCPU writes are reported', {
    code: guest(
      `
        ${START}
        ${meet(1)}
        str     x0, [x29, #0x1000]
        ${JOIN}
        ${meet(2)}`,
      {
        tail: `
        ${SECOND}
1:      ldr     w0, [x29]
        cbz     w0, 1b
        str     x0, [x29, #0x2000]
        ${DONE}`,
      },
    ),
    run: async rig => {
      const pages = new Set<number>();
      rig.start();
      await meeting(rig, 1, () => rig.engine.writeTracker.start());
      await rig.finish(2);
      rig.engine.pause();
      rig.engine.writeTracker.collectCpu({
        markDirty: (base, length) => {
          for (let p = base; p < base + length; p += 4096) pages.add((p - R) / 4096);
        },
      });
      assert.deepEqual([...pages].sort(), [0, 1, 2]);
    },
    trace: [],
  }),
  smp('doorbells, and writes that may wait, are so after a reset, too', {
    code: guest(`
        str     wzr, [x28, #0x20]
        str     wzr, [x28, #0x40]
        ldr     w1, [x28, #0x44]`),
    reads: { [D + 0x44]: [1, 2] },
    run: async rig => {
      let rings = 0;
      const ring = () => rings++;
      rig.engine.doorbells?.register('memory', D + 0x20, { offset: 0x20, size: 4, ring });
      rig.subject.coalesce?.('memory', D + 0x40, 4);
      // Without events the device rings them itself.
      rig.onWrite(D + 0x20, ring);
      for (const round of [1, 2]) {
        rig.start();
        await rig.until('rung', () => rings === round && rig.ends === round);
        rig.engine.pause();
        if (round === 1) rig.reset();
      }
      const others = rig.trace.splice(0).filter(line => line !== write(4, D + 0x20, 0));
      rig.trace.push(...others);
    },
    trace: [1, 2].flatMap(n => [write(4, D + 0x40, 0), read(4, D + 0x44, n)]),
  }),
  smp('stop() ends the step although both vCPUs spin, and neither runs any more', {
    code: guest(
      `
        ${START}
1:      ldr     x0, [x29, #0x48]
        cbz     x0, 1b
        str     wzr, [x28]
2:      ldr     x0, [x29, #0x40]
        add     x0, x0, #1
        str     x0, [x29, #0x40]
        b       2b`,
      {
        tail: `
        ${SECOND}
1:      ldr     x0, [x29, #0x48]
        add     x0, x0, #1
        str     x0, [x29, #0x48]
        b       1b
        .ltorg`,
      },
    ),
    run: async rig => {
      const { memory } = rig.engine;
      const counts = () => [memory.u64(R + 0x40), memory.u64(R + 0x48)];
      rig.onWrite(D, () => rig.engine.stop());
      rig.start();
      await assert.rejects(
        rig.until('never', () => false),
        /the engine stopped/,
      );
      rig.engine.pause();
      const stopped = counts();
      assert.equal(rig.step(), 'stopped');
      await new Promise(resolve => setTimeout(resolve, 20));
      assert.deepEqual(counts(), stopped);
    },
    trace: [write(4, D, 0)],
  }),
  smp('memory of a device comes and goes by the writes of one vCPU while the other reads it', {
    code: guest(
      `
        ${START}
1:      ldr     x0, [x29, #0x48]
        cbz     x0, 1b
        mov     w1, #20
2:      str     w1, [x28]
        mov     w2, #200
3:      subs    w2, w2, #1
        b.ne    3b
        subs    w1, w1, #1
        b.ne    2b
        mov     x3, #1
        str     x3, [x29, #0x58]
        ${JOIN}
        ldr     x4, [x29, #0x50]`,
      {
        // Every value is the memory's or all ones; others are counted in X4.
        tail: `
        ${SECOND}
        ldr     x1, =${S}
        mov     x4, #0
        mov     w5, #0x1111
        mov     w6, #-1
1:      ldr     w0, [x1]
        cmp     w0, w5
        ccmp    w0, w6, #4, ne
        cinc    x4, x4, ne
        str     x1, [x29, #0x48]
        ldr     x7, [x29, #0x58]
        cbz     x7, 1b
        str     x4, [x29, #0x50]
        ${DONE}`,
      },
    ),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 0, 0x1111);
      let slot: Disposable | undefined;
      rig.onWrite(D, () => {
        slot?.[Symbol.dispose]();
        slot = slot === undefined ? map(rig, S, bytes) : undefined;
      });
      rig.start();
      await rig.finish();
      // How often the other vCPU came to read the bus is nobody's to say.
      const writes = rig.trace.splice(0).filter(line => line !== read(4, S, 0xffff_ffff, 1));
      rig.trace.push(...writes);
    },
    trace: Array.from({ length: 20 }, (_, i) => write(4, D, 20 - i)),
    registers: { x4: 0 },
  }),
  smp('doorbells ring, by an event or by an exit; other values of a doorbell with a value are the device’s', {
    code: guest(`
        mov     w0, #5
        str     w0, [x28, #0x20]
        str     w0, [x28, #0x30]
        mov     w0, #6
        str     w0, [x28, #0x30]
        ${meet(1)}
        str     w0, [x28, #0x20]`),
    run: async rig => {
      const { doorbells } = rig.engine;
      const rung = new Set<string>();
      const bells = [
        { offset: 0x20, size: 4, ring: () => rung.add('any') },
        { offset: 0x30, size: 4, value: 5, ring: () => rung.add('five') },
      ] as const;
      const registered = bells.map(b => doorbells?.register('memory', D + b.offset, b));
      // Without events the device rings them itself.
      if (doorbells === undefined) {
        rig.onWrite(D + 0x20, () => rung.add('any'));
        rig.onWrite(D + 0x30, v => v === 5 && rung.add('five'));
      } else assert.ok(registered.every(r => r !== undefined));
      rig.start();
      await rig.until('both rung', () => rung.size === 2 && rig.ends === 1);
      if (doorbells === undefined) {
        const writes = rig.trace.splice(0);
        assert.deepEqual(writes, [write(4, D + 0x20, 5), write(4, D + 0x30, 5), write(4, D + 0x30, 6)]);
        rig.trace.push(write(4, D + 0x30, 6));
      }
      await meeting(rig, 1, () => {
        for (const r of registered) r?.[Symbol.dispose]();
      });
      await rig.finish(2);
    },
    trace: [write(4, D + 0x30, 6), write(4, D + 0x20, 6)],
  }),
];
