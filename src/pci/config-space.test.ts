import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fakeFunction } from '../../test/support/pci-rig.ts';
import type { AccessSize } from '../bus/types.ts';
import { ConfigSpace } from './config-space.ts';
import * as R from './regs.ts';

const size = fc.constantFrom<AccessSize>(1, 2, 4);
const u32 = fc.nat({ max: 0xffff_ffff });

test('CFG-4: a register written in bytes and words is the register written at once', () => {
  fc.assert(
    fc.property(
      u32,
      u32,
      u32,
      u32,
      fc.array(fc.tuple(size, fc.nat({ max: 3 }), u32)),
      (init, rw, w1c, read, writes) => {
        const space = new ConfigSpace();
        const clearable = w1c & ~rw;
        space.define(0x40, 4, init, rw, clearable);
        let expected = init;
        for (const [bytes, at, value] of writes) {
          const offset = at & ~(bytes - 1);
          space.write(0x40 + offset, bytes, value);
          const lanes = (bytes === 4 ? 0xffff_ffff : ((1 << (8 * bytes)) - 1) << (8 * offset)) >>> 0;
          const written = (value << (8 * offset)) & lanes;
          expected = ((expected & ~(rw & lanes)) | (written & rw)) & ~(written & clearable);
        }
        expect(space.read(0x40, 4)).toBe(expected >>> 0);
        expect(space.read(0x40 + (read & 3), 1)).toBe((expected >>> (8 * (read & 3))) & 0xff);
        expect(space.read(0x40 + (read & 2), 2)).toBe((expected >>> (8 * (read & 2))) & 0xffff);
        expect(space.bytes.subarray(0x44).every(b => b === 0)).toBe(true);
      },
    ),
  );
});

test('CFG-4: an effect sees every write that touches its register, with the value before', () => {
  const space = new ConfigSpace();
  space.define(0x10, 4, 0x1234_5678, 0xffff_ffff);
  const seen: string[] = [];
  space.effect(0x12, 2, before => {
    seen.push(`${before.getUint16(0x12, true).toString(16)} > ${space.view.getUint16(0x12, true).toString(16)}`);
  });
  space.write(0x13, 1, 0xab);
  space.write(0x10, 2, 0xffff);
  space.write(0x10, 4, 0);
  space.write(0x12, 2, 0);
  expect(seen).toEqual(['1234 > ab34', 'ab34 > 0', '0 > 0']);
});

test('CFG-6: STATUS loses its error bits to a written 1 and keeps CAP_LIST', () => {
  const { config } = fakeFunction({ capabilities: [{ id: 9, size: 4, install: () => undefined }] });
  config.view.setUint16(R.STATUS, 0xf900 | R.STATUS_CAP_LIST, true);
  config.write(R.STATUS, 2, 0xc100);
  expect(config.read(R.STATUS, 2)).toBe(0x3800 | R.STATUS_CAP_LIST);
  config.write(R.STATUS, 2, 0xffff);
  expect(config.read(R.STATUS, 2)).toBe(R.STATUS_CAP_LIST);
  config.write(R.STATUS, 2, 0);
  expect(config.read(R.STATUS, 2)).toBe(R.STATUS_CAP_LIST);
});

test('CFG-9: 32 bits written over COMMAND and STATUS change COMMAND alone', () => {
  const { config } = fakeFunction({ capabilities: [{ id: 9, size: 4, install: () => undefined }] });
  config.write(R.COMMAND, 4, 0x0000_0006);
  expect(config.read(R.COMMAND, 4)).toBe(((R.STATUS_CAP_LIST << 16) | 6) >>> 0);
  config.write(R.COMMAND, 4, 0x06ff_0000);
  expect(config.read(R.COMMAND, 4)).toBe((R.STATUS_CAP_LIST << 16) >>> 0);
});

test('CFG-5: what has no writable bits in the header cannot be changed', () => {
  const { config } = fakeFunction({ subsystemVendorId: 0x1af4, subsystemId: 0x1100, interruptPin: 1 });
  const before = config.bytes.slice();
  for (let at = 0; at < 0x100; at += 4) config.write(at, 4, 0xffff_ffff);
  const changed = [...config.bytes.keys()].filter(i => config.bytes[i] !== before[i]);
  expect(changed).toEqual([R.COMMAND, R.COMMAND + 1, R.CACHE_LINE_SIZE, R.INTERRUPT_LINE]);
  expect(config.read(R.COMMAND, 2)).toBe(0x0547);
});

test('a window answers instead of the bytes', () => {
  const space = new ConfigSpace();
  const written: number[][] = [];
  space.define(0x50, 4, 0x55, 0xffff_ffff);
  space.window(0x50, 4, { read: (at, n) => 0x100 * at + n, write: (...w) => written.push(w) });
  expect(space.write(0x52, 2, 0xbeef)).toBe(false);
  expect(space.read(0x52, 2)).toBe(0x202);
  expect(written).toEqual([[2, 2, 0xbeef]]);
  expect(space.bytes[0x50]).toBe(0x55);
  space.write(0x54, 4, 1);
  expect(written).toHaveLength(1);
});

test('a reset goes back to the seal, also to a byte that was sealed later', () => {
  const space = new ConfigSpace();
  space.define(0x40, 4, 0x11, 0xffff_ffff);
  space.seal();
  space.write(0x40, 4, 0xffff_ffff);
  space.bytes[0x0e] = 0x80;
  space.seal(0x0e);
  space.reset();
  expect([space.read(0x40, 4), space.bytes[0x0e]]).toEqual([0x11, 0x80]);
});
