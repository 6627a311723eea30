import { expect, test } from 'vitest';
import { capabilityOf, fakeFunction, PciRig } from '../../test/support/pci-rig.ts';
import { SLTCTL } from './caps/express.ts';
import * as R from './regs.ts';
import { PciRootPort } from './root-port.ts';
import { PciSlots } from './slots.ts';

const PCC = 1 << 10;

function setup(count: number) {
  const rig = new PciRig();
  const ports = Array.from({ length: count }, (_, i) => new PciRootPort({ slot: i + 1, host: rig.host }));
  for (const [i, port] of ports.entries()) {
    rig.host.add(port);
    rig.write(port, R.PRIMARY_BUS, ((i + 1) << 16) | ((i + 1) << 8));
  }
  return { rig, ports, slots: new PciSlots(ports) };
}

const refused = (message: string, hint: string) =>
  expect.objectContaining({
    code: 'ERR_PCI_SLOT',
    message: expect.stringContaining(message),
    hint: expect.stringContaining(hint),
  });

test('functions go into the first free slot, and a slot that was emptied is free again', async () => {
  const { rig, ports, slots } = setup(2);
  expect(slots.plugAtBoot(fakeFunction({ name: 'a' }))).toBe(ports[0]);
  expect(slots.plug(fakeFunction({ name: 'b' }))).toBe(ports[1]);
  expect([slots.free, slots.used]).toEqual([[], ports]);
  const leaving = slots.unplug('a');
  const control = capabilityOf(ports[0]!, R.CAP_ID_EXP)! + SLTCTL;
  rig.write(ports[0]!, control, rig.read(ports[0]!, control, 2) | PCC, 2);
  expect((await leaving).name).toBe('a');
  expect([slots.free, slots.used]).toEqual([[ports[0]], [ports[1]]]);
  expect((await slots.remove('b')).name).toBe('b');
  expect(slots.plug(fakeFunction({ name: 'b' }))).toBe(ports[0]);
});

test('what there is no room for, what is there twice and what is not there is refused', () => {
  const { slots } = setup(1);
  expect(() => slots.unplug('a')).toThrow(refused('no slot has a function a', 'all slots are empty'));
  slots.plug(fakeFunction({ name: 'a' }));
  expect(() => slots.plug(fakeFunction({ name: 'b' }))).toThrow(refused('all 1 slots are full', 'more slots'));
  expect(() => slots.plug(fakeFunction({ name: 'a' }))).toThrow(refused('of that name', 'another name'));
  expect(() => slots.remove('b')).toThrow(refused('no slot has a function b', 'there are: a'));
  expect(() => new PciSlots([]).plug(fakeFunction())).toThrow(refused('all 0 slots', 'more slots'));
});
