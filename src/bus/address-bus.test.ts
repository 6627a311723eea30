import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VmError } from '../util/errors.ts';
import { createAddressBus, type UnhandledAccess } from './address-bus.ts';
import type { AccessSize, BusDevice } from './types.ts';

/** A device of plain bytes that notes every access as it came from the bus. */
class Bytes implements BusDevice {
  readonly log: string[] = [];
  readonly bytes: Uint8Array;
  readonly name: string;

  constructor(name: string, size: number) {
    this.name = name;
    this.bytes = new Uint8Array(size).map((_, i) => i + 1);
  }

  read(offset: number, size: AccessSize): number {
    this.log.push(`r${size}@${offset}`);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + this.bytes[offset + i]!;
    return value;
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.log.push(`w${size}@${offset}=${value.toString(16)}`);
    for (let i = 0; i < size; i++) this.bytes[offset + i] = Math.floor(value / 256 ** i) & 0xff;
  }
}

describe('createAddressBus', () => {
  it('passes offsets, sizes and unsigned values', () => {
    const bus = createAddressBus();
    const d = new Bytes('d', 0x100);
    bus.map(0x9000_0000, 0x100, d);
    bus.write(0x9000_0010, 4, -1);
    bus.write(0x9000_0014, 2, 0x12345);
    bus.write(0x9000_0016, 1, 0x1ff);
    expect(bus.read(0x9000_0010, 4)).toBe(0xffff_ffff);
    expect(bus.read(0x9000_0014, 2)).toBe(0x2345);
    expect(d.log).toEqual(['w4@16=ffffffff', 'w2@20=2345', 'w1@22=ff', 'r4@16', 'r2@20']);
  });

  it('makes a negative answer of a device unsigned', () => {
    const bus = createAddressBus();
    bus.map(0, 8, { name: 'minus', read: () => -1, write: () => {}, read64: () => -1n });
    expect([bus.read(0, 1), bus.read(0, 2), bus.read(0, 4)]).toEqual([0xff, 0xffff, 0xffff_ffff]);
    expect(bus.read64(0)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('answers all ones where no device is, and tells', () => {
    const seen: UnhandledAccess[] = [];
    const bus = createAddressBus({ onUnhandled: a => seen.push(a) });
    expect([bus.read(5, 1), bus.read(6, 2), bus.read(8, 4)]).toEqual([0xff, 0xffff, 0xffff_ffff]);
    expect(bus.read64(16)).toBe(0xffff_ffff_ffff_ffffn);
    bus.write(32, 2, 7);
    expect(seen).toEqual([
      { address: 5, size: 1 },
      { address: 6, size: 2 },
      { address: 8, size: 4 },
      { address: 16, size: 4 },
      { address: 20, size: 4 },
      { address: 32, size: 2, value: 7 },
    ]);
  });

  it('splits a 64-bit access, low half first, unless the device takes it whole', () => {
    const bus = createAddressBus();
    const narrow = new Bytes('narrow', 0x10);
    bus.map(0, 0x10, narrow);
    bus.write64(8, 0x1122_3344_5566_7788n);
    expect(bus.read64(8)).toBe(0x1122_3344_5566_7788n);
    expect(narrow.log).toEqual(['w4@8=55667788', 'w4@12=11223344', 'r4@8', 'r4@12']);

    let written = 0n;
    const wide = new Bytes('wide', 0x10);
    bus.map(0x10, 0x10, Object.assign(wide, { read64: () => 42n, write64: (_: number, v: bigint) => (written = v) }));
    bus.write64(0x18, 0xffff_ffff_ffff_fff0n);
    expect([bus.read64(0x18), written, wide.log]).toEqual([42n, 0xffff_ffff_ffff_fff0n, []]);
  });

  it('does an access across the edge of a device byte by byte', () => {
    const bus = createAddressBus();
    const a = new Bytes('a', 6);
    const b = new Bytes('b', 4);
    bus.map(0x100, 6, a);
    bus.map(0x106, 4, b);
    expect(bus.read(0x104, 4)).toBe(0x0201_0605); // a[4], a[5], b[0], b[1]
    expect(bus.read(0x109, 2)).toBe(0xff04); // b[3], then nothing
    expect(bus.read(0xfe, 4)).toBe(0x0201_ffff); // nothing, then a[0], a[1]
    expect(bus.read64(0x104)).toBe(0xffff_0403_0201_0605n);
    bus.write(0x105, 2, 0xbbaa);
    expect([a.bytes[5], b.bytes[0]]).toEqual([0xaa, 0xbb]);
  });

  it('names both devices of an overlap, and frees a range on dispose', () => {
    const bus = createAddressBus();
    const first = bus.map(0x1000, 0x1000, new Bytes('uart', 0x1000));
    for (const [base, size] of [
      [0x1000, 1],
      [0x1fff, 1],
      [0xfff, 2],
      [0, 0x10000],
    ] as const) {
      expect(() => bus.map(base, size, new Bytes('rtc', 1))).toThrow(/rtc .*uart/);
    }
    bus.map(0xfff, 1, new Bytes('before', 1));
    bus.map(0x2000, 1, new Bytes('behind', 1));
    expect(bus.at(0x1800)).toBe(first);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(bus.at(0x1800)).toBeUndefined();
    expect(bus.at(0xfff)?.device.name).toBe('before');
    bus.map(0x1000, 0x1000, new Bytes('rtc', 1));
    expect(bus.at(0x1800)?.device.name).toBe('rtc');
    expect(() => bus.map(-1, 2, new Bytes('bad', 1))).toThrow(VmError);
  });

  it('finds the right one of many devices', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(60), { maxLength: 20 }), fc.array(fc.nat(61 * 16)), (places, addresses) => {
        const bus = createAddressBus();
        for (const p of places) bus.map(p * 16, 10, new Bytes(String(p), 10));
        for (const a of addresses) {
          const p = Math.floor(a / 16);
          const expected = places.includes(p) && a % 16 < 10 ? String(p) : undefined;
          expect(bus.at(a)?.device.name).toBe(expected);
        }
      }),
    );
  });
});
