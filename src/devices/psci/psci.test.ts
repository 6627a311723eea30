import { beforeEach, describe, expect, it } from 'vitest';
import { createHypercallBus, type HypercallBus } from '../../bus/hypercall-bus.ts';
import { createPvTime } from '../kvm-hypervisor/pv-time.ts';
import { createKvmHypervisor } from '../kvm-hypervisor/service.ts';
import { createEntropy } from './entropy.ts';
import { createPsci, type PowerController } from './psci.ts';
import { createSmccc } from './smccc.ts';
import { createTrng } from './trng.ts';

const u64 = (v: bigint) => BigInt.asUintN(64, v);
/** What X4..X17 hold before a call: the convention preserves them (EMU-A1). */
const OTHERS = 0xdead_beef_dead_beefn;

/** Two clusters of two vCPUs; a vCPU's number says nothing about its affinity. */
class Board implements PowerController {
  readonly cpus = [{ mpidr: 0x0n }, { mpidr: 0x1n }, { mpidr: 0x100n }, { mpidr: 0x1_0000_0101n }];
  readonly on = new Set([0]);
  readonly log: unknown[] = [];

  state(cpu: number) {
    return this.on.has(cpu) ? 'on' : 'off';
  }

  start(cpu: number, pc: number, x0: bigint) {
    this.log.push(['start', cpu, pc, x0]);
    this.on.add(cpu);
    return 'ok' as const;
  }

  stop(cpu: number) {
    this.log.push(['stop', cpu]);
  }

  suspend(cpu: number) {
    this.log.push(['suspend', cpu]);
  }

  system(event: string, cause: string) {
    this.log.push([event, cause]);
  }
}

let board: Board;
let bus: HypercallBus;
/** Registers X0..X17 after HVC #0 of vCPU `cpu` with X0 = id and X1.. = args. */
const hvc = (id: number, args: bigint[] = [], cpu = 0) => {
  const x = Array.from({ length: 18 }, () => OTHERS);
  args.forEach((v, i) => {
    x[i + 1] = v;
  });
  const written: number[] = [];
  bus.handle({
    abi: 'smccc',
    cpu,
    id,
    arg: n => x[n]!,
    result: (n, v) => {
      written.push(n);
      x[n] = v;
    },
  });
  return { x, x0123: x.slice(0, 4), written };
};

beforeEach(() => {
  board = new Board();
  bus = createHypercallBus();
  for (const s of [
    createPsci(board),
    createSmccc(),
    createTrng(createEntropy('test')),
    createPvTime(),
    createKvmHypervisor([]),
  ]) {
    bus.add(s);
  }
});

describe('EMU-A1: the calls of a booting guest', () => {
  const NOT_SUPPORTED = u64(-1n);
  // Function, X1.., the whole of X0; X1..X3 are 0.
  it.each<[string, number, bigint[], bigint]>([
    ['PSCI_VERSION is 1.1', 0x8400_0000, [], 0x1_0001n],
    ['MIGRATE_INFO_TYPE: no migration', 0x8400_0006, [], 2n],
    ['MIGRATE', 0x8400_0005, [0n], NOT_SUPPORTED],
    ['MIGRATE_INFO_UP_CPU', 0x8400_0007, [], NOT_SUPPORTED],
    ['SYSTEM_SUSPEND', 0xc400_000e, [], NOT_SUPPORTED],
    ['PSCI_VERSION as SMC64', 0xc400_0000, [], NOT_SUPPORTED],
    ['SMCCC_VERSION is 1.1', 0x8000_0000, [], 0x1_0001n],
    ['ARCH_FEATURES(SMCCC_VERSION)', 0x8000_0001, [0x8000_0000n], 0n],
    ['ARCH_FEATURES(WORKAROUND_1): unaffected', 0x8000_0001, [0x8000_8000n], 1n],
    ['ARCH_FEATURES(WORKAROUND_2): not required', 0x8000_0001, [0x8000_7fffn], u64(-2n)],
    ['ARCH_FEATURES(WORKAROUND_3): unaffected', 0x8000_0001, [0x8000_3fffn], 1n],
    ['ARCH_FEATURES(PV_TIME)', 0x8000_0001, [0xc500_0020n], NOT_SUPPORTED],
    ['ARCH_FEATURES(SOC_ID)', 0x8000_0001, [0x8000_0002n], NOT_SUPPORTED],
    ['WORKAROUND_1 itself', 0x8000_8000, [], 0n],
    ['PV_TIME_FEATURES', 0xc500_0020, [0xc500_0021n], NOT_SUPPORTED],
    ['PV_TIME_ST', 0xc500_0021, [], NOT_SUPPORTED],
    ['TRNG_VERSION is 1.0', 0x8400_0050, [], 0x1_0000n],
    ['TRNG_FEATURES(RND64)', 0x8400_0051, [0xc400_0053n], 0n],
    ['TRNG_FEATURES(something else)', 0x8400_0051, [0x8400_0054n], NOT_SUPPORTED],
    ['TRNG 0x84000054', 0x8400_0054, [], NOT_SUPPORTED],
    ['SMCCC call count of owner 6', 0x8600_ff00, [], NOT_SUPPORTED],
    ['an id of nobody', 0x1234_5678, [], NOT_SUPPORTED],
  ])('%s', (_, id, args, x0) => {
    const { x, x0123 } = hvc(id, args);
    expect(x0123).toEqual([x0, 0n, 0n, 0n]);
    expect(x.slice(4)).toEqual(Array.from({ length: 14 }, () => OTHERS));
  });

  it('PSCI_FEATURES knows what is implemented, and nothing else', () => {
    const offered: string[] = [];
    for (const base of [0x8400_0000, 0xc400_0000, 0x8000_0000]) {
      for (let n = 0; n < 0x80; n++) {
        // Stray upper halves do not matter: the argument is 32 bits wide.
        const { x0123 } = hvc(0x8400_000a, [BigInt(base + n) | (0x7n << 60n)]);
        expect([0n, u64(-1n)]).toContain(x0123[0]);
        if (x0123[0] === 0n) offered.push((base + n).toString(16));
      }
    }
    expect(offered.join(' ')).toBe(
      '84000000 84000001 84000002 84000003 84000004 84000006 84000008 84000009 8400000a 84000012 ' +
        'c4000001 c4000003 c4000004 c4000012 80000000',
    );
  });
});

describe('ARM-4: register widths', () => {
  it('UUIDs are zero-extended words', () => {
    expect(hvc(0x8600_ff01).x0123).toEqual([0xb66f_b428n, 0xe911_c52en, 0x564b_caa9n, 0x743a_004dn]);
    // 0d21e000-4384-11eb-8070-5244554e5a4c, four bytes of the text in each word, the first one lowest.
    const bytes = hvc(0x8400_0052).x0123.flatMap(w => [0n, 8n, 16n, 24n].map(s => Number((w >> s) & 0xffn)));
    expect(Buffer.from(bytes).toString('hex')).toBe('0d21e000438411eb80705244554e5a4c');
  });

  it('every call sets all of X0..X3 and nothing else', () => {
    for (const id of [0x8400_0000, 0xc400_0001, 0xc400_0003, 0x8400_0008, 0x8400_0050, 0x8600_0000, 0x9999_9999]) {
      expect(hvc(id).written).toEqual([0, 1, 2, 3]);
    }
  });

  it('32-bit ids use the low halves of their arguments, 64-bit ids all of them', () => {
    const high = 0x5555_5555_0000_0000n;
    expect(hvc(0x8400_0003, [high | 1n, high | 0x4000_0000n, high | 7n]).x0123[0]).toBe(0n);
    expect(board.log).toEqual([['start', 1, 0x4000_0000, 7n]]);
    expect(hvc(0x8400_0004, [high | 2n, high]).x0123[0]).toBe(u64(-2n));
    expect(hvc(0x8400_0004, [high | 1n, high]).x0123[0]).toBe(0n);
    expect(hvc(0xc400_0003, [high | 2n, 0n, 0n]).x0123[0]).toBe(u64(-2n));
    expect(hvc(0xc400_0003, [0x1_0000_0101n, 0xf_ffff_ffff_fffcn, high]).x0123[0]).toBe(0n);
    expect(board.log[1]).toEqual(['start', 3, 0xf_ffff_ffff_fffc, high]);
  });
});

describe('EMU-A3: CPU_ON', () => {
  it('starts the vCPU of that affinity with X0 = context', () => {
    expect(hvc(0xc400_0003, [0x100n, 0x4008_0000n, 0x1234_5678_9abc_def0n]).x0123).toEqual([0n, 0n, 0n, 0n]);
    expect(board.log).toEqual([['start', 2, 0x4008_0000, 0x1234_5678_9abc_def0n]]);
  });

  it('refuses no such vCPU (-2), one that is on (-4) and no address (-9)', () => {
    expect(hvc(0xc400_0003, [0x2n, 0n, 0n]).x0123[0]).toBe(u64(-2n));
    expect(hvc(0xc400_0003, [0x8000_0000n, 0n, 0n]).x0123[0]).toBe(u64(-2n));
    expect(hvc(0xc400_0003, [0x0n, 0n, 0n]).x0123[0]).toBe(u64(-4n));
    expect(hvc(0xc400_0003, [0x1n, 1n << 52n, 0n]).x0123[0]).toBe(u64(-9n));
    expect(board.log).toEqual([]);
  });

  it('has its results in place before it acts: a reset may follow at once', () => {
    const order: string[] = [];
    board.system = event => order.push(event);
    bus.handle({
      abi: 'smccc',
      cpu: 0,
      id: 0x8400_0009,
      arg: () => 0n,
      result: n => order.push(`X${n}`),
    });
    expect(order).toEqual(['X0', 'X1', 'X2', 'X3', 'reset']);
  });

  it('believes the machine when it says that the vCPU is on by now', () => {
    board.start = () => 'already-on' as never;
    expect(hvc(0xc400_0003, [0x1n, 0n, 0n]).x0123[0]).toBe(u64(-4n));
  });
});

describe('PSCI', () => {
  it('AFFINITY_INFO: on, off, or no such node, at every level', () => {
    const info = (affinity: bigint, level: bigint) => BigInt.asIntN(64, hvc(0xc400_0004, [affinity, level]).x0123[0]!);
    expect([info(0n, 0n), info(1n, 0n), info(2n, 0n)]).toEqual([0n, 1n, -2n]);
    // Aff1 = 0 holds vCPU 0, which is on; Aff1 = 1 one that is off; fields below the level do not count.
    expect([info(0xffn, 1n), info(0x100n, 1n), info(0x200n, 1n)]).toEqual([0n, 1n, -2n]);
    expect([info(0xffffn, 2n), info(0x1_0000n, 2n), info(0n, 3n), info(0x1_0000_0000n, 3n)]).toEqual([0n, -2n, 0n, 1n]);
    expect([info(0n, 4n), info(0n, 1n << 63n)]).toEqual([-2n, -2n]);
    expect(info(0x8000_0000n, 0n)).toBe(0n); // bit 31 of MPIDR_EL1 is RES1 and no affinity
  });

  it('CPU_SUSPEND waits like WFI and returns 0; CPU_OFF stops the caller', () => {
    expect(hvc(0xc400_0001, [0x1_0000n, 0n, 0n], 1).x0123[0]).toBe(0n);
    expect(hvc(0x8400_0001, [0n, 0n, 0n], 2).x0123[0]).toBe(0n);
    hvc(0x8400_0002, [], 3);
    expect(board.log).toEqual([
      ['suspend', 1],
      ['suspend', 2],
      ['stop', 3],
    ]);
  });

  it('SYSTEM_OFF, SYSTEM_RESET and SYSTEM_RESET2 end the machine; a guest that runs on sees -6', () => {
    for (const [id, arg] of [
      [0x8400_0008, 0n],
      [0x8400_0009, 0n],
      [0x8400_0012, 0n],
      [0xc400_0012, 0x8000_0000n],
    ] as const) {
      expect(hvc(id, [arg]).x0123[0]).toBe(u64(-6n));
    }
    expect(board.log).toEqual([
      ['shutdown', 'PSCI SYSTEM_OFF'],
      ['reset', 'PSCI SYSTEM_RESET'],
      ['reset', 'PSCI SYSTEM_RESET2'],
      ['reset', 'PSCI SYSTEM_RESET2'],
    ]);
    expect(hvc(0xc400_0012, [1n]).x0123[0]).toBe(u64(-2n));
    expect(board.log.length).toBe(4);
  });
});

describe('TRNG', () => {
  const value = (id: number, bits: bigint, width: bigint) => {
    const [x0, x1, x2, x3] = hvc(id, [bits]).x0123 as [bigint, bigint, bigint, bigint];
    expect(x0).toBe(0n);
    for (const x of [x1, x2, x3]) expect(x >> width).toBe(0n);
    return (x1 << (2n * width)) | (x2 << width) | x3;
  };

  it('gives as many bits as are asked for, lowest in X3', () => {
    for (const [id, width] of [
      [0x8400_0053, 32n],
      [0xc400_0053, 64n],
    ] as const) {
      for (const bits of [1n, 7n, 31n, 32n, 33n, 64n, 95n, 96n, 3n * width]) {
        const seen = Array.from({ length: 64 }, () => value(id, bits, width));
        // Every bit asked for is set in some of 64 answers (all of them but for chance 2^-57), no other bit ever.
        expect(seen.reduce((a, b) => a | b)).toBe((1n << bits) - 1n);
      }
    }
  });

  it('refuses 0 bits and more than three registers hold', () => {
    for (const [id, bits] of [
      [0x8400_0053, 0n],
      [0x8400_0053, 97n],
      [0xc400_0053, 193n],
      [0xc400_0053, 0n],
    ] as const) {
      expect(hvc(id, [bits]).x0123).toEqual([u64(-2n), 0n, 0n, 0n]);
    }
  });

  it('repeats itself with a seed and not without', () => {
    expect(createEntropy('a')(100)).toEqual(createEntropy('a')(100));
    expect(createEntropy('a')(8)).not.toEqual(createEntropy('b')(8));
    const one = createEntropy('a');
    expect(one(8)).not.toEqual(one(8));
    expect(createEntropy()(16)).not.toEqual(createEntropy()(16));
    expect(createEntropy()(16).length).toBe(16);
  });
});
