import { expect, test } from 'vitest';
import { capabilityOf, fakeFunction, PciRig } from '../../../test/support/pci-rig.ts';
import { PciBridge } from '../bridge.ts';
import type { PciFunction } from '../function.ts';
import * as R from '../regs.ts';
import * as E from './express.ts';

const LINK = [E.LNKCAP, E.LNKCTL, E.LNKCAP2, E.LNKCTL2];
const SLOT_AND_ROOT = [E.SLTCAP, E.SLTCTL, E.RTCTL, E.RTSTA, 0x34, 0x38];

function setup(options: Partial<E.ExpressOptions> = {}, reset?: () => void) {
  const rig = new PciRig();
  const f = fakeFunction({
    capabilities: [new E.ExpressCapability({ type: 'endpoint', ...options })],
    ...(reset && { reset }),
  });
  const port = new PciBridge({
    name: 'port',
    vendorId: 1,
    deviceId: 1,
    classCode: 0x06_0400,
    capabilities: [new E.ExpressCapability({ type: 'root-port' })],
  });
  rig.host.add(port);
  rig.write(port, R.PRIMARY_BUS, 0x01_0100);
  const at = (g: PciFunction) => capabilityOf(g, R.CAP_ID_EXP)!;
  const read = (g: PciFunction, register: number, size: 2 | 4 = 4) => rig.read(g, at(g) + register, size);
  const write = (g: PciFunction, register: number, value: number) => rig.write(g, at(g) + register, value, 2);
  return { rig, f, port, read, write };
}

test('EXP-1: on the root bus an endpoint is integrated into the root complex and has no link', () => {
  const { rig, f, read, write } = setup();
  rig.host.add(f);
  expect(read(f, E.FLAGS, 2)).toBe(0x0092);
  for (const register of LINK) {
    write(f, register, 0xffff);
    write(f, register + 2, 0xffff);
    expect(read(f, register)).toBe(0);
  }
});

test('EXP-1: below a port it is an endpoint with one lane, and what it is follows its place', () => {
  const { rig, f, port, read, write } = setup();
  rig.host.add(f, { bus: port.secondary });
  expect([read(f, E.FLAGS, 2), read(f, E.LNKCAP) & 0x3ff, read(f, E.LNKSTA, 2) & 0x3ff]).toEqual([2, 0x011, 0x011]);
  write(f, E.LNKCTL, 0xffff);
  expect(read(f, E.LNKCTL, 2)).toBe(0x00cb);
  rig.host.remove(f);
  rig.host.add(f);
  expect([read(f, E.FLAGS, 2), read(f, E.LNKCAP), read(f, E.LNKCTL, 2)]).toEqual([0x0092, 0, 0]);
  rig.host.remove(f);
  rig.host.add(f, { bus: port.secondary });
  expect([read(f, E.FLAGS, 2), read(f, E.LNKCTL, 2)]).toEqual([2, 0]);
  rig.host.reset();
  rig.write(port, R.PRIMARY_BUS, 0x01_0100);
  expect(read(f, E.FLAGS, 2)).toBe(2);
});

test('EXP-2: an endpoint has no slot and root registers; a root port has what belongs to one', () => {
  const { rig, f, port, read, write } = setup();
  rig.host.add(f, { bus: port.secondary });
  for (const register of SLOT_AND_ROOT) {
    write(f, register, 0xffff);
    write(f, register + 2, 0xffff);
    expect(read(f, register)).toBe(0);
  }
  expect([read(port, E.FLAGS, 2), read(port, E.SLTCAP)]).toEqual([0x0042, 0]);
  expect([read(port, E.LNKSTA, 2) & 0x3ff, read(port, E.LNKCAP) & 0x3ff]).toEqual([0x011, 0x011]);
  write(port, E.RTCTL, 0xffff);
  expect([read(port, E.RTCTL, 2), read(port, E.RTCAP, 2)]).toEqual([0x000f, 0]);
  // Link Disable is a port's; Retrain Link reads zero.
  write(port, E.LNKCTL, 0xffff);
  expect(read(port, E.LNKCTL, 2)).toBe(0x00d3);
});

test('EXP-3: the version is 2, and registers of version 2 are there', () => {
  const { rig, f, read, write } = setup();
  rig.host.add(f);
  expect(read(f, E.FLAGS, 2) & 0xf).toBe(2);
  expect(read(f, E.DEVCAP2)).toBe(0x10);
  write(f, E.DEVCTL2, 0xffff);
  expect(read(f, E.DEVCTL2, 2)).toBe(0x10);
});

test('EXP-4: Device Control takes payload, read request, ordering and error reporting', () => {
  const { rig, f, read, write } = setup();
  rig.host.add(f);
  expect([read(f, E.DEVCAP) & 7, read(f, E.DEVCTL, 2)]).toEqual([1, 0x2810]);
  write(f, E.DEVCTL, 0xffff);
  expect(read(f, E.DEVCTL, 2)).toBe(0x78ff);
  write(f, E.DEVCTL, 0x5020);
  expect(read(f, E.DEVCTL, 2)).toBe(0x5020);
});

test('Device Status is cleared by writing ones', () => {
  const { rig, f, read, write } = setup();
  rig.host.add(f);
  (f.capabilities[0] as E.ExpressCapability).detected(0xff);
  expect(read(f, E.DEVSTA, 2)).toBe(0xf);
  write(f, E.DEVSTA, 0x3);
  expect(read(f, E.DEVSTA, 2)).toBe(0xc);
});

test('EXP-5: a function level reset is offered only where it works', () => {
  const { rig, f, read, write } = setup();
  rig.host.add(f);
  rig.command(f, R.COMMAND_MEMORY);
  write(f, E.DEVCTL, 0x8000);
  expect([read(f, E.DEVCAP) & (1 << 28), rig.read(f, R.COMMAND, 2)]).toEqual([0, R.COMMAND_MEMORY]);
});

test('EXP-5: Initiate Function Level Reset resets device and registers, but not the link, and reads zero', () => {
  let resets = 0;
  const { rig, f, port, read, write } = setup({ functionReset: true }, () => {
    resets++;
  });
  rig.host.add(f, { bus: port.secondary });
  expect(read(f, E.DEVCAP) & (1 << 28)).toBe(1 << 28);
  rig.command(f, R.COMMAND_MEMORY | R.COMMAND_MASTER);
  write(f, E.LNKCTL, 0x0040);
  write(f, E.DEVCTL, 0x502f);
  expect([resets, read(f, E.DEVCTL, 2)]).toEqual([0, 0x502f]);
  write(f, E.DEVCTL, 0xd02f);
  expect([resets, rig.read(f, R.COMMAND, 2), f.mayMaster]).toEqual([1, 0, false]);
  expect([read(f, E.DEVCTL, 2), read(f, E.LNKCTL, 2)]).toEqual([0x2830, 0x0040]);
  rig.write(f, capabilityOf(f, R.CAP_ID_EXP)! + E.DEVCTL + 1, 0x80, 1);
  expect([resets, read(f, E.DEVCTL, 2) & 0x8000]).toEqual([2, 0]);
});
