import { expect, test } from 'vitest';
import { capabilityOf, MSI_ADDRESS, PciRig } from '../../../test/support/pci-rig.ts';
import * as R from '../regs.ts';
import { MsiCapability } from './msi.ts';

const CONTROL = 2;
const ADDRESS = 4;
const DATA = 12;
const MASK = 16;
const PENDING = 20;

function rigWith(vectors: ConstructorParameters<typeof MsiCapability>[0]) {
  const rig = new PciRig();
  const msi = new MsiCapability(vectors);
  const f = rig.add({ capabilities: [msi], interruptPin: 1 }, 0);
  const at = capabilityOf(f, R.CAP_ID_MSI)!;
  rig.command(f, R.COMMAND_MASTER);
  rig.write(f, at + ADDRESS, MSI_ADDRESS);
  rig.write(f, at + DATA, 0x1230, 2);
  /** Enables 2^mme vectors. */
  const enable = (mme = 0) => rig.write(f, at + CONTROL, (mme << 4) | 1, 2);
  const data = () => rig.taken().map(m => m.data);
  return { rig, msi, f, at, enable, data };
}

test('MSI-1: with several vectors the low bits of the data say which one', () => {
  const { rig, msi, f, at, enable, data } = rigWith(4);
  expect(rig.read(f, at + CONTROL, 2)).toBe(0x0184);
  rig.write(f, at + DATA, 0x1237, 2);
  enable(2);
  for (let n = 0; n < 4; n++) msi.trigger(n);
  expect(data()).toEqual([0x1234, 0x1235, 0x1236, 0x1237]);
});

test('MSI-1: a guest that enables fewer vectors gets the rest on the last one', () => {
  const { msi, enable, data } = rigWith(8);
  enable(1);
  for (let n = 0; n < 8; n++) msi.trigger(n);
  expect(data()).toEqual([0x1230, 0x1231, 0x1231, 0x1231, 0x1231, 0x1231, 0x1231, 0x1231]);
  // More than there are cannot be enabled.
  enable(7);
  msi.trigger(7);
  expect([msi.enabledVectors, data()]).toEqual([8, [0x1237]]);
});

test('MSI-1: the message goes to 64 bits of address with the requester id', () => {
  const { rig, msi, f, at, enable } = rigWith(1);
  enable();
  msi.trigger(0);
  expect(rig.taken()).toEqual([{ address: MSI_ADDRESS, data: 0x1230, deviceId: f.requesterId }]);
  rig.write(f, at + ADDRESS + 4, 1);
  msi.trigger(0);
  expect(rig.taken()).toEqual([]);
  rig.write(f, at + ADDRESS, 0xffff_ffff);
  expect(rig.read(f, at + ADDRESS)).toBe(0xffff_fffc);
});

test('MSI-2: a masked vector is pending, and sent once when it is unmasked', () => {
  const { rig, msi, f, at, enable, data } = rigWith(4);
  enable(2);
  rig.write(f, at + MASK, 0xffff_ffff);
  expect(rig.read(f, at + MASK)).toBe(0xf);
  msi.trigger(1);
  msi.trigger(1);
  msi.trigger(3);
  expect([data(), rig.read(f, at + PENDING)]).toEqual([[], 0b1010]);
  rig.write(f, at + PENDING, 0);
  expect(rig.read(f, at + PENDING)).toBe(0b1010);
  rig.write(f, at + MASK, 0b1000);
  expect([data(), rig.read(f, at + PENDING)]).toEqual([[0x1231], 0b1000]);
  rig.write(f, at + MASK, 0, 1);
  rig.write(f, at + MASK, 0);
  expect([data(), rig.read(f, at + PENDING)]).toEqual([[0x1233], 0]);
});

test('MSI-2: what is pending is forgotten by a reset', () => {
  const { rig, msi, f, at, enable } = rigWith(1);
  enable();
  rig.write(f, at + MASK, 1);
  msi.trigger(0);
  f.reset();
  expect([rig.read(f, at + PENDING), rig.read(f, at + CONTROL, 2) & 1]).toEqual([0, 0]);
});

test('MSI-3: enabling takes INTx down, disabling brings it back', () => {
  const { rig, msi, f, at, enable, data } = rigWith(1);
  f.setIntx(true);
  expect(rig.wires[0]).toBe(true);
  enable();
  expect(rig.wires[0]).toBe(false);
  rig.write(f, at + CONTROL, 0, 1);
  expect(rig.wires[0]).toBe(true);
  msi.trigger(0);
  expect(data()).toEqual([]);
});
