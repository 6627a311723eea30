import { expect, test } from 'vitest';
import {
  capabilityOf,
  extendedCapabilityOf,
  fakeFunction,
  MSI_ADDRESS,
  PciRig,
} from '../../../test/support/pci-rig.ts';
import * as R from '../regs.ts';
import { PciRootPort } from '../root-port.ts';
import { AerCapability, CORRECTABLE_ERRORS, injectError, UNCORRECTABLE_ERRORS } from './aer.ts';
import * as E from './express.ts';

const UESTA = 0x04;
const UEMSK = 0x08;
const UESVRT = 0x0c;
const CESTA = 0x10;
const CEMSK = 0x14;
const ADVERR = 0x18;
const HEADER_LOG = 0x1c;
const ROOTCMD = 0x2c;
const ROOTSTA = 0x30;
const ERRSID = 0x34;

/** An endpoint below a root port, both as Linux sets them up: reporting on, MSI on. */
function setup() {
  const rig = new PciRig();
  const port = new PciRootPort({ slot: 1, host: rig.host });
  rig.host.add(port);
  const f = fakeFunction({
    name: 'disk',
    capabilities: [new E.ExpressCapability({ type: 'endpoint' }), new AerCapability()],
  });
  port.plugAtBoot(f);
  rig.write(port, R.PRIMARY_BUS, 0x01_0100);
  const express = capabilityOf(f, R.CAP_ID_EXP)!;
  const msi = capabilityOf(port, R.CAP_ID_MSI)!;
  rig.command(port, R.COMMAND_MASTER);
  rig.write(port, msi + 4, MSI_ADDRESS);
  rig.write(port, msi + 12, 0xae, 2);
  rig.write(port, msi + 2, 1, 2);
  rig.write(f, express + E.DEVCTL, 0x281f, 2);
  const own = extendedCapabilityOf(f, R.EXT_CAP_ID_AER)!;
  const root = extendedCapabilityOf(port, R.EXT_CAP_ID_AER)!;
  rig.write(port, root + ROOTCMD, 7);
  return {
    rig,
    port,
    f,
    get: (register: number) => rig.read(f, own + register),
    set: (register: number, value: number) => rig.write(f, own + register, value),
    rootGet: (register: number) => rig.read(port, root + register),
    rootSet: (register: number, value: number) => rig.write(port, root + register, value),
    devsta: () => rig.read(f, express + E.DEVSTA, 2),
    devctl: (value: number) => rig.write(f, express + E.DEVCTL, value, 2),
    data: () => rig.taken().map(m => m.data),
  };
}

test('AER: masks and severities are as the specification has them after a reset', () => {
  const { get, rootGet, f } = setup();
  expect(rootGet(0) >>> 20).toBeGreaterThan(0x100);
  expect(f.config.view.getUint32(0x100, true)).toBe(0x0002_0001);
  expect([UESTA, UEMSK, UESVRT, CESTA, CEMSK, ADVERR].map(get)).toEqual([0, 0x0040_0000, 0x0046_2030, 0, 0xe000, 0]);
});

test('AER: a correctable error is recorded, reported with its source, and interrupts once', () => {
  const { f, get, set, rootGet, rootSet, devsta, data } = setup();
  expect(injectError(f, 'bad-tlp')).toBe(true);
  const bit = 1 << CORRECTABLE_ERRORS['bad-tlp'];
  expect([get(CESTA), devsta(), rootGet(ROOTSTA), rootGet(ERRSID)]).toEqual([bit, E.DEVSTA_CED, 1, 0x0100]);
  expect(data()).toEqual([0xae]);
  // More of them while the first is there: the multiple bit, no second edge.
  injectError(f, 'receiver-error');
  expect([rootGet(ROOTSTA), data()]).toEqual([3, []]);
  set(CESTA, bit);
  expect(get(CESTA)).toBe(1);
  rootSet(ROOTSTA, 3);
  injectError(f, 'receiver-error');
  expect([rootGet(ROOTSTA), data()]).toEqual([1, [0xae]]);
});

test('AER: severity decides between fatal and non-fatal, and the first error has pointer and header', () => {
  const { f, get, set, rootGet, rootSet, devsta, data } = setup();
  const poisoned = UNCORRECTABLE_ERRORS['poisoned-tlp'];
  injectError(f, 'poisoned-tlp', [1, 2, 3, 0xffff_ffff]);
  injectError(f, 'malformed-tlp', [9, 9, 9, 9]);
  expect([get(UESTA), get(ADVERR)]).toEqual([(1 << poisoned) | (1 << UNCORRECTABLE_ERRORS['malformed-tlp']), poisoned]);
  expect([0, 4, 8, 12].map(o => get(HEADER_LOG + o))).toEqual([1, 2, 3, 0xffff_ffff]);
  // Uncorrectable, several of them, non-fatal and fatal; the first was not fatal.
  expect([rootGet(ROOTSTA), rootGet(ERRSID), devsta()]).toEqual([0x6c, 0x0100_0000, E.DEVSTA_FED | E.DEVSTA_NFED]);
  expect(data()).toEqual([0xae]);
  set(UESTA, 0xffff_ffff);
  rootSet(ROOTSTA, 0xffff_ffff);
  expect([get(UESTA), rootGet(ROOTSTA)]).toEqual([0, 0]);
  set(UESVRT, 1 << poisoned);
  injectError(f, 'poisoned-tlp');
  expect([rootGet(ROOTSTA), devsta() & E.DEVSTA_FED, data()]).toEqual([0x54, E.DEVSTA_FED, [0xae]]);
});

test('AER: a masked error is recorded and goes no further', () => {
  const { f, get, set, rootGet, data } = setup();
  set(UEMSK, 0xffff_ffff);
  set(CEMSK, 0xffff_ffff);
  expect(get(CEMSK)).toBe(0xf1c1);
  injectError(f, 'completion-timeout', [5, 5, 5, 5]);
  injectError(f, 'bad-dllp');
  expect([get(UESTA), get(CESTA), get(HEADER_LOG), rootGet(ROOTSTA), data()]).toEqual([1 << 14, 1 << 7, 0, 0, []]);
});

test('AER: Device Control and SERR# Enable decide what is reported', () => {
  const { rig, f, port, devctl, rootGet, rootSet, data } = setup();
  devctl(0);
  for (const error of ['bad-tlp', 'malformed-tlp', 'completer-abort'] as const) injectError(f, error);
  expect([rootGet(ROOTSTA), data()]).toEqual([0, []]);
  // An unsupported request needs an enable bit of its own.
  devctl(E.DEVCTL_NFERE);
  injectError(f, 'unsupported-request');
  expect(rootGet(ROOTSTA)).toBe(0);
  devctl(E.DEVCTL_NFERE | E.DEVCTL_URRE);
  injectError(f, 'unsupported-request');
  expect([rootGet(ROOTSTA), data()]).toEqual([0x24, [0xae]]);
  rootSet(ROOTSTA, 0x7f);
  devctl(0);
  rig.command(f, R.COMMAND_SERR);
  injectError(f, 'completer-abort');
  expect([rootGet(ROOTSTA), rig.read(f, R.STATUS, 2) & R.STATUS_SIG_SYSTEM_ERROR]).toEqual([
    0x24,
    R.STATUS_SIG_SYSTEM_ERROR,
  ]);
  expect(data()).toEqual([0xae]);
  // Bridge Control lets messages through, or not.
  rootSet(ROOTSTA, 0x7f);
  rig.write(port, R.BRIDGE_CONTROL, 0, 2);
  injectError(f, 'completer-abort');
  expect([rootGet(ROOTSTA), data()]).toEqual([0, []]);
});

test('AER: the root decides which classes interrupt, and enabling one that has come interrupts', () => {
  const { f, rootSet, data } = setup();
  rootSet(ROOTCMD, 1);
  injectError(f, 'malformed-tlp');
  expect(data()).toEqual([]);
  rootSet(ROOTCMD, 4);
  expect(data()).toEqual([0xae]);
});

test('AER: without a port above errors are recorded, without the capability they are not', () => {
  const rig = new PciRig();
  const lonely = rig.add({ capabilities: [new E.ExpressCapability({ type: 'endpoint' }), new AerCapability()] });
  expect(injectError(lonely, 'bad-tlp')).toBe(true);
  expect(rig.read(lonely, 0x100 + CESTA)).toBe(1 << 6);
  expect(injectError(rig.add(), 'bad-tlp')).toBe(false);
});

test("AER: a root port's own errors have its own id", () => {
  const { rig, port, rootGet, data } = setup();
  rig.write(port, capabilityOf(port, R.CAP_ID_EXP)! + E.DEVCTL, 0xf, 2);
  injectError(port, 'bad-tlp');
  expect([rootGet(ROOTSTA), rootGet(ERRSID), data()]).toEqual([1, port.requesterId, [0xae]]);
});
