import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeE820 } from './e820.ts';

describe('makeE820', () => {
  it('describes a PC', () => {
    const ram = [
      { base: 0, size: 0xb000_0000 },
      { base: 0x1_0000_0000, size: 0x4000_0000 },
    ];
    const reserved = [
      { base: 0xa_0000, size: 0x6_0000, type: 2 },
      { base: 0xe_0000, size: 0x2_0000, type: 3 },
      { base: 0xb000_0000, size: 0x1000_0000, type: 2 },
    ];
    expect(makeE820(ram, reserved)).toEqual([
      { base: 0, size: 0xa_0000, type: 1 },
      { base: 0xa_0000, size: 0x4_0000, type: 2 },
      { base: 0xe_0000, size: 0x2_0000, type: 3 },
      { base: 0x10_0000, size: 0xaff0_0000, type: 1 },
      { base: 0xb000_0000, size: 0x1000_0000, type: 2 },
      { base: 0x1_0000_0000, size: 0x4000_0000, type: 1 },
    ]);
  });

  it('gives every address the type that painting one range over the other gives it', () => {
    const range = fc.record({ base: fc.nat(40), size: fc.nat(20) });
    const typed = fc.record({ base: fc.nat(40), size: fc.nat(20), type: fc.integer({ min: 2, max: 5 }) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 4 }), fc.array(typed, { maxLength: 5 }), (ram, reserved) => {
        const painted = new Uint8Array(64);
        for (const { base, size } of ram) painted.fill(1, base, base + size);
        for (const { base, size, type } of reserved) painted.fill(type, base, base + size);
        const map = makeE820(ram, reserved);
        const told = new Uint8Array(64);
        let end = 0;
        for (const { base, size, type } of map) {
          expect(base).toBeGreaterThanOrEqual(end); // ordered, without overlaps
          expect(size).toBeGreaterThan(0);
          end = base + size;
          told.fill(type, base, end);
        }
        expect(told).toEqual(painted);
      }),
    );
  });
});
