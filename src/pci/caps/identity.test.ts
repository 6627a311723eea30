import { expect, test } from 'vitest';
import { capabilityOf, extendedCapabilityOf, PciRig } from '../../../test/support/pci-rig.ts';
import * as R from '../regs.ts';
import { AcsCapability } from './acs.ts';
import { PmCapability } from './pm.ts';
import { SerialNumberCapability } from './serial-number.ts';
import { VendorCapability } from './vendor.ts';

test('a serial number is 64 bits, low half first, and read-only', () => {
  const rig = new PciRig();
  const f = rig.add({ capabilities: [new SerialNumberCapability(0xfedc_ba98_7654_3210n)] });
  const at = extendedCapabilityOf(f, R.EXT_CAP_ID_DSN)!;
  rig.write(f, at + 4, 0);
  expect([rig.read(f, at), rig.read(f, at + 4), rig.read(f, at + 8)]).toEqual([0x0001_0003, 0x7654_3210, 0xfedc_ba98]);
});

test('ACS: what a port can do, a guest can turn on', () => {
  const rig = new PciRig();
  const f = rig.add({ capabilities: [new AcsCapability()] });
  const at = extendedCapabilityOf(f, R.EXT_CAP_ID_ACS)!;
  // Linux asks for SV, RR, CR and UF.
  expect([rig.read(f, at), rig.read(f, at + 4, 2) & 0x1d]).toEqual([0x0001_000d, 0x1d]);
  rig.write(f, at + 6, 0xffff, 2);
  expect(rig.read(f, at + 6, 2)).toBe(0x5f);
});

test('a vendor capability has its length, its body, and the writable bits of it', () => {
  const rig = new PciRig();
  const vendor = new VendorCapability(Uint8Array.of(1, 0, 5, 0, 0, 0x11, 0x22), {
    writable: Uint8Array.of(0, 0xff, 0, 0, 0, 0x0f),
  });
  const f = rig.add({ capabilities: [new PmCapability(), vendor] });
  const at = capabilityOf(f, R.CAP_ID_VENDOR)!;
  expect([rig.read(f, at), rig.read(f, at + 4), rig.read(f, at + 8, 2)]).toEqual([0x010a_0009, 0x0000_0500, 0x2211]);
  for (let i = 0; i < 12; i++) rig.write(f, at + i, 0xff, 1);
  expect([...vendor.body]).toEqual([1, 0xff, 5, 0, 0, 0x1f, 0x22]);
  f.reset();
  expect([...vendor.body]).toEqual([1, 0, 5, 0, 0, 0x11, 0x22]);
});

test('a window in a vendor capability answers by itself', () => {
  const rig = new PciRig();
  const written: number[][] = [];
  const window = {
    read: (offset: number, size: number) => 0x40 + offset + size,
    write: (...w: number[]) => written.push(w),
  };
  const vendor = new VendorCapability(new Uint8Array(17), { window: { offset: 16, length: 4, window } });
  const f = rig.add({ capabilities: [vendor] });
  const at = capabilityOf(f, R.CAP_ID_VENDOR)!;
  expect([rig.read(f, at + 16), rig.read(f, at + 18, 1), rig.read(f, at + 12)]).toEqual([0x44, 0x43, 0]);
  rig.write(f, at + 16, 0xbeef, 2);
  expect(written).toEqual([[0, 2, 0xbeef]]);
});
