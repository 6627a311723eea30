import { expect, test } from 'vitest';
import { ECAM, FakeBar, fakeFunction, MSI_ADDRESS, PciRig } from '../../test/support/pci-rig.ts';
import { PciBridge } from './bridge.ts';
import { MsiCapability } from './caps/msi.ts';
import type { PciFunction, PciFunctionSpec } from './function.ts';
import * as R from './regs.ts';

const A = 0x1800_0000;
const DEAD = 0xffff_ffff;

/** A bridge on `bus` of the rig, with its secondary bus numbered as a guest does. */
function bridge(rig: PciRig, place: { parent?: PciBridge; device?: number } = {}, secondary = 1, subordinate = 1) {
  const b = new PciBridge({ name: 'bridge', vendorId: 1, deviceId: 2, classCode: 0x06_0400 });
  const { parent, device = 1 } = place;
  rig.host.add(b, { ...(parent === undefined ? {} : { bus: parent.secondary }), device });
  number(rig, b, secondary, subordinate);
  return b;
}

function number(rig: PciRig, b: PciBridge, secondary: number, subordinate: number): void {
  rig.write(b, R.PRIMARY_BUS, (subordinate << 16) | (secondary << 8) | (b.bus?.number ?? 0));
}

function below(rig: PciRig, b: PciBridge, spec: Partial<PciFunctionSpec> = {}): PciFunction {
  const f = fakeFunction(spec);
  rig.host.add(f, { bus: b.secondary });
  return f;
}

/** Opens the memory window [base, limit], MiB-granular. */
function open(rig: PciRig, b: PciBridge, base: number, limit: number): void {
  rig.write(b, R.MEMORY_BASE, ((limit >>> 16) << 16) | (base >>> 16));
}

test('a function below a bridge is found by the bus number that the guest has written', () => {
  const rig = new PciRig();
  const b = bridge(rig, {}, 5, 5);
  below(rig, b, { deviceId: 0x77 });
  const ids = (bus: number) => rig.memory.read(ECAM + bus * 2 ** 20, 4);
  expect([ids(1), ids(5)]).toEqual([DEAD, 0x0077_1b36]);
  number(rig, b, 9, 9);
  expect([ids(5), ids(9)]).toEqual([DEAD, 0x0077_1b36]);
  number(rig, b, 0, 0);
  expect([ids(5), ids(9)]).toEqual([DEAD, DEAD]);
});

test('bridges below bridges: the bus numbers lead down, a wrong range hides what is behind it', () => {
  const rig = new PciRig();
  const top = bridge(rig, {}, 1, 3);
  const inner = bridge(rig, { parent: top, device: 0 }, 3, 3);
  const f = below(rig, inner, { deviceId: 0x99 });
  expect(f.requesterId).toBe(0x0300);
  expect(rig.memory.read(ECAM + 3 * 2 ** 20 + 2, 2)).toBe(0x99);
  expect(rig.host.functions()).toEqual([top, inner, f]);
  rig.write(top, R.SUBORDINATE_BUS, 2, 1);
  expect(rig.memory.read(ECAM + 3 * 2 ** 20, 4)).toBe(DEAD);
});

test('a bridge forwards what its window holds, and only that part of a BAR', () => {
  const rig = new PciRig();
  const b = bridge(rig);
  const device = new FakeBar(1);
  const f = below(rig, b, { bars: [{ index: 0, kind: 'mem32', size: 0x20_0000, device }] });
  rig.write(f, R.BASE_ADDRESS_0, A);
  rig.command(f, R.COMMAND_MEMORY);
  rig.command(b, R.COMMAND_MEMORY);
  // Closed after a reset.
  expect(rig.memory.read(A, 4)).toBe(DEAD);
  open(rig, b, A, A + 0xf_ffff);
  expect([rig.memory.read(A + 0xf_fffc, 4), rig.memory.read(A + 0x10_0000, 4)]).toEqual([
    device.answer(0xf_fffc, 4),
    DEAD,
  ]);
  open(rig, b, A + 0x10_0000, A + 0x1f_ffff);
  expect([rig.memory.read(A + 0xf_fffc, 4), rig.memory.read(A + 0x10_0000, 4)]).toEqual([
    DEAD,
    device.answer(0x10_0000, 4),
  ]);
  rig.command(b, 0);
  expect(rig.memory.read(A + 0x10_0000, 4)).toBe(DEAD);
  rig.command(b, R.COMMAND_MEMORY);
  open(rig, b, A + 0x100_0000, A);
  expect(rig.memory.read(A, 4)).toBe(DEAD);
});

test('a bridge forwards prefetchable memory of 64 bits and ports', () => {
  const rig = new PciRig();
  const b = bridge(rig);
  const [wide, ports] = [new FakeBar(1), new FakeBar(2)];
  const f = below(rig, b, {
    bars: [
      { index: 0, kind: 'mem64', size: 4096, device: wide, prefetch: true },
      { index: 2, kind: 'io', size: 16, device: ports },
    ],
  });
  rig.write(f, R.BASE_ADDRESS_0 + 4, 0x81);
  rig.write(f, R.BASE_ADDRESS_0 + 8, 0x2010);
  rig.command(f, 3);
  rig.command(b, 3);
  expect([rig.memory.read(0x81_0000_0000, 4), rig.io.read(0x2010, 4)]).toEqual([DEAD, DEAD]);
  rig.write(b, R.PREF_BASE_UPPER32, 0x81);
  rig.write(b, R.PREF_LIMIT_UPPER32, 0x81);
  rig.write(b, R.PREF_MEMORY_BASE, 0x0000_0000);
  expect(rig.read(b, R.PREF_MEMORY_BASE)).toBe(0x0001_0001);
  rig.write(b, R.IO_BASE, 0x2020, 2);
  expect(rig.read(b, R.IO_BASE, 2)).toBe(0x2121);
  expect([rig.memory.read(0x81_0000_0000, 4), rig.io.read(0x2010, 4)]).toEqual([wide.answer(0, 4), ports.answer(0, 4)]);
  rig.command(b, R.COMMAND_MEMORY);
  expect([rig.memory.read(0x81_0000_0000, 4), rig.io.read(0x2010, 4)]).toEqual([wide.answer(0, 4), DEAD]);
});

test('CMD-2: a function masters while every bridge above it does', () => {
  const rig = new PciRig();
  const top = bridge(rig, {}, 1, 2);
  const inner = bridge(rig, { parent: top, device: 0 }, 2, 2);
  const told: boolean[] = [];
  const f = below(rig, inner, { masterChanged: allowed => told.push(allowed) });
  for (const each of [f, inner, top]) {
    expect(f.mayMaster).toBe(false);
    rig.command(each, R.COMMAND_MASTER);
  }
  expect(f.mayMaster).toBe(true);
  rig.command(top, 0);
  expect([f.mayMaster, told]).toEqual([false, [true, false]]);
});

test('INTX-1: pins are rotated at every bridge on the way up', () => {
  const rig = new PciRig();
  const top = bridge(rig, { device: 3 }, 1, 2);
  const inner = bridge(rig, { parent: top, device: 2 }, 2, 2);
  const f = below(rig, inner, { interruptPin: 1 });
  const g = fakeFunction({ interruptPin: 2 });
  rig.host.add(g, { bus: top.secondary, device: 4 });
  f.setIntx(true);
  // INTA of device 0, +2 of the inner bridge, +3 of the one above: 5 mod 4.
  expect(rig.wires).toEqual([false, true, false, false]);
  f.setIntx(false);
  g.setIntx(true);
  // INTB of device 4 (1 + 4), +3: 8 mod 4.
  expect(rig.wires).toEqual([true, false, false, false]);
});

test('a message carries the requester id of its sender', () => {
  const rig = new PciRig();
  const b = bridge(rig, {}, 7, 7);
  const msi = new MsiCapability();
  const f = below(rig, b, { capabilities: [msi] });
  for (const each of [b, f]) rig.command(each, R.COMMAND_MASTER);
  rig.write(f, 0x44, MSI_ADDRESS);
  rig.write(f, 0x42, 1, 2);
  msi.trigger(0);
  expect(rig.taken()).toEqual([{ address: MSI_ADDRESS, data: 0, deviceId: 0x0700 }]);
});

test('a secondary bus reset resets what is below, once for each time the bit is set', () => {
  const rig = new PciRig();
  const b = bridge(rig);
  let resets = 0;
  const f = below(rig, b, {
    reset: () => {
      resets++;
    },
  });
  rig.command(f, R.COMMAND_MASTER);
  rig.write(b, R.BRIDGE_CONTROL, R.BRIDGE_CONTROL_BUS_RESET, 2);
  rig.write(b, R.BRIDGE_CONTROL, R.BRIDGE_CONTROL_BUS_RESET, 2);
  expect([resets, f.command, b.secondary.number]).toEqual([1, 0, 1]);
  rig.write(b, R.BRIDGE_CONTROL, 0, 2);
  rig.write(b, R.BRIDGE_CONTROL, R.BRIDGE_CONTROL_BUS_RESET, 2);
  expect(resets).toBe(2);
});

test('a reset of the host closes the windows, forgets the numbers and resets what is below', () => {
  const rig = new PciRig();
  const b = bridge(rig);
  const f = below(rig, b, { bars: [{ index: 0, kind: 'mem32', size: 4096, device: new FakeBar() }] });
  open(rig, b, A, A);
  rig.command(b, R.COMMAND_MEMORY);
  rig.write(f, R.BASE_ADDRESS_0, A);
  rig.command(f, R.COMMAND_MEMORY);
  expect(rig.memory.at(A)).toBeDefined();
  rig.host.reset();
  expect([rig.memory.at(A), f.command, b.secondary.number, b.windows()]).toEqual([undefined, 0, 0, []]);
});

test('a bus below a bridge of this kind has one device', () => {
  const rig = new PciRig();
  const b = bridge(rig);
  below(rig, b);
  expect(() => below(rig, b)).toThrow(expect.objectContaining({ code: 'ERR_PCI_SLOT' }));
});
