import { describe, expect, it } from 'vitest';
import { hex } from './hex.ts';

describe('hex', () => {
  it('prints numbers and bigints, and what is no address as it is', () => {
    expect([hex(0), hex(0x4000_0000), hex(255n, 4), hex(2 ** 52)]).toEqual([
      '0x0',
      '0x40000000',
      '0x00ff',
      '0x10000000000000',
    ]);
    expect([hex(-1), hex(Number.NaN), hex(0.5)]).toEqual(['-1', 'NaN', '0.5']);
  });
});
