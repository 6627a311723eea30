import fc from 'fast-check';
import { expect, test } from 'vitest';
import { capabilityOf, MSI_ADDRESS, PciRig } from '../../../test/support/pci-rig.ts';
import type { BarSpec } from '../bar.ts';
import * as R from '../regs.ts';
import { MsixCapability, msixLayout } from './msix.ts';

const CONTROL = 2;
const ENABLE = 0x8000;
const MASK_ALL = 0x4000;
const A = 0x1800_0000;
const B = 0x1900_0000;
const BAR1 = R.BASE_ADDRESS_0 + 4;

function rigWith(vectors: number) {
  const rig = new PciRig();
  const msix = new MsixCapability(vectors, 1);
  const bar: BarSpec = { index: 1, kind: 'mem32', size: msixLayout(vectors).size, device: msix };
  const f = rig.add({ capabilities: [msix], bars: [bar], interruptPin: 1, save: () => null }, 0);
  const at = capabilityOf(f, R.CAP_ID_MSIX)!;
  rig.write(f, BAR1, A);
  rig.command(f, R.COMMAND_MEMORY | R.COMMAND_MASTER);
  const control = (value: number) => rig.write(f, at + CONTROL, value, 2);
  /** Programs a vector through the table, masked or not. */
  const entry = (n: number, data: number, masked = 0) => {
    for (const [i, value] of [MSI_ADDRESS, 0, data, masked].entries()) rig.memory.write(A + 16 * n + 4 * i, 4, value);
  };
  const pending = (n: number) => (rig.memory.read(A + msix.pba + 4 * (n >> 5), 4) >>> (n & 31)) & 1;
  const data = () => rig.taken().map(m => m.data);
  return { rig, msix, f, at, control, entry, pending, data };
}

test('MSIX-1: of the capability only the enable and function mask bits can be written', () => {
  const { rig, f, at } = rigWith(33);
  const before = [0, 4, 8].map(o => rig.read(f, at + o));
  for (const o of [0, 4, 8]) rig.write(f, at + o, 0xffff_ffff);
  expect([0, 4, 8].map(o => (rig.read(f, at + o) ^ before[o / 4]!) >>> 0)).toEqual([0xc000_0000, 0, 0]);
  expect(before).toEqual([0x0020_0011, 0x0000_0001, 0x0000_0801]);
  rig.write(f, at + 3, 0, 1);
  expect(rig.read(f, at + CONTROL, 2)).toBe(32);
});

test('MSIX-2: after a reset every vector is masked and nothing is pending', () => {
  const { rig, msix, f, control, entry } = rigWith(3);
  const masked = () => [0, 1, 2].map(n => msix.vector(n).masked);
  expect(masked()).toEqual([true, true, true]);
  control(ENABLE);
  entry(0, 5);
  msix.trigger(1);
  expect([masked(), msix.vector(1).pending]).toEqual([[false, true, true], true]);
  f.reset();
  expect([masked(), msix.vector(1).pending, msix.enabled]).toEqual([[true, true, true], false, false]);
  rig.write(f, BAR1, A);
  rig.command(f, R.COMMAND_MEMORY);
  expect([rig.memory.read(A, 4), rig.memory.read(A + 12, 4)]).toEqual([0, 1]);
});

test('MSIX-3: the table takes aligned accesses of 4 and 8 bytes, the pending bits only reads', () => {
  const { rig, msix, control } = rigWith(2);
  control(ENABLE | MASK_ALL);
  rig.memory.write64(A, 0x0000_0001_0802_0043n);
  expect([rig.memory.read64(A), rig.memory.read(A + 4, 4)]).toEqual([0x0000_0001_0802_0040n, 1]);
  rig.memory.write(A + 8, 4, 0xcafe);
  for (const [at, size] of [
    [8, 1],
    [8, 2],
    [10, 2],
    [9, 1],
  ] as const) {
    rig.memory.write(A + at, size, 0);
    expect(rig.memory.read(A + at, size)).toBe(2 ** (8 * size) - 1);
  }
  rig.memory.write(A + 9, 4, 0);
  expect(rig.memory.read(A + 9, 4)).toBe(0xffff_ffff);
  expect(msix.vector(0)).toEqual({ masked: true, pending: false, address: 0x1_0802_0040, data: 0xcafe });
  // Of Vector Control the mask is all there is.
  rig.memory.write(A + 28, 4, 0xffff_ffff);
  expect(rig.memory.read(A + 28, 4)).toBe(1);
  msix.trigger(1);
  rig.memory.write(A + msix.pba, 4, 0);
  rig.memory.write64(A + msix.pba, 0n);
  expect([rig.memory.read(A + msix.pba, 4), rig.memory.read64(A + msix.pba)]).toEqual([2, 2n]);
  // Between table and pending bits, and behind them.
  rig.memory.write(A + 32, 4, 1);
  expect([rig.memory.read(A + 32, 4), rig.memory.read(A + msix.pba + 8, 4)]).toEqual([0, 0]);
});

test('MSIX-4: a masked vector is pending, and sent once when it is unmasked', () => {
  const { rig, msix, control, entry, pending, data } = rigWith(40);
  control(ENABLE);
  entry(35, 0x35, 1);
  msix.trigger(35);
  msix.trigger(35);
  expect([data(), pending(35), pending(34)]).toEqual([[], 1, 0]);
  rig.memory.write(A + 16 * 35 + 12, 4, 0);
  expect([data(), pending(35)]).toEqual([[0x35], 0]);
  rig.memory.write(A + 16 * 35 + 12, 4, 0);
  expect(data()).toEqual([]);
});

test('MSIX-4: the function mask makes every vector pending, and its end sends them', () => {
  const { msix, control, entry, pending, data } = rigWith(3);
  control(ENABLE | MASK_ALL);
  for (const n of [0, 1, 2]) entry(n, 0x10 + n, n === 1 ? 1 : 0);
  for (const n of [2, 1, 0]) msix.trigger(n);
  expect([data(), [0, 1, 2].map(pending)]).toEqual([[], [1, 1, 1]]);
  control(ENABLE);
  expect([data(), [0, 1, 2].map(pending)]).toEqual([
    [0x10, 0x12],
    [0, 1, 0],
  ]);
  control(ENABLE | MASK_ALL);
  entry(1, 0x21);
  expect(data()).toEqual([]);
  control(ENABLE);
  expect(data()).toEqual([0x21]);
});

test('MSIX-4: each raise is sent at once, or once later, whatever the masks do', () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant('raise'), n: fc.nat({ max: 3 }), on: fc.boolean() }),
    fc.record({ op: fc.constant('mask'), n: fc.nat({ max: 3 }), on: fc.boolean() }),
    fc.record({ op: fc.constant('function'), n: fc.constant(0), on: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), list => {
      const { rig, msix, control, entry, pending, data } = rigWith(4);
      control(ENABLE);
      for (let n = 0; n < 4; n++) entry(n, n);
      const masked = [false, false, false, false];
      const waiting = [false, false, false, false];
      let all = false;
      for (const { op, n, on } of list) {
        const expected: number[] = [];
        if (op === 'raise') {
          if (all || masked[n]) waiting[n] = true;
          else expected.push(n);
          msix.trigger(n);
        } else {
          if (op === 'mask') masked[n] = on;
          else all = on;
          if (op === 'mask') rig.memory.write(A + 16 * n + 12, 4, on ? 1 : 0);
          else control(ENABLE | (on ? MASK_ALL : 0));
          for (let v = 0; v < 4; v++) {
            if (all || masked[v] || !waiting[v]) continue;
            waiting[v] = false;
            expected.push(v);
          }
        }
        expect(data()).toEqual(expected);
        expect([0, 1, 2, 3].map(v => pending(v) === 1)).toEqual(waiting);
      }
    }),
    { numRuns: 60 },
  );
});

test("MSIX-5: Linux's way to enable passes", () => {
  const { rig, msix, f, at, control, data } = rigWith(4);
  const flags = rig.read(f, at + CONTROL, 2);
  control(flags | MASK_ALL | ENABLE);
  expect((rig.read(f, at + CONTROL, 2) & 0x7ff) + 1).toBe(4);
  expect(rig.read(f, at + 4) & 7).toBe(1);
  for (let n = 0; n < 4; n++) {
    rig.memory.write(A + 16 * n + 12, 4, rig.memory.read(A + 16 * n + 12, 4) | 1);
    rig.memory.write(A + 16 * n, 4, MSI_ADDRESS);
    rig.memory.write(A + 16 * n + 4, 4, 0);
    rig.memory.write(A + 16 * n + 8, 4, 0x60 + n);
  }
  f.setIntx(true);
  rig.command(f, rig.read(f, R.COMMAND, 2) | R.COMMAND_INTX_DISABLE);
  control((rig.read(f, at + CONTROL, 2) & ~MASK_ALL) | ENABLE);
  msix.trigger(2);
  expect(data()).toEqual([]);
  rig.memory.write(A + 16 * 2 + 12, 4, 0);
  msix.trigger(2);
  msix.trigger(99);
  expect([data(), rig.wires[0]]).toEqual([[0x62, 0x62], false]);
});

test('MSIX-6: table and pending bits have room, and lie in the BAR without touching', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2048 }), vectors => {
      const { pba, size } = msixLayout(vectors);
      expect(pba).toBeGreaterThanOrEqual(16 * vectors);
      expect(size).toBeGreaterThanOrEqual(pba + 8 * Math.ceil(vectors / 64));
      expect([pba % 8, Math.log2(size) % 1]).toEqual([0, 0]);
    }),
  );
  const { rig, msix, control, pending } = rigWith(2048);
  control(ENABLE);
  for (const n of [0, 63, 64, 2047]) msix.trigger(n);
  expect([0, 1, 63, 64, 65, 2046, 2047].map(pending)).toEqual([1, 0, 1, 1, 0, 0, 1]);
  expect(rig.memory.read(A + 16 * 2047 + 12, 4)).toBe(1);
});

test('MSIX-9: the table keeps its contents when its BAR moves, and vectors work before, while and after', () => {
  const { rig, msix, f, control, entry, data } = rigWith(2);
  control(ENABLE);
  entry(1, 0x77);
  rig.write(f, BAR1, 0xffff_ffff);
  msix.trigger(1);
  rig.write(f, BAR1, B);
  msix.trigger(1);
  expect(data()).toEqual([0x77, 0x77]);
  expect([rig.memory.read(A + 24, 4), rig.memory.read(B + 24, 4)]).toEqual([0xffff_ffff, 0x77]);
  rig.memory.write(B + 28, 4, 1);
  msix.trigger(1);
  expect(data()).toEqual([]);
});

test('MSI-3: enabling MSI-X takes INTx down, disabling brings it back', () => {
  const { rig, f, control, msix, data } = rigWith(1);
  f.setIntx(true);
  control(ENABLE);
  expect(rig.wires[0]).toBe(false);
  control(0);
  msix.trigger(0);
  expect([rig.wires[0], data()]).toEqual([true, []]);
});

test('MSIX-4: what is pending is sent by the function that goes on with its state', () => {
  const a = rigWith(40);
  a.control(ENABLE);
  a.entry(0, 70);
  a.entry(39, 71, 1);
  a.msix.trigger(39);
  const b = rigWith(40);
  b.rig.host.restore(structuredClone(a.rig.host.save()));
  expect([b.pending(39), b.pending(0), b.msix.vector(39).masked]).toEqual([1, 0, true]);
  b.msix.trigger(0);
  expect(b.data()).toEqual([70]);
  b.entry(39, 71);
  expect([b.data(), b.pending(39)]).toEqual([[71], 0]);
});
