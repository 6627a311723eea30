import type { BigIntStats } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { attributesOf, checkOffset, seconds } from './convert.ts';

describe('seconds()', () => {
  it('arrives at the right microsecond, although a double is not exact', () => {
    for (let i = 0; i < 5000; i++) {
      const microseconds = 1_700_000_000_000_000 + i * 1_234_567;
      const given = Number(seconds(BigInt(microseconds) * 1000n + 999n));
      expect(Math.trunc(given * 1e6)).toBe(microseconds); // as Node does it
      expect(Math.trunc(Number(seconds(BigInt(-microseconds) * 1000n)) * 1e6)).toBe(-microseconds);
    }
    expect([seconds(0n), seconds(-1_500_000_000n)].map(Number)).toEqual([0, -1.50000025]);
  });
});

describe('attributesOf()', () => {
  it('makes up what Windows does not have, and keeps 32 bits of owners and devices', () => {
    const ns = { atimeNs: 1n, mtimeNs: 2n, ctimeNs: 3n };
    const stats = {
      ino: 2n ** 63n,
      size: 513n,
      mode: 0o100644n,
      nlink: 1n,
      uid: -1n,
      gid: 5n,
      rdev: 0x1_0000_0103n,
      ...ns,
    };
    const a = attributesOf(stats as unknown as BigIntStats);
    expect(a).toMatchObject({ ino: 2n ** 63n, blocks: 2n, blksize: 4096, uid: 0xffff_ffff, gid: 5, rdev: 0x103 });
  });
});

describe('checkOffset()', () => {
  it('refuses what a number does not hold exactly', () => {
    checkOffset(Number.MAX_SAFE_INTEGER, 'EFBIG');
    for (const offset of [2 ** 53, 2 ** 64]) {
      expect(() => checkOffset(offset, 'EFBIG')).toThrow(expect.objectContaining({ code: 'EFBIG' }));
    }
  });
});
