import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  CAM,
  CONFIG_ADDRESS,
  CONFIG_DATA,
  capabilityOf,
  ECAM,
  FakeBar,
  fakeFunction,
  MSI_ADDRESS,
  PciRig,
  RAM_BASE,
  RAM_SIZE,
} from '../../test/support/pci-rig.ts';
import type { AccessSize } from '../bus/types.ts';
import { AerCapability } from './caps/aer.ts';
import { ExpressCapability } from './caps/express.ts';
import { MsiCapability } from './caps/msi.ts';
import { PmCapability } from './caps/pm.ts';
import { SerialNumberCapability } from './caps/serial-number.ts';
import type { PciFunctionSpec } from './function.ts';
import * as R from './regs.ts';

const SIZES: readonly AccessSize[] = [1, 2, 4];
const ones = (size: AccessSize) => 2 ** (8 * size) - 1;
const selector = (devfn: number, register: number) => (0x8000_0000 | (devfn << 8) | (register & 0xfc)) >>> 0;

test('CFG-1: mechanism #1 reaches configuration space through its two ports', () => {
  const rig = new PciRig();
  rig.add({ deviceId: 0x1234 }, 3);
  rig.io.write(CONFIG_ADDRESS, 4, selector(3 << 3, 0));
  expect(rig.io.read(CONFIG_ADDRESS, 4)).toBe(0x8000_1800);
  expect(rig.io.read(CONFIG_DATA, 4)).toBe(0x1234_1b36);
  expect(rig.io.read(CONFIG_DATA + 2, 2)).toBe(0x1234);
  expect(rig.io.read(CONFIG_DATA + 3, 1)).toBe(0x12);
});

test('CFG-1: without its enable bit reads give all ones and writes are dropped', () => {
  const rig = new PciRig();
  const f = rig.add({}, 0);
  rig.io.write(CONFIG_ADDRESS, 4, selector(0, R.INTERRUPT_LINE) & 0x7fff_ffff);
  for (const size of SIZES) expect(rig.io.read(CONFIG_DATA, size)).toBe(ones(size));
  rig.io.write(CONFIG_DATA, 1, 0x55);
  expect(f.config.bytes[R.INTERRUPT_LINE]).toBe(0);
  rig.io.write(CONFIG_ADDRESS, 4, selector(0, R.INTERRUPT_LINE));
  rig.io.write(CONFIG_DATA, 1, 0x55);
  expect(f.config.bytes[R.INTERRUPT_LINE]).toBe(0x55);
});

test('CFG-1: only 32 bits at once reach the address port, and its reserved bits read zero', () => {
  const rig = new PciRig();
  rig.io.write(CONFIG_ADDRESS, 4, 0xffff_ffff);
  expect(rig.io.read(CONFIG_ADDRESS, 4)).toBe(0x80ff_fffc);
  rig.io.write(CONFIG_ADDRESS, 1, 0);
  rig.io.write(CONFIG_ADDRESS + 2, 2, 0);
  expect(rig.io.read(CONFIG_ADDRESS, 4)).toBe(0x80ff_fffc);
  expect(rig.io.read(CONFIG_ADDRESS, 2)).toBe(0xffff);
});

test('CFG-2: what is not there reads all ones of every width and drops writes', () => {
  const rig = new PciRig();
  const f = rig.add({}, 0);
  const before = f.config.bytes.slice();
  // Another device, another function of the one that is there, another bus.
  for (const place of [1 << 15, 1 << 12, 1 << 20, 255 << 20]) {
    for (const size of SIZES) {
      expect(rig.memory.read(ECAM + place, size)).toBe(ones(size));
      rig.memory.write(ECAM + place + R.COMMAND, size, 0xffff_ffff);
    }
  }
  expect(f.config.bytes).toEqual(before);
});

test('CFG-3: accesses inside of a dword work everywhere; across one they read all ones and change nothing', () => {
  const rig = new PciRig();
  const f = rig.add({ bars: [{ index: 0, kind: 'mem32', size: 4096, device: new FakeBar() }], interruptPin: 1 }, 0);
  f.config.bytes[R.INTERRUPT_LINE] = 0x5a;
  const { bytes, view } = f.config;
  for (let at = 0; at < 0x40; at++) {
    expect(rig.memory.read(ECAM + at, 1)).toBe(bytes[at]);
    expect(rig.memory.read(ECAM + at, 2)).toBe((at & 3) === 3 ? 0xffff : view.getUint16(at, true));
    expect(rig.memory.read(ECAM + at, 4)).toBe((at & 3) === 0 ? view.getUint32(at, true) : 0xffff_ffff);
  }
  expect(rig.memory.read64(ECAM)).toBe(0xffff_ffff_ffff_ffffn);
  const before = bytes.slice();
  rig.memory.write(ECAM + 3, 2, 0xffff);
  rig.memory.write(ECAM + R.COMMAND + 1, 4, 0xffff_ffff);
  rig.memory.write64(ECAM + R.COMMAND, 0xffff_ffff_ffff_ffffn);
  rig.io.write(CONFIG_ADDRESS, 4, selector(0, R.COMMAND));
  rig.io.write(CONFIG_DATA + 3, 2, 0xffff);
  expect(bytes).toEqual(before);
});

test('CFG-4: mechanism #1, CAM and ECAM show the same bytes and take the same writes', () => {
  const size = fc.constantFrom<AccessSize>(1, 2, 4);
  const way = fc.constantFrom('ports', 'CAM', 'ECAM');
  const write = fc.record({ way, size, at: fc.nat({ max: 255 }), value: fc.nat({ max: 0xffff_ffff }) });
  const spec = (): Partial<PciFunctionSpec> => ({
    bars: [{ index: 0, kind: 'mem64', size: 4096, device: new FakeBar() }],
    interruptPin: 1,
    capabilities: [new ExpressCapability({ type: 'endpoint' }), new MsiCapability(4), new PmCapability()],
  });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 30 }), list => {
      const rig = new PciRig();
      const twin = new PciRig();
      const f = rig.add(spec(), 5);
      const g = twin.add(spec(), 5);
      for (const w of list) {
        const at = w.at & ~(w.size - 1);
        if (w.way === 'ports') {
          rig.io.write(CONFIG_ADDRESS, 4, selector(f.devfn, at));
          rig.io.write(CONFIG_DATA + (at & 3), w.size, w.value);
        } else if (w.way === 'CAM') rig.memory.write(CAM + (f.devfn << 8) + at, w.size, w.value);
        else rig.memory.write(ECAM + (f.devfn << 12) + at, w.size, w.value);
        g.configWrite(at, w.size, w.value);
      }
      expect(f.config.bytes).toEqual(g.config.bytes);
      for (let at = 0; at < 256; at += 4) {
        rig.io.write(CONFIG_ADDRESS, 4, selector(f.devfn, at));
        const expected = f.config.view.getUint32(at, true);
        const read = [
          rig.io.read(CONFIG_DATA, 4),
          rig.memory.read(CAM + (f.devfn << 8) + at, 4),
          rig.memory.read(ECAM + (f.devfn << 12) + at, 4),
        ];
        expect(read).toEqual([expected, expected, expected]);
        expect(rig.io.read(CONFIG_DATA + 1, 1)).toBe((expected >>> 8) & 0xff);
      }
    }),
    { numRuns: 50 },
  );
});

test('CFG-8: function 0 says that it has siblings while it has', () => {
  const rig = new PciRig();
  const f = rig.add({}, 2);
  const sibling = fakeFunction();
  expect(rig.read(f, R.HEADER_TYPE, 1)).toBe(0);
  rig.host.add(sibling, { device: 2, function: 3 });
  expect(rig.read(f, R.HEADER_TYPE, 1)).toBe(0x80);
  rig.host.reset();
  expect(rig.read(f, R.HEADER_TYPE, 1)).toBe(0x80);
  rig.host.remove(sibling);
  expect(rig.read(f, R.HEADER_TYPE, 1)).toBe(0);
  expect(rig.memory.read(ECAM + (2 << 15) + (3 << 12), 4)).toBe(0xffff_ffff);
});

test('ECAM-1: with a PCI Express capability a guest finds 4096 bytes that are not the first 256 again', () => {
  const rig = new PciRig();
  const f = rig.add({ capabilities: [new ExpressCapability({ type: 'endpoint' })] });
  expect(capabilityOf(f, R.CAP_ID_EXP)).toBeDefined();
  const ids = rig.read(f, 0);
  for (let at = 0x100; at < 0x1000; at += 0x100) expect([0xffff_ffff, ids]).not.toContain(rig.read(f, at));
  expect(rig.read(f, 0xffc)).toBe(0);
  expect(rig.read(f, 0xfff, 1)).toBe(0);
});

test('ECAM-2: the extended list is a zero dword, or headers that end', () => {
  const rig = new PciRig();
  const none = rig.add();
  expect(rig.read(none, 0x100)).toBe(0);
  const f = rig.add({ capabilities: [new AerCapability(), new SerialNumberCapability(0x0123_4567_89ab_cdefn)] });
  expect(rig.read(f, 0x100)).toBe(0x12c2_0001);
  expect(rig.read(f, 0x12c)).toBe(0x0001_0003);
  // Conventional capabilities alone: the list at 0x34 begins at 0x40.
  const pm = rig.add({ capabilities: [new PmCapability(), new MsiCapability()] });
  expect([rig.read(pm, R.CAPABILITIES_POINTER, 1), rig.read(pm, 0x40, 2), rig.read(pm, 0x48, 2)]).toEqual([
    0x40, 0x4801, 0x0005,
  ]);
  expect(rig.read(f, R.CAPABILITIES_POINTER, 1)).toBe(0);
});

test('CMD-1: COMMAND is zero after a reset', () => {
  const rig = new PciRig();
  const f = rig.add({ bars: [{ index: 0, kind: 'mem32', size: 4096, device: new FakeBar() }] });
  expect(rig.read(f, R.COMMAND, 2)).toBe(0);
  rig.write(f, R.BASE_ADDRESS_0, 0x1800_0000);
  rig.command(f, 0x0547);
  expect(rig.memory.at(0x1800_0000)).toBeDefined();
  rig.host.reset();
  expect([rig.read(f, R.COMMAND, 2), rig.read(f, R.BASE_ADDRESS_0)]).toEqual([0, 0]);
  expect(rig.memory.at(0x1800_0000)).toBeUndefined();
});

test('CMD-2: without MASTER there is neither DMA nor a message', () => {
  const rig = new PciRig();
  const told: boolean[] = [];
  const msi = new MsiCapability();
  const f = rig.add({ capabilities: [msi], masterChanged: allowed => told.push(allowed) });
  const at = capabilityOf(f, R.CAP_ID_MSI)!;
  rig.write(f, at + 4, MSI_ADDRESS);
  rig.write(f, at + 2, 1, 2);
  msi.trigger(0);
  expect([rig.messages.length, f.mayMaster, f.dma.borrow(RAM_BASE, 4, 'r')]).toEqual([0, false, undefined]);
  rig.command(f, R.COMMAND_MASTER);
  msi.trigger(0);
  expect([rig.messages.length, f.mayMaster, f.dma.borrow(RAM_BASE, 4, 'w')?.length]).toEqual([1, true, 4]);
  rig.command(f, 0);
  expect(told).toEqual([true, false]);
});

test('CMD-2: DMA stays inside of one region, and out of ROM when it writes', () => {
  const rig = new PciRig();
  const f = rig.add();
  rig.command(f, R.COMMAND_MASTER);
  const end = RAM_BASE + RAM_SIZE;
  expect(f.dma.borrow(end - 8, 8, 'w')?.length).toBe(8);
  expect(f.dma.borrow(end - 8, 9, 'r')).toBeUndefined();
  expect(f.dma.borrow(2 ** 52, 1, 'r')).toBeUndefined();
  expect(f.dma.borrow(0, 16, 'r')?.length).toBe(16);
  expect(f.dma.borrow(0, 16, 'w')).toBeUndefined();
  f.dma.borrow(RAM_BASE, 1, 'w')![0] = 0x42;
  expect(rig.ram.u8(RAM_BASE)).toBe(0x42);
});

test('CMD-4: INTX_DISABLE takes the line down and leaves the request in STATUS', () => {
  const rig = new PciRig();
  const f = rig.add({ interruptPin: 1 }, 0);
  f.setIntx(true);
  expect([rig.wires[0], rig.read(f, R.STATUS, 2) & R.STATUS_INTERRUPT]).toEqual([true, R.STATUS_INTERRUPT]);
  rig.command(f, R.COMMAND_INTX_DISABLE);
  expect([rig.wires[0], rig.read(f, R.STATUS, 2) & R.STATUS_INTERRUPT]).toEqual([false, R.STATUS_INTERRUPT]);
  rig.command(f, 0);
  expect(rig.wires[0]).toBe(true);
  f.setIntx(false);
  expect([rig.wires[0], rig.read(f, R.STATUS, 2) & R.STATUS_INTERRUPT]).toEqual([false, 0]);
});

test('CMD-5: bits of COMMAND that there are not read zero, and trying them harms nothing', () => {
  const rig = new PciRig();
  const device = new FakeBar();
  const f = rig.add({ bars: [{ index: 0, kind: 'mem32', size: 4096, device }] });
  rig.write(f, R.BASE_ADDRESS_0, 0x1800_0000);
  rig.command(f, R.COMMAND_MEMORY);
  for (let i = 0; i < 2; i++) {
    const original = rig.read(f, R.COMMAND, 2);
    rig.command(f, 0x0027);
    expect(rig.read(f, R.COMMAND, 2)).toBe(0x0007);
    rig.command(f, 0xffff);
    expect(rig.read(f, R.COMMAND, 2)).toBe(0x0547);
    rig.command(f, original);
    expect(rig.memory.read(0x1800_0000, 4)).toBe(device.answer(0, 4));
  }
});

test('CONC-1: a device may write configuration registers while it is accessed', () => {
  const rig = new PciRig();
  const log: string[] = [];
  // A device that moves its own window and turns another one off, all inside of one access, and is accessed again there.
  const other = new FakeBar(2);
  const f = rig.add({
    name: 'mover',
    bars: [
      {
        index: 0,
        kind: 'mem32',
        size: 4096,
        device: {
          name: 'mover',
          read: offset => offset,
          write: (offset, _, value) => {
            log.push(`enter ${value}`);
            rig.write(f, R.BASE_ADDRESS_0, 0x1900_0000);
            rig.command(g, 0);
            log.push(`inside ${rig.memory.read(0x1900_0000 + offset, 4)} ${rig.memory.read(0x1800_0000, 4)}`);
          },
        },
      },
    ],
  });
  const g = rig.add({ bars: [{ index: 0, kind: 'mem32', size: 4096, device: other }] });
  rig.write(f, R.BASE_ADDRESS_0, 0x1800_0000);
  rig.write(g, R.BASE_ADDRESS_0, 0x1810_0000);
  for (const each of [f, g]) rig.command(each, R.COMMAND_MEMORY);
  rig.memory.write(0x1800_0008, 4, 7);
  expect(log).toEqual(['enter 7', `inside 8 ${0xffff_ffff}`]);
  expect([rig.memory.read(0x1800_0008, 4), rig.memory.read(0x1900_0008, 4)]).toEqual([0xffff_ffff, 8]);
  expect(rig.memory.read(0x1810_0000, 4)).toBe(0xffff_ffff);
});

test('CONC-1: a device may leave its bus while it is accessed', () => {
  const rig = new PciRig();
  const f = rig.add({
    bars: [
      {
        index: 0,
        kind: 'mem32',
        size: 4096,
        device: { name: 'shy', read: () => 1, write: () => rig.host.remove(f) },
      },
    ],
  });
  rig.write(f, R.BASE_ADDRESS_0, 0x1800_0000);
  rig.command(f, R.COMMAND_MEMORY);
  rig.memory.write(0x1800_0000, 4, 0);
  expect([rig.memory.read(0x1800_0000, 4), rig.host.functions(), f.attached]).toEqual([0xffff_ffff, [], false]);
});

test('INTX-1: a wire is up while one of its functions asserts it', () => {
  const rig = new PciRig();
  const f = rig.add({ interruptPin: 1 }, 0);
  const g = rig.add({ interruptPin: 1 }, 4);
  expect(f.config.bytes[R.INTERRUPT_PIN]).toBe(1);
  f.setIntx(true);
  g.setIntx(true);
  f.setIntx(false);
  expect(rig.wires).toEqual([true, false, false, false]);
  f.setIntx(true);
  g.setIntx(false);
  expect(rig.wires[0]).toBe(true);
  rig.host.remove(f);
  expect(rig.wires[0]).toBe(false);
});

test('INTX-1: pins are rotated by the device number', () => {
  const rig = new PciRig();
  const wires = [0, 1, 2, 3, 4, 7].flatMap(device =>
    ([1, 2, 3, 4] as const).map(interruptPin => {
      const f = rig.add({ interruptPin }, device);
      f.setIntx(true);
      const up = rig.wires.indexOf(true);
      rig.host.remove(f);
      return up;
    }),
  );
  expect(wires.join('')).toBe('012312302301301201233012');
});

test('INTX-2: a function without a pin has no line', () => {
  const rig = new PciRig();
  const f = rig.add({ interruptPin: 0 }, 0);
  f.setIntx(true);
  expect([rig.wires, f.config.bytes[R.INTERRUPT_PIN]]).toEqual([[false, false, false, false], 0]);
});

test('CFG-7: what the guest writes to INTERRUPT_LINE decides nothing', () => {
  const rig = new PciRig();
  const f = rig.add({ interruptPin: 2 }, 0);
  rig.write(f, R.INTERRUPT_LINE, 0xab, 1);
  f.setIntx(true);
  expect([rig.read(f, R.INTERRUPT_LINE, 1), rig.wires]).toEqual([0xab, [false, true, false, false]]);
});

test('a message that is for no controller is a write to RAM, and elsewhere nothing', () => {
  const rig = new PciRig();
  const f = rig.add();
  rig.command(f, R.COMMAND_MASTER);
  f.sendMessage(RAM_BASE + 8, 0xdead_beef);
  expect(rig.ram.u32(RAM_BASE + 8)).toBe(0xdead_beef);
  for (const address of [0, RAM_BASE + RAM_SIZE - 2, 0x1_0000_0000 * 5]) f.sendMessage(address, 1);
  expect([rig.ram.u32(0), rig.messages]).toEqual([0, []]);
});

test('places: the first free device, ERR_PCI_SLOT where there is none', () => {
  const rig = new PciRig();
  const first = rig.add({}, 1);
  expect([rig.add().devfn, rig.add().devfn]).toEqual([0, 2 << 3]);
  const refused = expect.objectContaining({ code: 'ERR_PCI_SLOT', hint: expect.any(String) });
  expect(() => rig.add({}, 1)).toThrow(refused);
  expect(() => rig.host.add(first)).toThrow(refused);
  for (let i = 3; i < 32; i++) rig.add();
  expect(() => rig.add()).toThrow(refused);
  rig.host.remove(first);
  expect(rig.add().devfn).toBe(1 << 3);
});

test('a trace has a line for COMMAND, sizing and moves, and none for anything else', () => {
  const rig = new PciRig();
  const f = rig.add({ name: 'disk', bars: [{ index: 0, kind: 'mem32', size: 4096, device: new FakeBar() }] }, 2);
  rig.write(f, R.BASE_ADDRESS_0, 0xffff_ffff);
  rig.write(f, R.BASE_ADDRESS_0, 0x1800_0000);
  rig.write(f, R.INTERRUPT_LINE, 1, 1);
  rig.command(f, R.COMMAND_MEMORY);
  expect(rig.trace).toEqual([
    'pci 00:02.0 disk: BAR 0 sizing (4096 bytes)',
    'pci 00:02.0 disk: BAR 0 = 0x18000000',
    'pci 00:02.0 disk: I/O- Mem+ BusMaster- DisINTx-',
  ]);
});
