import { describe, expect, it } from 'vitest';
import { assemble } from '../../scripts/asm/assemble.ts';
import { createHypercallBus } from '../../src/bus/hypercall-bus.ts';
import { createPtp } from '../../src/devices/kvm-hypervisor/ptp.ts';
import { createKvmHypervisor } from '../../src/devices/kvm-hypervisor/service.ts';
import { A64Engine, type A64EngineOptions } from '../../src/engines/emu/a64/engine.ts';
import { hostMemory } from '../../src/engines/host/host-memory.ts';
import { createHostClock } from '../../src/time/host-clock.ts';
import type { DrivenClock } from '../../src/time/types.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';
import { hostTime } from '../support/host-time.ts';

// The PTP service on the emulated engine, with bare-metal guests that compare it with the counters that they read themselves.

const RAM = 0x4000_0000;
const RAM_BYTES = 16 << 20;
const CODE = RAM;
/** What each vCPU has read, {@link WORDS} words of 64 bits for each call. */
const RECORDS = RAM + 0x10_0000;
const RECORDS_BYTES = 0x40_0000;
/** A write here is a vCPU's last. */
const END = 0x900_0000;
const HZ = 62_500_000;
/** ns. */
const TICK = 16n;
/** What X4..X17 hold around every call. */
const PATTERN = 0xfeed_face_dead_beefn;
const WORDS = 7;

/** X0 is the vCPU's index. X19: where the next record goes, X20: calls to go, X21: argument of the next call. */
const READER = (calls: number) => `
        ldr     x19, =${RECORDS}
        ldr     x1, =${RECORDS_BYTES}
        madd    x19, x0, x1, x19
        ldr     x20, =${calls}
        mov     x21, #0
        ldr     x25, =${PATTERN}
${Array.from({ length: 14 }, (_, i) => `        mov     x${4 + i}, x25`).join('\n')}
again:  cbnz    x21, 1f
        mrs     x22, CNTVCT_EL0
        b       2f
1:      mrs     x22, CNTPCT_EL0
2:      mov     x1, x21
        ldr     x0, =0x86000001
        hvc     #0
        cbnz    x21, 3f
        mrs     x23, CNTVCT_EL0
        b       4f
3:      mrs     x23, CNTPCT_EL0
4:      mov     x24, #0                 // 0 as long as X4..X17 are what they were
${Array.from({ length: 14 }, (_, i) => `        eor     x26, x${4 + i}, x25\n        orr     x24, x24, x26`).join('\n')}
        stp     x22, x0, [x19], #16
        stp     x1, x2, [x19], #16
        stp     x3, x23, [x19], #16
        str     x24, [x19], #8
        eor     x21, x21, #1
        sub     x20, x20, #1
        cbnz    x20, again
        ldr     x0, =${END}
        str     wzr, [x0]
9:      wfi
        b       9b
`;

/** One call of the guest, and what it read around it. */
interface Call {
  readonly counter: 'virtual' | 'physical';
  readonly before: bigint;
  readonly x: readonly bigint[];
  readonly after: bigint;
  readonly changed: bigint;
  readonly wallNs: bigint;
  readonly cycles: bigint;
}

interface RunOptions {
  readonly clock: A64EngineOptions['clock'];
  readonly cpus: number;
  readonly code: string;
  /** CNTVOFF_EL2. */
  readonly offset?: bigint;
  /** Called in each hypercall. */
  readonly onCall?: (engine: A64Engine) => void;
}

/** Runs vCPUs from the start of `code` to the last write of each. */
function run({ clock, cpus, code, offset = 0n, onCall }: RunOptions): A64Engine {
  const engine = new A64Engine({
    cpus,
    ramBase: RAM,
    ramBytes: RAM_BYTES,
    counterHz: HZ,
    hostMemory: hostMemory(),
    clock,
  });
  const bus = createHypercallBus();
  const ptp = createPtp(() => engine.counterPair());
  for (const service of [ptp, createKvmHypervisor([ptp])]) bus.add(service);
  let running = cpus;
  const nothing = () => undefined;
  engine.attach({
    sink: {
      mmioRead: () => 0,
      mmioWrite: (_, address) => {
        if (address === END) running--;
        engine.kick();
      },
      portIn: () => 0,
      portOut: nothing,
      hypercall: call => {
        bus.handle(call);
        onCall?.(engine);
      },
      system: nothing,
      failed: (_, why) => expect.fail(why),
    },
    interrupts: { readRegister: () => undefined, writeRegister: () => false, setPpi: nothing },
    gicSysregs: false,
    log: nothing,
  });
  if (offset !== 0n) {
    // The offset is the last of the words that vCPUs share (core/layout.ts).
    const state = engine.save() as { readonly shared: Uint8Array };
    new DataView(state.shared.buffer).setBigUint64(state.shared.length - 8, offset, true);
    engine.restore(state);
  }
  engine.memory.write(CODE, assemble(code, { base: BigInt(CODE) }).bytes);
  for (const { id } of engine.vcpus) engine.vcpus[id]!.start({ pc: CODE, x0: BigInt(id) });
  // Far more steps than any of the guests takes, each of a millisecond.
  for (let steps = 0; running > 0 && steps < 60_000; steps++) {
    engine.step(1e6);
  }
  expect(running).toBe(0);
  return engine;
}

/** What vCPU `cpu` of a {@link READER} has recorded. */
function calls(engine: A64Engine, cpu: number, count: number): Call[] {
  return Array.from({ length: count }, (_, n) => {
    const at = RECORDS + cpu * RECORDS_BYTES + n * WORDS * 8;
    const word = (i: number) => engine.memory.u64(at + 8 * i);
    const x = [1, 2, 3, 4].map(word);
    return {
      counter: n % 2 === 0 ? 'virtual' : 'physical',
      before: word(0),
      x,
      after: word(5),
      changed: word(6),
      wallNs: (x[0]! << 32n) | x[1]!,
      cycles: (x[2]! << 32n) | x[3]!,
    };
  });
}

/** ARM-7, ARM-4 and EMU-A1 for every call; the first that is not so is shown. */
function expectInside(all: readonly Call[]): void {
  const bad = (c: Call) =>
    c.cycles < c.before || c.cycles > c.after || c.changed !== 0n || c.x.some(v => v >> 32n !== 0n);
  expect(all.find(bad)).toBeUndefined();
  expect(all.length).toBeGreaterThan(0);
}

/** Wall-clock time when the physical counter was 0, as each call tells it. */
const epochs = (all: readonly Call[], offset = 0n) =>
  all.map(c => c.wallNs - BigInt.asUintN(64, c.cycles + (c.counter === 'virtual' ? offset : 0n)) * TICK);

const CALLS = 20_000;
/** CNTVOFF of a virtual counter that is behind the physical one by 78 s, and wraps when that is near 0. */
const OFFSET = 0x1_2345_6789n;

describe('ARM-2, ARM-7: cycles are between what the guest reads before and after the call', () => {
  for (const cpus of [1, 2]) {
    it(`on the host's clock, with ${cpus} vCPU${cpus > 1 ? 's' : ''}`, () => {
      const clock = createHostClock();
      const started = BigInt(Date.now()) * 1_000_000n;
      const engine = run({ clock: { kind: 'host', clock }, cpus, code: READER(CALLS) });
      const ended = BigInt(Date.now()) * 1_000_000n;
      for (let cpu = 0; cpu < cpus; cpu++) {
        const all = calls(engine, cpu, CALLS);
        expectInside(all);
        // ARM-1: it is the host's CLOCK_REALTIME, to the steps of Date.now().
        expect(all.find(c => c.wallNs < started - 1_000_000n || c.wallNs > ended + 1_000_000n)).toBeUndefined();
      }
    });
  }

  it('EMU-A2: with an offset of the virtual counter, which all vCPUs share', () => {
    const engine = run({
      clock: { kind: 'host', clock: createHostClock(undefined, 100e9) },
      cpus: 2,
      code: READER(2000),
      offset: OFFSET,
    });
    const all = [...calls(engine, 0, 2000), ...calls(engine, 1, 2000)];
    expectInside(all);
    // 100 s, and less than a minute of this test.
    const start = 100n * BigInt(HZ);
    const physical = (c: Call) => c.cycles + (c.counter === 'virtual' ? OFFSET : 0n);
    expect(all.find(c => physical(c) < start || physical(c) > start + 60n * BigInt(HZ))).toBeUndefined();
  });
});

describe('the pair is of one moment', () => {
  const EPOCH = 1_700_000_000_123_456_789n;

  /** A host on which a reading of a clock takes up to `stepNs` ns, and a pair is exact. */
  function slowHost(stepNs: number): DrivenClock {
    let seed = 1;
    let now = 0;
    const next = () => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      now += Math.floor((seed / 2 ** 32) * stepNs);
      return now;
    };
    return createHostClock(hostTime(next, () => EPOCH + BigInt(now)));
  }

  // Time of the host for one reading, ns: far less than a tick, and what a host takes that is ten and a million times as slow.
  for (const stepNs of [10, 100, 10_000_000]) {
    it(`ACC-4, ARM-1: to the tick, however slow the emulation is: ${stepNs} ns for a reading`, () => {
      const engine = run({
        clock: { kind: 'host', clock: slowHost(stepNs) },
        cpus: 2,
        code: READER(2000),
        offset: OFFSET,
      });
      const all = [...calls(engine, 0, 2000), ...calls(engine, 1, 2000)];
      expectInside(all);
      // One value for all calls, and the first reading's: no part of a tick, no delay and no instruction shows in it.
      const [epoch, ...others] = new Set(epochs(all, OFFSET));
      expect(others).toEqual([]);
      expect(epoch! - EPOCH).toBeGreaterThanOrEqual(0n);
      expect(epoch! - EPOCH).toBeLessThanOrEqual(BigInt(stepNs));
    });
  }

  it('ARM-7, EMU-A2: when the clock of the host goes back, the counter does not, and the wall clock goes with it', () => {
    const host = createHostClock();
    let readings = 0;
    let last = 0;
    /** Every third reading is up to a millisecond before the one before it. */
    const jumpy = () => {
      last += 40_000;
      return ++readings % 3 === 0 ? last - 1_000_000 : last;
    };
    const clock: DrivenClock = {
      ...host,
      nowNs: jumpy,
      pair: () => {
        const ns = jumpy();
        return { ns, wallNs: EPOCH + BigInt(ns), errorNs: 0 };
      },
    };
    const all = calls(run({ clock: { kind: 'host', clock }, cpus: 1, code: READER(2000) }), 0, 2000);
    expectInside(all);
    expect(new Set(epochs(all))).toEqual(new Set([EPOCH]));
  });

  it('holds while the clock is held: the counter stands, the wall clock goes on', () => {
    let ns = 0;
    const clock = createHostClock(
      hostTime(
        () => ns,
        () => EPOCH + BigInt(ns),
      ),
    );
    const engine = run({ clock: { kind: 'host', clock }, cpus: 1, code: READER(1) });
    ns = 16_000;
    engine.holdTime();
    expect(engine.counterPair()).toEqual({ wallNs: EPOCH + 16_000n, physical: 1000n, virtual: 1000n, errorNs: 0 });
    ns = 1_016_000;
    expect(engine.counterPair()).toEqual({ wallNs: EPOCH + 1_016_000n, physical: 1000n, virtual: 1000n, errorNs: 0 });
    engine.releaseTime();
    ns = 1_032_000;
    expect(engine.counterPair()).toEqual({ wallNs: EPOCH + 1_032_000n, physical: 2000n, virtual: 2000n, errorNs: 0 });
  });

  for (const cpus of [1, 2]) {
    it(`ARM-1, ARM-7: with the virtual clock two runs are the same, and the pair is exact: ${cpus} vCPU${cpus > 1 ? 's' : ''}`, () => {
      const once = () => {
        const clock = createVirtualClock({ startWall: EPOCH });
        const engine = run({
          clock: { kind: 'virtual', clock },
          cpus,
          code: READER(CALLS),
          // The devices' clock has come to the moment of the call, too.
          onCall: e => expect(BigInt(clock.nowNs())).toBe(e.counterPair().physical * TICK),
        });
        return engine.vcpus.map(({ id }) => calls(engine, id, CALLS));
      };
      const first = once();
      for (const all of first) {
        expectInside(all);
        expect(new Set(epochs(all))).toEqual(new Set([EPOCH]));
        // Time passes: an instruction is a nanosecond.
        expect(all.at(-1)!.cycles - all[0]!.cycles).toBeGreaterThan((BigInt(CALLS) * 40n) / TICK);
      }
      expect(once()).toEqual(first);
    });
  }
});

describe('EMU-A1: who may call', () => {
  it('HVC at EL0 is UNDEFINED: the guest takes the exception at EL1, and calls from there', () => {
    const engine = run({
      clock: { kind: 'virtual', clock: createVirtualClock({ startWall: 0n }) },
      cpus: 1,
      code: `
        adr     x1, vectors
        msr     VBAR_EL1, x1
        adr     x1, user
        msr     ELR_EL1, x1
        msr     SPSR_EL1, xzr               // EL0t
        ldr     x19, =${RECORDS}
        ldr     x0, =0x86000001
        mov     x1, #1
        mov     x2, #2
        mov     x3, #3
        isb
        eret
user:   hvc     #0
        b       user
        .ltorg
        .balign 2048
vectors:
        .skip   0x400                       // from a lower level
        stp     x0, x1, [x19], #16
        stp     x2, x3, [x19], #16
        mrs     x2, ESR_EL1
        mrs     x3, ELR_EL1
        adr     x4, user
        sub     x3, x3, x4
        stp     x2, x3, [x19], #16
        hvc     #0
        stp     x0, x1, [x19], #16
        ldr     x0, =0x86000000
        hvc     #0
        str     x0, [x19]
        ldr     x0, =${END}
        str     wzr, [x0]
9:      wfi
        b       9b
`,
    });
    const words = Array.from({ length: 9 }, (_, i) => engine.memory.u64(RECORDS + 8 * i));
    // Nothing answered: X0..X3 as they were. ESR_EL1: EC 0 (unknown reason), IL (DDI 0487, D13.2.37). ELR_EL1: the HVC itself.
    expect(words.slice(0, 6)).toEqual([0x8600_0001n, 1n, 2n, 3n, 0x0200_0000n, 0n]);
    // The same call from EL1: wall-clock time that began at 0.
    expect(words[6]).toBe(0n);
    expect(words[7]).toBeGreaterThan(0n);
    expect(words[8]).toBe(3n);
  });
});
