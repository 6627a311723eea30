import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HypercallService } from '../../bus/hypercall.ts';
import { createHypercallBus } from '../../bus/hypercall-bus.ts';
import type { CounterPair } from '../../time/types.ts';
import { createPtp } from './ptp.ts';
import { createPvTime } from './pv-time.ts';
import { createKvmHypervisor } from './service.ts';

const NOT_SUPPORTED = 2n ** 64n - 1n;
/** What X4..X17 hold before a call: the convention preserves them (EMU-A1). */
const OTHERS = 0xdead_beef_dead_beefn;
const UID = 0x8600_ff01;
const FEATURES = 0x8600_0000;
const PTP = 0x8600_0001;

/** A wall clock and counters whose words all differ. */
const PAIR: CounterPair = {
  wallNs: 0x1807_2635_f4e3_d2c1n,
  virtual: 0x0000_0123_8765_4321n,
  physical: 0x0000_0456_fedc_ba98n,
  errorNs: 0,
};

/** Registers X0..X17 after HVC #0 with X0 = id and X1 = `x1`, and how often the clocks were read. */
function hvc(o: { readonly ptp: boolean; readonly pair?: CounterPair }, id: number, x1 = 0n) {
  let readings = 0;
  const bus = createHypercallBus();
  const services: HypercallService[] = [];
  if (o.ptp) {
    services.push(
      createPtp(() => {
        readings++;
        return o.pair ?? PAIR;
      }),
    );
  }
  for (const s of [createKvmHypervisor(services), createPvTime(), ...services]) bus.add(s);
  const x = Array.from({ length: 18 }, () => OTHERS);
  x[1] = x1;
  bus.handle({
    abi: 'smccc',
    cpu: 0,
    id,
    arg: n => x[n]!,
    result: (n, v) => {
      x[n] = v;
    },
  });
  return { x0123: x.slice(0, 4), others: x.slice(4), readings };
}

describe('the calls of a guest that looks for a PTP clock', () => {
  const UID_WORDS = [0xb66f_b428n, 0xe911_c52en, 0x564b_caa9n, 0x743a_004dn];
  const WALL = [0x1807_2635n, 0xf4e3_d2c1n];
  const VIRTUAL = [...WALL, 0x123n, 0x8765_4321n];
  const PHYSICAL = [...WALL, 0x456n, 0xfedc_ba98n];
  const ERROR = [NOT_SUPPORTED, 0n, 0n, 0n];
  const on = true;
  const off = false;

  // Title, whether PTP is there, function, X1, all of X0..X3.
  it.each<[string, boolean, number, bigint, readonly bigint[]]>([
    ['ARM-4: the UID is zero-extended words', on, UID, 0n, UID_WORDS],
    ['EMU-X7: the UID does not change without PTP', off, UID, 0n, UID_WORDS],
    ['ARM-4: FEATURES tells of itself and of PTP', on, FEATURES, 0n, [3n, 0n, 0n, 0n]],
    ['EMU-X7: FEATURES without PTP: bit 1 is clear', off, FEATURES, 0n, [1n, 0n, 0n, 0n]],
    ['ARM-1, ARM-2: PTP of the virtual counter', on, PTP, 0n, VIRTUAL],
    ['ARM-1, ARM-2: PTP of the physical counter', on, PTP, 1n, PHYSICAL],
    ['ARM-3: PTP of a counter that there is not', on, PTP, 2n, ERROR],
    ['ARM-3: PTP of a counter that there is not, all ones', on, PTP, 0xffff_ffffn, ERROR],
    ['ARM-4: an argument is 32 bits wide: virtual', on, PTP, 0xffff_ffff_0000_0000n, VIRTUAL],
    ['ARM-4: an argument is 32 bits wide: physical', on, PTP, 0x1_0000_0001n, PHYSICAL],
    ['ARM-4: an argument is 32 bits wide: neither', on, PTP, 0x1_0000_0002n, ERROR],
    ['ARM-5: there is no SMC64 form', on, 0xc600_0001, 0n, ERROR],
    ['ARM-5: there is no SMC64 form for the physical counter', on, 0xc600_0001, 1n, ERROR],
    ['ARM-5: nor of FEATURES', on, 0xc600_0000, 0n, ERROR],
    ['ARM-5: there is no yielding form', on, 0x0600_0001, 0n, ERROR],
    ['ARM-2: the function number 2 of an early proposal', on, 0x8600_0002, 0n, ERROR],
    ['EMU-X7: PTP that is switched off: virtual counter', off, PTP, 0n, ERROR],
    ['EMU-X7: PTP that is switched off: physical counter', off, PTP, 1n, ERROR],
    ['ARM-4: stolen time, which is not offered', on, 0xc500_0020, 0xc500_0021n, ERROR],
  ])('%s', (_, ptp, id, x1, x0123) => {
    const result = hvc({ ptp }, id, x1);
    expect(result.x0123).toEqual(x0123);
    // EMU-A1
    expect(result.others).toEqual(Array.from({ length: 14 }, () => OTHERS));
    // ARM-7: the clocks are read during the call, and once.
    expect(result.readings).toBe(x0123 === VIRTUAL || x0123 === PHYSICAL ? 1 : 0);
  });
});

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
/** Any value of X1; half of them name a counter, below upper halves that do not matter. */
const argument = fc.oneof(
  u64,
  fc.tuple(u64, fc.constantFrom(0n, 1n)).map(([high, which]) => BigInt.asUintN(64, high << 32n) | which),
);
const wall = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });

describe('ARM-4: register widths', () => {
  it('a guest gets every pair by a0 << 32 | a1 and a2 << 32 | a3, without a mask; X0 is negative for errors only', () => {
    fc.assert(
      fc.property(wall, u64, u64, argument, (wallNs, virtual, physical, x1) => {
        const { x0123 } = hvc({ ptp: true, pair: { wallNs, virtual, physical, errorNs: 0 } }, PTP, x1);
        const [a0, a1, a2, a3] = x0123 as [bigint, bigint, bigint, bigint];
        const which = x1 & 0xffff_ffffn;
        if (which > 1n) {
          expect(x0123).toEqual([NOT_SUPPORTED, 0n, 0n, 0n]);
          return;
        }
        expect(BigInt.asIntN(64, a0)).toBeGreaterThanOrEqual(0n);
        expect((a0 << 32n) | a1).toBe(wallNs);
        expect((a2 << 32n) | a3).toBe(which === 0n ? virtual : physical);
        for (const x of x0123) expect(x >> 32n).toBe(0n);
      }),
    );
  });
});

describe('a guest that calls without end', () => {
  it('gets answers from optimized code, too: Node 20 aborts on some choices between two BigInts of 64 bits', () => {
    const clock = new BigUint64Array(1);
    const registers = new BigUint64Array(4);
    const ptp = createPtp(() => {
      const physical = BigInt.asUintN(64, clock[0]! >> 4n);
      return { wallNs: clock[0]!, physical, virtual: BigInt.asUintN(64, physical - 1n), errorNs: 0 };
    });
    for (let n = 1; n <= 100_000; n++) {
      clock[0] = BigInt(n) << 30n;
      registers[1] = BigInt(n & 1);
      ptp.handle({
        abi: 'smccc',
        cpu: 0,
        id: PTP,
        arg: i => registers[i]!,
        result: (i, v) => {
          registers[i] = v;
        },
      });
    }
    // 100000 << 30, and a sixteenth of it less 1.
    expect([...registers]).toEqual([0x61a8n, 0n, 0x61an, 0x7fff_ffffn]);
  });
});

describe('EMU-X7: what FEATURES tells of', () => {
  const service = (first: number, last = first): HypercallService => ({
    name: 'x',
    ids: [{ first, last }],
    handle: () => {},
  });
  const features = (...services: HypercallService[]) => {
    const x: bigint[] = [];
    createKvmHypervisor(services).handle({
      abi: 'smccc',
      cpu: 0,
      id: FEATURES,
      arg: () => 0n,
      result: (n, v) => {
        x[n] = v;
      },
    });
    return x;
  };

  it('is what is registered, a bit for each function number, 32 in each register', () => {
    expect(features(service(0x8600_001f))).toEqual([0x8000_0001n, 0n, 0n, 0n]);
    expect(features(service(0x8600_0020), service(0x8600_007f))).toEqual([1n, 1n, 0n, 0x8000_0000n]);
    expect(features(service(0x8600_003e, 0x8600_0041))).toEqual([1n, 0xc000_0000n, 3n, 0n]);
  });

  it('has no bit for what is not numbered so', () => {
    expect(features(service(0x8600_0080, 0x8600_ffff), service(0xc600_0001), service(0x8500_0001))).toEqual([
      1n,
      0n,
      0n,
      0n,
    ]);
  });
});
