import { describe, expect, it, test } from 'vitest';
import { MEM32, PciRig, type PciRigOptions, RAM_BASE, RAM_SIZE } from '../../test/support/pci-rig.ts';
import { COMMAND_MASTER } from './regs.ts';

const ROM = 0;
const END = RAM_BASE + RAM_SIZE;

function setup(options: PciRigOptions = {}) {
  const rig = new PciRig(options);
  const f = rig.add();
  rig.command(f, COMMAND_MASTER);
  const owner = f.dma.owner('fake DMA');
  return { rig, f, gate: f.dma, pins: rig.pins, owner };
}

describe('table 4.3, DMA with COMMAND.MASTER = 0', () => {
  it('is refused, without a side effect', () => {
    const { rig, f, gate, pins, owner } = setup();
    rig.command(f, 0);
    expect([gate.allowed, gate.borrow(RAM_BASE, 4, 'w'), gate.refused]).toEqual([false, undefined, 'MASTER']);
    expect([gate.pin(RAM_BASE, 4, 'w', owner), gate.pin(RAM_BASE, 4, 'r', owner, true)]).toEqual([0, 0]);
    expect([gate.refused, pins.everPinned]).toEqual(['MASTER', false]);
  });

  it('leaves pins alone, which can be released', () => {
    const { rig, f, gate, pins, owner } = setup();
    const held = [gate.pin(RAM_BASE, 4, 'w', owner), gate.pin(RAM_BASE, 4, 'w', owner, true)];
    rig.command(f, 0);
    expect(pins.page(RAM_BASE)).toMatchObject({ short: 1, long: 1 });
    for (const h of held) gate.unpin(h);
    expect(pins.leaks()).toEqual([]);
  });

  it('is refused to a function that is on no bus; what it has pinned can be released', () => {
    const { rig, f, gate, pins, owner } = setup();
    const held = gate.pin(RAM_BASE, 4096, 'w', owner);
    rig.host.remove(f);
    expect([gate.borrow(RAM_BASE, 4, 'r'), gate.pin(RAM_BASE, 4, 'r', owner)]).toEqual([undefined, 0]);
    gate.unpin(held);
    expect(pins.leaks()).toEqual([]);
  });
});

test('table 4.3, DMA read from ROM: allowed to a borrow and to pins', () => {
  const { gate, owner } = setup();
  expect(gate.borrow(ROM, 16, 'r')).toHaveLength(16);
  for (const longterm of [false, true]) expect(gate.pinned(gate.pin(ROM, 16, 'r', owner, longterm))).toHaveLength(16);
});

test('table 4.3, DMA write to ROM: EPERM, content unchanged', () => {
  const { rig, f, gate, pins, owner } = setup();
  expect([gate.borrow(ROM, 4, 'w'), gate.refused]).toEqual([undefined, 'EPERM']);
  for (const longterm of [false, true]) {
    expect([gate.pin(ROM + 4090, 4, 'w', owner, longterm), gate.refused]).toEqual([0, 'EPERM']);
  }
  rig.host.signalMsi(f, ROM + 8, 0x1234);
  expect([rig.ram.u32(ROM + 8), pins.stats().pinAcquired]).toEqual([0, 0]);
});

test.each([
  ['a hole', 0x2000_0000, 4],
  ['memory and what is behind it', END - 8, 9],
  ['what is in front of it and memory', RAM_BASE - 1, 2],
  ['the end of all addresses', 2 ** 52 - 4, 4],
  ['no address', 2 ** 64 - 4096, 4],
  ['peer-to-peer: the BAR of another function', MEM32, 4],
])('table 4.3, DMA to MMIO / hole: EFAULT for %s', (_, at, length) => {
  const { gate, pins, owner } = setup();
  for (const access of ['r', 'w'] as const) {
    expect([gate.borrow(at, length, access), gate.refused]).toEqual([undefined, 'EFAULT']);
    for (const longterm of [false, true]) {
      expect([gate.pin(at, length, access, owner, longterm), gate.refused]).toEqual([0, 'EFAULT']);
    }
  }
  expect(pins.stats().pinAcquired).toBe(0);
});

test('PIN-4: a pin is released once', () => {
  const { gate, owner } = setup();
  const pin = gate.pin(RAM_BASE, 4, 'w', owner);
  gate.unpin(pin);
  expect(gate.pinned(pin)).toBeUndefined();
  expect(() => gate.unpin(pin)).toThrow(expect.objectContaining({ code: 'ERR_PIN_INVALID' }));
});

test('PIN-6: borrowed for writing is dirty, for reading not; messages to RAM are writes', () => {
  const { rig, f, gate, pins } = setup();
  using log = pins.dirty.start();
  const bitmap = new Uint32Array(1);
  gate.borrow(RAM_BASE, 4, 'r');
  gate.borrow(RAM_BASE + 0x1fff, 2, 'w');
  rig.host.signalMsi(f, RAM_BASE + 0x5000, 0x1234);
  log.collect(RAM_BASE, RAM_SIZE, bitmap);
  expect([bitmap[0], rig.ram.u32(RAM_BASE + 0x5000)]).toEqual([0b100110, 0x1234]);
});

describe('table 4.3, quota exhausted', () => {
  const limits = { shortBytes: 8192, longtermBytes: 4096 };

  it('refuses pins with ENOMEM, and pins nothing; borrows are never charged', () => {
    const { gate, pins, owner } = setup({ limits });
    expect([gate.pin(RAM_BASE, 8193, 'r', owner), gate.refused]).toEqual([0, 'ENOMEM']);
    expect([gate.pin(RAM_BASE, 4097, 'r', owner, true), gate.refused]).toEqual([0, 'ENOMEM']);
    expect(pins.stats().current).toBe(0);
    expect(gate.borrow(RAM_BASE, RAM_SIZE, 'w')).toHaveLength(RAM_SIZE);
  });

  it('tells whoever waits once something is released, once and not at once', async () => {
    const { gate, owner } = setup({ limits });
    let told = 0;
    const again = () => {
      told++;
    };
    const held = gate.pin(RAM_BASE, 8192, 'w', owner);
    expect(gate.pin(RAM_BASE, 1, 'w', owner)).toBe(0);
    expect([gate.wait(again), gate.wait(again)]).toEqual([true, true]);
    gate.unpin(held);
    gate.released();
    gate.released();
    expect(told).toBe(0);
    await Promise.resolve();
    expect(told).toBe(1);
    gate.released();
    await Promise.resolve();
    expect(told).toBe(1);
  });

  it('lets nobody wait for what is too much by itself', () => {
    const { gate, owner } = setup({ limits });
    gate.pin(RAM_BASE, 4096, 'w', owner, true);
    expect(gate.pin(RAM_BASE, 8193, 'w', owner)).toBe(0);
    expect(gate.wait(() => undefined)).toBe(false);
  });
});

test('table 4.3, CoW fork: who is refused while memory is held still waits until it no longer is', async () => {
  const { gate, pins, owner } = setup();
  let told = 0;
  const held = gate.pin(RAM_BASE, 4096, 'w', owner);
  const forked = pins.drained(RAM_BASE, RAM_SIZE, { timeoutMs: 10_000 }, () => told);
  expect([gate.pin(RAM_BASE, 4096, 'w', owner), gate.refused]).toEqual([0, 'EBUSY']);
  expect(gate.wait(() => told++)).toBe(true);
  gate.unpin(held);
  expect(await forked).toBe(0);
  expect(told).toBe(1);
  expect(gate.pin(RAM_BASE, 4096, 'w', owner)).not.toBe(0);
});
