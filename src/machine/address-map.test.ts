import { expect, it } from 'vitest';
import { type AddressRange, ARM_VIRT, checkMemoryEnd, hotplugRange, X86_PC } from './address-map.ts';

const MIB = 2 ** 20;

it.each([
  [256, 0x5000_0000],
  [128, 0x4800_0000],
  // Not a multiple of a Linux memory block of 128 MiB.
  [1, 0x4800_0000],
  [129, 0x5000_0000],
  [3000, 0x1_0000_0000],
])('memory that is plugged later is behind %i MiB of RAM at %i', (ram, base) => {
  expect(hotplugRange(ARM_VIRT.ram.base + ram * MIB, 512 * MIB)).toEqual({ base, size: 512 * MIB });
});

it('memory that would reach what is behind it is refused', () => {
  const limit = 0x1_0000_0000;
  checkMemoryEnd([{ base: 0, size: limit }, undefined], limit);
  expect(() => checkMemoryEnd([{ base: 0, size: limit + 4096 }], limit)).toThrow(
    'memory would end at 0x100001000, and has room up to 0x100000000',
  );
  expect(() => checkMemoryEnd([undefined, { base: limit, size: 1 }], limit)).toThrow('memory would end');
});

it.each([
  ['arm-virt', Object.values<AddressRange>(ARM_VIRT)],
  ['x86-pc', Object.values<number | AddressRange>(X86_PC).filter((r): r is AddressRange => typeof r === 'object')],
] as const)('no two ranges of %s overlap', (_name, ranges) => {
  const sorted = [...ranges].sort((a, b) => a.base - b.base);
  for (const [i, { base, size }] of sorted.entries()) {
    expect(base + size).toBeLessThanOrEqual(sorted[i + 1]?.base ?? 2 ** 52);
  }
});
