import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GicRig, ITS_ADDRESS, RAM_BASE } from '../../../../test/support/gic-rig.ts';
import type { AccessSize, BusDevice } from '../../../bus/types.ts';
import { createGicV2 } from './gicv2.ts';
import * as regs from './regs.ts';

const CPUS = 3;
const INTIDS = 96;
const WRITABLE = [
  regs.ICC_PMR_EL1,
  regs.ICC_BPR0_EL1,
  regs.ICC_BPR1_EL1,
  regs.ICC_AP0R0_EL1,
  regs.ICC_AP1R0_EL1,
  regs.ICC_CTLR_EL1,
  regs.ICC_IGRPEN0_EL1,
  regs.ICC_IGRPEN1_EL1,
  regs.ICC_EOIR0_EL1,
  regs.ICC_EOIR1_EL1,
  regs.ICC_DIR_EL1,
  regs.ICC_SGI0R_EL1,
  regs.ICC_SGI1R_EL1,
];

type Op =
  | { kind: 'gicd' | 'sgi'; cpu: number; offset: number; value: number }
  | { kind: 'route'; intid: number; affinity: bigint }
  | { kind: 'icc'; cpu: number; reg: number; value: number }
  | { kind: 'iar'; cpu: number; group: number }
  | { kind: 'eoi'; cpu: number }
  | { kind: 'line'; intid: number; cpu: number; level: boolean }
  | { kind: 'waker'; cpu: number; value: number };

const cpu = fc.nat(CPUS - 1);
const word = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.nat(31).map(n => (1 << n) >>> 0),
);
/** Offsets of the registers that hold the state of interrupts below INTIDS. */
const bankOffset = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.integer({ min: 1, max: 7 }), fc.nat(2)).map(([k, w]) => 0x80 * k + 4 * w) },
  { weight: 2, arbitrary: fc.nat(INTIDS / 4 - 1).map(n => regs.GICD_IPRIORITYR + 4 * n) },
  { weight: 1, arbitrary: fc.nat(INTIDS / 16 - 1).map(n => regs.GICD_ICFGR + 4 * n) },
);
const weighted = <T>(weight: number, arbitrary: fc.Arbitrary<T>) => ({ weight, arbitrary });
const op: fc.Arbitrary<Op> = fc.oneof(
  weighted(
    4,
    fc.record({ kind: fc.constantFrom('gicd' as const, 'sgi' as const), cpu, offset: bankOffset, value: word }),
  ),
  weighted(
    1,
    fc.record({
      kind: fc.constant('gicd' as const),
      cpu,
      offset: fc.constant(0),
      value: fc.constantFrom(0, 1, 2, 3, 3, 3, 3),
    }),
  ),
  weighted(
    1,
    fc.record({
      kind: fc.constant('route' as const),
      intid: fc.integer({ min: 32, max: INTIDS - 1 }),
      affinity: fc.constantFrom(0n, 1n, 2n, 3n, 0x8000_0000n, 0x1_0000_0000n),
    }),
  ),
  weighted(1, fc.record({ kind: fc.constant('icc' as const), cpu, reg: fc.constantFrom(...WRITABLE), value: word })),
  weighted(5, fc.record({ kind: fc.constant('iar' as const), cpu, group: fc.constantFrom(0, 1, 1) })),
  weighted(5, fc.record({ kind: fc.constant('eoi' as const), cpu })),
  weighted(
    6,
    fc.record({
      kind: fc.constant('line' as const),
      intid: fc.integer({ min: 16, max: INTIDS - 1 }),
      cpu,
      level: fc.boolean(),
    }),
  ),
  weighted(1, fc.record({ kind: fc.constant('waker' as const), cpu, value: fc.constantFrom(0, 0, 0, 2) })),
);

/** A bit of a bitmap register, of an INTID that `cpuNumber` sees. */
function bit(rig: GicRig, cpuNumber: number, register: number, intid: number): boolean {
  const at = register + 4 * (intid >> 5);
  const value = intid < 32 ? rig.sgi(cpuNumber, at) : rig.gicd(at);
  return (value & (1 << (intid & 31))) !== 0;
}

/** Who gets a 1-of-N interrupt of `group`: our choice is the lowest CPU that is awake and takes the group. */
function anyTarget(rig: GicRig, group: number): number {
  const enable = group === 0 ? regs.ICC_IGRPEN0_EL1 : regs.ICC_IGRPEN1_EL1;
  return [...rig.irq.keys()].findIndex(n => rig.gicr(n, regs.GICR_WAKER) === 0 && rig.icc(n, enable) === 1);
}

/** nIRQ and nFIQ of a CPU, from nothing but registers and the words of IHI 0069 sections 4.6 and 4.8. */
function expected(rig: GicRig, n: number): [boolean, boolean] {
  let best = { priority: 0x100, group: 1 };
  for (let intid = 0; intid < INTIDS; intid++) {
    if (!bit(rig, n, regs.GICD_ISPENDR, intid) || !bit(rig, n, regs.GICD_ISENABLER, intid)) continue;
    if (bit(rig, n, regs.GICD_ISACTIVER, intid)) continue;
    const group = bit(rig, n, regs.GICD_IGROUPR, intid) ? 1 : 0;
    if ((rig.gicd(regs.GICD_CTLR) & (1 << group)) === 0) continue;
    if (rig.icc(n, group === 0 ? regs.ICC_IGRPEN0_EL1 : regs.ICC_IGRPEN1_EL1) === 0) continue;
    if (intid >= 32) {
      const router = rig.gic.distributor.read64!(regs.GICD_IROUTER + 8 * intid);
      if (router & 0x8000_0000n ? anyTarget(rig, group) !== n : router !== BigInt(n)) continue;
    }
    const at = regs.GICD_IPRIORITYR + (intid & ~3);
    const priority = ((intid < 32 ? rig.sgi(n, at) : rig.gicd(at)) >>> (8 * (intid & 3))) & 0xff;
    if (priority < best.priority) best = { priority, group };
  }
  if (rig.gicr(n, regs.GICR_WAKER) !== 0 || best.priority >= rig.icc(n, regs.ICC_PMR_EL1)!) return [false, false];
  const active = (rig.icc(n, regs.ICC_AP0R0_EL1)! | rig.icc(n, regs.ICC_AP1R0_EL1)!) >>> 0;
  for (let level = 0; level < 32; level++) {
    if ((active & (1 << level)) === 0) continue;
    const cbpr = (rig.icc(n, regs.ICC_CTLR_EL1)! & 1) !== 0;
    const low = best.group === 0 || cbpr ? rig.icc(n, regs.ICC_BPR0_EL1)! + 1 : rig.icc(n, regs.ICC_BPR1_EL1)!;
    if (best.priority >> low >= (level << 3) >> low) return [false, false];
    break;
  }
  return [best.group === 1, best.group === 0];
}

describe('properties of the GICv3', () => {
  it('signals what recomputation from its registers gives, and never delivers an active interrupt again', () => {
    let delivered = 0;
    fc.assert(
      fc.property(fc.array(op, { minLength: 60, maxLength: 120 }), ops => {
        const rig = new GicRig({ cpus: CPUS, its: false }).up();
        for (let n = 0; n < INTIDS / 32; n++) {
          rig.gicd(regs.GICD_ISENABLER + 4 * n, 0xffff_ffff);
        }
        for (let n = 0; n < INTIDS / 4; n++) {
          const priorities = 0x1010_1010 * (n % 8) + 0x0008_1840;
          rig.gicd(regs.GICD_IPRIORITYR + 4 * n, priorities);
          for (let c = 0; c < CPUS; c++) rig.sgi(c, regs.GICD_IPRIORITYR + 4 * n, priorities);
        }
        for (let i = 32; i < INTIDS; i++) rig.gic.distributor.write64!(regs.GICD_IROUTER + 8 * i, BigInt(i % CPUS));
        for (let c = 0; c < CPUS; c++) rig.sgi(c, regs.GICD_ISENABLER, 0xffff_ffff);
        const taken: number[][] = rig.irq.map(() => []);
        for (const o of ops) {
          switch (o.kind) {
            case 'gicd':
              rig.gicd(o.offset, o.value);
              break;
            case 'sgi':
              rig.sgi(o.cpu, o.offset, o.value);
              break;
            case 'route':
              rig.gic.distributor.write64!(regs.GICD_IROUTER + 8 * o.intid, o.affinity);
              break;
            case 'icc':
              expect(rig.icc(o.cpu, o.reg, o.value)).toBe(o.value);
              break;
            case 'iar': {
              const was = rig.irq[o.cpu] || rig.fiq[o.cpu];
              const active = new Set<number>();
              for (let i = 0; i < INTIDS; i++) if (bit(rig, o.cpu, regs.GICD_ISACTIVER, i)) active.add(i);
              const intid = rig.icc(o.cpu, o.group === 0 ? regs.ICC_IAR0_EL1 : regs.ICC_IAR1_EL1)!;
              if (intid === 1023) break;
              delivered++;
              expect(was).toBe(true);
              expect(active.has(intid)).toBe(false);
              expect(bit(rig, o.cpu, regs.GICD_ISACTIVER, intid)).toBe(true);
              taken[o.cpu]!.push(intid);
              break;
            }
            case 'eoi': {
              const intid = taken[o.cpu]!.pop() ?? 1023;
              rig.icc(o.cpu, regs.ICC_EOIR1_EL1, intid);
              rig.icc(o.cpu, regs.ICC_EOIR0_EL1, intid);
              break;
            }
            case 'line':
              if (o.intid < 32) rig.gic.setPpi(o.cpu, o.intid, o.level);
              else rig.gic.line(o.intid - 32).set(o.level);
              break;
            case 'waker':
              rig.gicr(o.cpu, regs.GICR_WAKER, o.value);
          }
          for (let n = 0; n < CPUS; n++) expect([rig.irq[n], rig.fiq[n]]).toEqual(expected(rig, n));
        }
        const copy = new GicRig({ cpus: CPUS, its: false });
        copy.gic.restore(JSON.parse(JSON.stringify(rig.gic.save())));
        expect([copy.irq, copy.fiq]).toEqual([rig.irq, rig.fiq]);
      }),
      { numRuns: 25 },
    );
    expect(delivered).toBeGreaterThan(20); // The runs did reach what they are about.
  });

  it('takes any access of any width without an exception, ITS commands and tables of noise included', () => {
    const size = fc.constantFrom<AccessSize | 8>(1, 2, 4, 4, 8);
    const access = fc.record({
      device: fc.nat(2),
      offset: fc.oneof(
        fc.nat(0x5_ffff),
        fc.nat(0x3ff).map(n => n * 4),
        fc.nat(7).map(n => 0x70 + 8 * n),
      ),
      size,
      write: fc.boolean(),
      value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    });
    const commands = fc.array(
      fc.tuple(fc.constantFrom(1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 99), fc.nat(3), fc.nat(40), fc.nat(3)),
    );
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60 }), commands, (accesses, list) => {
        const rig = new GicRig({ cpus: 2 }).up();
        const devices: BusDevice[] = [rig.gic.distributor, rig.gic.redistributors, rig.gic.its!];
        rig.gits64(regs.GITS_BASER, (1n << 63n) | BigInt(RAM_BASE));
        rig.gits64(regs.GITS_BASER + 8, (1n << 63n) | BigInt(RAM_BASE + 0x2000));
        rig.gits64(regs.GITS_CBASER, (1n << 63n) | BigInt(RAM_BASE + 0x1_0000));
        for (const n of [0, 1]) {
          rig.gicr64(n, regs.GICR_PROPBASER, BigInt(RAM_BASE + 0x8000) | 15n);
          rig.gicr64(n, regs.GICR_CTLR, 1n);
        }
        rig.gits(regs.GITS_CTLR, 1);
        for (const [n, [command, device, event, icid]] of list.entries()) {
          const at = RAM_BASE + 0x1_0000 + 32 * (n % 127);
          rig.memory.setU32(at, command);
          rig.memory.setU32(at + 4, device);
          rig.memory.setU32(at + 8, event);
          rig.memory.setU32(at + 12, 8192 + event);
          rig.memory.setU32(at + 16, (RAM_BASE + 0x4000) | icid);
          rig.memory.setU32(at + 20, 0x8000_0000);
          rig.gits64(regs.GITS_CWRITER, BigInt(32 * ((n % 127) + 1)));
          rig.gic.signalMsi({ address: ITS_ADDRESS + regs.GITS_TRANSLATER, data: event, deviceId: device });
        }
        for (const a of accesses) {
          const device = devices[a.device]!;
          if (a.size === 8) {
            if (a.write) device.write64!(a.offset, a.value);
            expect(device.read64!(a.offset)).toBeLessThan(1n << 64n);
          } else {
            if (a.write) device.write(a.offset, a.size, Number(BigInt.asUintN(8 * a.size, a.value)));
            const value = device.read(a.offset, a.size);
            expect(value >= 0 && value < 2 ** (8 * a.size)).toBe(true);
          }
        }
        for (const n of [0, 1]) rig.icc(n, regs.ICC_IAR1_EL1);
        rig.gic.restore(JSON.parse(JSON.stringify(rig.gic.save())));
      }),
      { numRuns: 80 },
    );
  });
});

describe('properties of the GICv2', () => {
  it('signals an interrupt exactly when GICC_IAR would give one, and takes any access', () => {
    const access = fc.record({
      kind: fc.constantFrom('gicd', 'gicd', 'gicc', 'v2m', 'line', 'line'),
      cpu,
      offset: fc.oneof(
        fc.nat(0x1fff),
        fc.nat(0x3ff).map(n => n * 4),
        bankOffset,
      ),
      size: fc.constantFrom<AccessSize>(1, 2, 4, 4, 4, 4),
      value: word,
    });
    let delivered = 0;
    fc.assert(
      fc.property(fc.array(access, { minLength: 40, maxLength: 120 }), accesses => {
        let current = 0;
        const irq = [false, false, false];
        const fiq = [false, false, false];
        const config = {
          cpus: CPUS,
          spis: 64,
          currentCpu: () => current,
          wires: {
            setIrq(n: number, i: boolean, f: boolean) {
              irq[n] = i;
              fiq[n] = f;
            },
          },
          v2m: { base: 64, count: 32 },
        };
        const gic = createGicV2(config);
        gic.distributor.write(0, 4, 3);
        for (current = 0; current < CPUS; current++) {
          gic.cpuInterface.write(regs.GICC_PMR, 4, 0xf0);
          gic.cpuInterface.write(regs.GICC_CTLR, 4, 7);
        }
        current = 0;
        for (let n = 0; n < 16; n++) gic.distributor.write(regs.GICD_ITARGETSR + 32 + 4 * n, 4, 0x0102_0407);
        for (const n of [1, 2]) gic.distributor.write(regs.GICD_ISENABLER + 4 * n, 4, 0xffff_ffff);
        for (const a of accesses) {
          current = a.cpu;
          if (a.kind === 'line') gic.line(a.offset & 63).set((a.value & 1) !== 0);
          else {
            const devices: Record<string, BusDevice> = { gicd: gic.distributor, gicc: gic.cpuInterface, v2m: gic.v2m };
            const device = devices[a.kind]!;
            device.write(a.offset, a.size, a.value >>> (32 - 8 * a.size));
            device.read(a.offset, a.size);
          }
          // GICC_IAR and GICC_AIAR on a copy, so that looking changes nothing.
          const before = JSON.stringify(gic.save());
          const copy = createGicV2({ ...config, wires: { setIrq() {} } });
          for (current = 0; current < CPUS; current++) {
            copy.restore(JSON.parse(before));
            const got = [regs.GICC_IAR, regs.GICC_AIAR].map(o => copy.cpuInterface.read(o, 4));
            expect(got.some(v => (v & 0x3ff) < 1020)).toBe(irq[current] || fiq[current]);
            if (irq[current] || fiq[current]) delivered++;
          }
        }
      }),
      { numRuns: 12 },
    );
    expect(delivered).toBeGreaterThan(10);
  });
});
