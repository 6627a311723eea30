import { expect, test } from 'vitest';
import { capabilityOf, FakeBar, MSI_ADDRESS, PciRig } from '../../../test/support/pci-rig.ts';
import * as R from '../regs.ts';
import { MsiCapability } from './msi.ts';
import { PmCapability } from './pm.ts';

const A = 0x1800_0000;

function rigWithFunction() {
  const rig = new PciRig();
  const [memory, ports] = [new FakeBar(1), new FakeBar(2)];
  const f = rig.add(
    {
      bars: [
        { index: 0, kind: 'mem32', size: 4096, device: memory },
        { index: 1, kind: 'io', size: 16, device: ports },
      ],
      capabilities: [new PmCapability(), new MsiCapability()],
      interruptPin: 1,
    },
    0,
  );
  rig.write(f, R.BASE_ADDRESS_0, A);
  rig.write(f, R.BASE_ADDRESS_0 + 4, 0x2000);
  rig.command(f, 7);
  const pmcsr = capabilityOf(f, R.CAP_ID_PM)! + 4;
  return {
    rig,
    f,
    pmcsr,
    alive: () => [rig.memory.read(A, 4) !== 0xffff_ffff, rig.io.read(0x2000, 4) !== 0xffff_ffff],
  };
}

test('PM-1: D3hot ends decoding, DMA and interrupts, and D0 brings them back as they were', () => {
  const { rig, f, pmcsr, alive } = rigWithFunction();
  const msi = capabilityOf(f, R.CAP_ID_MSI)!;
  f.setIntx(true);
  expect([alive(), f.mayMaster, rig.wires[0]]).toEqual([[true, true], true, true]);
  rig.write(f, pmcsr, 3, 2);
  expect([alive(), f.mayMaster, rig.wires[0]]).toEqual([[false, false], false, false]);
  // Configuration space answers, and moves made here take effect with D0.
  expect(rig.read(f, R.COMMAND, 2)).toBe(7);
  rig.write(f, R.BASE_ADDRESS_0, A + 0x1000);
  rig.write(f, R.BASE_ADDRESS_0, A);
  rig.write(f, msi + 4, MSI_ADDRESS);
  rig.write(f, msi + 2, 1, 2);
  f.msi!.trigger(0);
  expect([alive(), rig.taken()]).toEqual([[false, false], []]);
  rig.write(f, msi + 2, 0, 2);
  rig.write(f, pmcsr, 0, 2);
  expect([alive(), f.mayMaster, rig.wires[0]]).toEqual([[true, true], true, true]);
});

test('PM-1: states that there are not are not entered; the capability says that nothing is lost', () => {
  const { rig, f, pmcsr, alive } = rigWithFunction();
  for (const state of [1, 2]) {
    rig.write(f, pmcsr, state, 2);
    expect([rig.read(f, pmcsr, 2) & 3, alive()]).toEqual([0, [true, true]]);
  }
  rig.write(f, pmcsr, 3, 1);
  rig.write(f, pmcsr, 0x0102, 2);
  expect(rig.read(f, pmcsr, 2)).toBe(3 | 8);
  expect(rig.read(f, pmcsr - 2, 2)).toBe(3);
  f.reset();
  expect(rig.read(f, pmcsr, 2)).toBe(8);
});
