import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FakeBar, fakeFunction, PciRig } from '../../test/support/pci-rig.ts';
import { type BarIndex, type BarSpec, barAddress, decodeBars, setBarAddress } from './bar.ts';
import { PciBridge } from './bridge.ts';
import * as R from './regs.ts';

const device = new FakeBar();
const bar = (index: BarIndex, kind: BarSpec['kind'], size: number, prefetch = false): BarSpec => ({
  index,
  kind,
  size,
  prefetch,
  device,
});
const register = (index: number) => R.BASE_ADDRESS_0 + 4 * index;

test('BAR-1: all ones read back as the size and the type', () => {
  const rig = new PciRig();
  const f = rig.add({
    bars: [bar(0, 'mem32', 4096), bar(1, 'io', 64), bar(2, 'mem64', 0x1_0000, true), bar(4, 'mem32', 2 ** 20, true)],
  });
  const probe = (index: number) => {
    rig.write(f, register(index), 0xffff_ffff);
    return rig.read(f, register(index));
  };
  expect([0, 1, 2, 3, 4].map(probe)).toEqual([0xffff_f000, 0xffff_ffc1, 0xffff_000c, 0xffff_ffff, 0xfff0_0008]);
});

test('BAR-1: a guest computes the size of every BAR there can be', () => {
  const kinds = fc.oneof(
    fc.record({ kind: fc.constant<BarSpec['kind']>('io'), log: fc.integer({ min: 2, max: 8 }) }),
    fc.record({ kind: fc.constant<BarSpec['kind']>('mem32'), log: fc.integer({ min: 12, max: 31 }) }),
    fc.record({ kind: fc.constant<BarSpec['kind']>('mem64'), log: fc.integer({ min: 12, max: 40 }) }),
  );
  fc.assert(
    fc.property(kinds, fc.integer({ min: 0, max: 4 }), fc.boolean(), ({ kind, log }, index, prefetch) => {
      const f = fakeFunction({ bars: [bar(index as BarIndex, kind, 2 ** log, prefetch)] });
      const at = register(index);
      f.config.write(at, 4, 0xffff_ffff);
      const low = BigInt(f.config.read(at, 4));
      let value = low & (kind === 'io' ? ~3n : ~15n);
      if (kind === 'mem64') {
        f.config.write(at + 4, 4, 0xffff_ffff);
        value |= BigInt(f.config.read(at + 4, 4)) << 32n;
      }
      expect(BigInt.asUintN(kind === 'mem64' ? 64 : 32, ~value + 1n)).toBe(2n ** BigInt(log));
      expect(low & 1n).toBe(kind === 'io' ? 1n : 0n);
      if (kind !== 'io') expect(low & 15n).toBe((kind === 'mem64' ? 4n : 0n) | (prefetch ? 8n : 0n));
    }),
  );
});

test('BAR-2: address bits below the size read zero after any write, the others as written', () => {
  const f = fakeFunction({ bars: [bar(0, 'mem32', 0x1_0000)] });
  fc.assert(
    fc.property(fc.nat({ max: 0xffff_ffff }), value => {
      f.config.write(register(0), 4, value);
      expect(f.config.read(register(0), 4)).toBe((value & 0xffff_0000) >>> 0);
      f.config.write(register(0) + 2, 1, value);
      expect(f.config.read(register(0), 4)).toBe(((value & 0xff00_0000) | ((value & 0xff) << 16)) >>> 0);
    }),
  );
});

test('BAR-3: a register without a BAR reads zero after any write', () => {
  const f = fakeFunction({ bars: [bar(0, 'mem32', 4096), bar(2, 'mem64', 4096)] });
  for (const index of [1, 4, 5]) {
    f.config.write(register(index), 4, 0xffff_ffff);
    f.config.write(register(index) + 1, 1, 0x5a);
    expect(f.config.read(register(index), 4)).toBe(0);
  }
});

test('BAR-5: a 64-bit BAR may begin at an odd register; its halves are sized by themselves', () => {
  const f = fakeFunction({ bars: [bar(1, 'mem64', 2 ** 34), bar(3, 'mem64', 4096)] });
  const half = (index: number, value: number) => {
    f.config.write(register(index), 4, value);
    return f.config.read(register(index), 4);
  };
  expect(half(2, 0xffff_ffff)).toBe(0xffff_fffc);
  expect(half(1, 0xffff_ffff)).toBe(4);
  expect(half(1, 0)).toBe(4);
  expect(half(3, 0x1234_5678)).toBe(0x1234_5004);
  expect(half(4, 0xffff_ffff)).toBe(0xffff_ffff);
  expect(half(4, 0x80)).toBe(0x80);
  expect(barAddress(f.config, f.bars[1]!)).toBe(0x80_1234_5000);
  expect(barAddress(f.config, f.bars[0]!)).toBe(0xffff_fffc * 2 ** 32);
});

test('BAR-7: a BAR decodes when its space is on and its address usable', () => {
  const f = fakeFunction({ bars: [bar(0, 'mem32', 4096), bar(1, 'io', 16), bar(2, 'mem64', 4096)] });
  const live = () => decodeBars(f.config, f.bars).map(w => `${w.spec.index}:${w.space}:${w.address.toString(16)}`);
  const put = (a: number, b: number, c: number) => {
    for (const [i, address] of [a, b, c].entries()) setBarAddress(f.config, f.bars[i]!, address);
  };
  put(0x1000_0000, 0x2000, 0x80_0000_0000);
  expect(live()).toEqual([]);
  f.config.write(R.COMMAND, 2, R.COMMAND_MEMORY);
  expect(live()).toEqual(['0:memory:10000000', '2:memory:8000000000']);
  f.config.write(R.COMMAND, 2, R.COMMAND_IO);
  expect(live()).toEqual(['1:io:2000']);
  f.config.write(R.COMMAND, 2, 3);
  expect(live()).toHaveLength(3);
  // Address zero, and what sizing writes.
  put(0, 0, 0);
  expect(live()).toEqual([]);
  for (let i = 0; i < 4; i++) f.config.write(register(i), 4, 0xffff_ffff);
  expect(live()).toEqual([]);
  // The last place below the one that the probe would be.
  put(0xffff_e000, 0xffff_ffe0, 2 ** 52 - 8192);
  expect(live()).toHaveLength(3);
});

test.each<[string, BarSpec[], string]>([
  ['no power of two', [bar(0, 'mem32', 4096 + 4)], 'no power of two'],
  ['zero', [bar(0, 'mem32', 0)], 'no power of two'],
  ['no integer', [bar(0, 'mem32', 4096.5)], 'no power of two'],
  ['negative', [bar(0, 'io', -8)], 'no power of two'],
  ['less than a page', [bar(0, 'mem32', 2048)], 'out of bounds'],
  ['more than 32 bits hold', [bar(0, 'mem32', 2 ** 32)], 'out of bounds'],
  ['more than any aperture', [bar(0, 'mem64', 2 ** 41)], 'out of bounds'],
  ['a small ROM', [bar('rom', 'mem32', 1024)], 'out of bounds'],
  ['a ROM of ports', [bar('rom', 'io', 4)], 'an expansion ROM cannot be io'],
  ['a ROM of 64 bits', [bar('rom', 'mem64', 4096)], 'an expansion ROM cannot be mem64'],
  ['64 bits in the last register', [bar(5, 'mem64', 4096)], 'takes two registers'],
  ['a register twice', [bar(0, 'mem64', 4096), bar(1, 'mem32', 4096)], 'register 1 is taken twice'],
])('BAR-20: a BAR is refused: %s', (_, bars, why) => {
  expect(() => fakeFunction({ name: 'mine', bars })).toThrow(
    expect.objectContaining({ code: 'ERR_BAR', message: expect.stringContaining(why), hint: expect.any(String) }),
  );
});

test('BAR-21: a BAR of ports has 4 to 256 bytes', () => {
  for (const size of [2, 512, 1024])
    expect(() => fakeFunction({ bars: [bar(0, 'io', size)] })).toThrow('out of bounds');
  for (const size of [4, 256]) expect(() => fakeFunction({ bars: [bar(0, 'io', size)] })).not.toThrow();
});

test('ROM-1: without a ROM its register reads zero after any write', () => {
  const f = fakeFunction({ bars: [bar(0, 'mem32', 4096)] });
  for (const value of [0xffff_f800, 0xffff_ffff, 0x1000_0001]) {
    f.config.write(R.ROM_ADDRESS, 4, value);
    expect(f.config.read(R.ROM_ADDRESS, 4)).toBe(0);
  }
});

test('ROM-2: a ROM is sized like a BAR and answers with COMMAND.MEM and its own enable bit', () => {
  const rig = new PciRig();
  const rom = new FakeBar(7);
  const f = rig.add({ bars: [{ index: 'rom', kind: 'mem32', size: 0x1_0000, device: rom }] });
  rig.write(f, R.ROM_ADDRESS, 0xffff_f800);
  expect(rig.read(f, R.ROM_ADDRESS)).toBe(0xffff_0000);
  rig.write(f, R.ROM_ADDRESS, 0x1230_0000);
  rig.command(f, R.COMMAND_MEMORY);
  expect(rig.memory.at(0x1230_0000)).toBeUndefined();
  rig.write(f, R.ROM_ADDRESS, 1, 1);
  expect(rig.read(f, R.ROM_ADDRESS)).toBe(0x1230_0001);
  expect(rig.memory.read(0x1230_0010, 4)).toBe(rom.answer(0x10, 4));
  rig.command(f, 0);
  expect(rig.memory.read(0x1230_0010, 4)).toBe(0xffff_ffff);
});

test("ROM-2: a bridge's ROM register is at 0x38", () => {
  const rig = new PciRig();
  const rom = new FakeBar(7);
  const bridge = new PciBridge({
    name: 'bridge',
    vendorId: 1,
    deviceId: 1,
    classCode: 0x06_0400,
    bars: [{ index: 'rom', kind: 'mem32', size: 4096, device: rom }],
  });
  rig.host.add(bridge);
  rig.command(bridge, R.COMMAND_MEMORY);
  rig.write(bridge, R.BRIDGE_ROM_ADDRESS, 0x1230_0001);
  expect(rig.memory.read(0x1230_0000, 4)).toBe(rom.answer(0, 4));
  rig.write(bridge, R.BRIDGE_ROM_ADDRESS, 0x1230_0000);
  expect(rig.memory.at(0x1230_0000)).toBeUndefined();
});
