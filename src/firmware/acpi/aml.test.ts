import { describe, expect, it } from 'vitest';
import { VmError } from '../../util/errors.ts';
import * as aml from './aml.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('PkgLength', () => {
  it('takes the fewest bytes that hold the sum with itself', () => {
    const cases: [body: number, encoded: string][] = [
      [0, '01'],
      [62, '3f'], // 63 in all
      [63, '4104'], // 65: 64 cannot be said in one byte, and two make 65
      [4093, '4fff'], // 4095
      [4094, '810001'], // 4097
      [2 ** 20 - 4, '8fffff'],
      [2 ** 20 - 3, 'c1000001'],
      [2 ** 28 - 5, 'cfffffff'],
    ];
    expect(cases.map(([body]) => hex(aml.pkgLength(body)))).toEqual(cases.map(([, encoded]) => encoded));
  });

  it('is refused beyond 28 bits', () => {
    expect(() => aml.pkgLength(2 ** 28 - 4)).toThrow(VmError);
  });

  it('covers everything behind the opcode', () => {
    for (const size of [0, 1, 57, 58, 59, 60, 4089, 4090, 4091, 2 ** 20]) {
      const b = aml.buffer(new Uint8Array(size));
      const follow = b[1]! >> 6;
      let length = follow === 0 ? b[1]! & 0x3f : b[1]! & 0xf;
      for (let n = 0; n < follow; n++) length += b[2 + n]! << (4 + 8 * n);
      expect([size, length]).toEqual([size, b.length - 1]);
    }
  });
});

describe('NameString', () => {
  it.each([
    ['_HID', '5f484944'],
    ['C0', '43305f5f'],
    ['\\', '5c00'],
    ['^', '5e00'],
    ['\\_SB', '5c5f53425f'],
    ['^^A', '5e5e415f5f5f'],
    ['_SB.PCI0', '2e5f53425f50434930'],
    ['\\_SB.PCI0', '5c2e5f53425f50434930'],
    ['^A.B.C', '5e2f03415f5f5f425f5f5f435f5f5f'],
  ])('%s', (path, encoded) => {
    expect(hex(aml.nameString(path))).toBe(encoded);
  });

  it.each(['', 'a', '0ABC', 'ABCDE', 'A..B', 'A.', '.A', '\\^A', '^\\A', '\\\\', 'A B', 'A\n'])('refuses %j', path => {
    expect(() => aml.nameString(path)).toThrow(VmError);
  });

  it('has 255 segments at most', () => {
    const path = (n: number) => Array(n).fill('A').join('.');
    expect(aml.nameString(path(255))).toHaveLength(2 + 4 * 255);
    expect(() => aml.nameString(path(256))).toThrow(VmError);
  });
});

describe('data', () => {
  it.each([
    [0, '00'],
    [1, '01'],
    [2, '0a02'],
    [0xff, '0aff'],
    [0x100, '0b0001'],
    [0xffff, '0bffff'],
    [0x1_0000, '0c00000100'],
    [0xffff_ffff, '0cffffffff'],
    [0x1_0000_0000, '0e0000000001000000'],
    [0n, '00'],
    [0xffff_ffff_ffff_ffffn, '0effffffffffffffff'],
  ])('integer %d', (value, encoded) => {
    expect(hex(aml.integer(value))).toBe(encoded);
  });

  it.each([-1, 0.5, 2 ** 53, Number.NaN, -1n, 1n << 64n])('no integer %d', value => {
    expect(() => aml.integer(value)).toThrow(VmError);
  });

  it('strings are ASCII and end with a zero byte', () => {
    expect(hex(aml.name('_HID', 'AB'))).toBe('085f4849440d414200');
    for (const s of ['\0', 'ä']) expect(() => aml.name('_STR', s)).toThrow(VmError);
  });

  it('packages have up to 255 elements', () => {
    expect(hex(aml.packageOf(5, 'A', aml.nameString('COM1')))).toBe('120b030a050d4100434f4d31');
    expect(aml.packageOf(...Array(255).fill(0))[3]).toBe(255);
    expect(() => aml.packageOf(...Array(256).fill(0))).toThrow(VmError);
  });

  it('EISA ids, as in the example of the specification', () => {
    expect(aml.eisaId('PNP0A03').toString(16)).toBe('30ad041');
    expect(aml.eisaId('PNP0C02').toString(16)).toBe('20cd041');
    for (const id of ['PNP0A0', 'pnp0a03', 'PNP0A0G', 'ACPI0007']) expect(() => aml.eisaId(id)).toThrow(VmError);
  });

  it('UUIDs have their first three fields with the low byte first', () => {
    expect(hex(aml.uuid('00112233-4455-6677-8899-AABBCCDDEEFF'))).toBe('33221100554477668899aabbccddeeff');
    for (const u of ['', '0011223344556677-8899-aabbccddeeff-00', 'g0112233-4455-6677-8899-aabbccddeeff']) {
      expect(() => aml.uuid(u)).toThrow(VmError);
    }
  });
});

describe('terms', () => {
  it('objects: scope, device, method', () => {
    expect(hex(aml.scope('\\', aml.device('A', aml.method('B', 7))))).toBe('10115c005b820c415f5f5f1406425f5f5f0f');
  });

  it('statements and operators', () => {
    const terms = [
      aml.createDWordField(aml.arg(3), 8, 'CDW3'),
      aml.ifThen(aml.lNot(aml.lEqual(aml.arg(6), 1)), aml.store(2, aml.local(7))),
      aml.otherwise(aml.or(1, aml.local(0), aml.local(0))),
      aml.returns(aml.and(0x10, aml.arg(0))),
    ];
    expect(terms.map(hex)).toEqual(['8a6b0a0843445733', 'a00992936e01700a0267', 'a1057d016060', 'a47b0a106800']);
  });

  it('there are 7 arguments and 8 local variables', () => {
    const wrong = [
      () => aml.arg(7),
      () => aml.arg(-1),
      () => aml.local(8),
      () => aml.local(-1),
      () => aml.method('A', 8),
    ];
    for (const f of wrong) expect(f).toThrow(VmError);
  });
});
