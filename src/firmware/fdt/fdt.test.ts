import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VmError } from '../../util/errors.ts';
import { FdtNode } from './node.ts';
import { decodeFdt } from './reader.ts';
import { encodeFdt } from './writer.ts';

/** A tree as plain data, for comparisons. */
type Plain = { name: string; properties: [string, number[]][]; children: Plain[] };
const plain = (n: FdtNode): Plain => ({
  name: n.name,
  properties: [...n.properties].map(([name, value]) => [name, [...(value as Uint8Array)]]),
  children: n.children.map(plain),
});

const properties = (build: (n: FdtNode) => unknown) => {
  const root = new FdtNode();
  build(root);
  return plain(decodeFdt(encodeFdt(root)).root).properties;
};

describe('encodeFdt', () => {
  it('writes the bytes of the specification for the smallest tree', () => {
    const blob = encodeFdt(new FdtNode().u32('a', 0x01020304), { bootCpu: 7 });
    const words = Array.from({ length: blob.length / 4 }, (_, i) => new DataView(blob.buffer).getUint32(4 * i));
    expect(words).toEqual([
      ...[0xd00dfeed, 96, 56, 88, 40, 17, 16, 7, 2, 32], // header
      ...[0, 0, 0, 0], // the end of no reservations
      ...[1, 0, 3, 4, 0, 0x01020304, 2, 9], // begin '', property 'a' of 4 bytes, end, end of tree
      ...[0x61000000, 0], // strings: 'a', padded to 8 bytes
    ]);
  });

  it('encodes every kind of property', () => {
    expect(properties(n => n.empty('dma-coherent'))).toEqual([['dma-coherent', []]]);
    expect(properties(n => n.u32('reg', 1, 0xffff_ffff))).toEqual([['reg', [0, 0, 0, 1, 255, 255, 255, 255]]]);
    expect(properties(n => n.u64('reg', 0x40_1000_0000, 0xffff_ffff_ffff_ffffn))).toEqual([
      ['reg', [0, 0, 0, 0x40, 0x10, 0, 0, 0, ...Array(8).fill(255)]],
    ]);
    expect(properties(n => n.string('compatible', 'ab', 'c'))).toEqual([['compatible', [97, 98, 0, 99, 0]]]);
    expect(properties(n => n.string('s', 'ä'))).toEqual([['s', [0xc3, 0xa4, 0]]]);
    expect(properties(n => n.bytes('seed', Uint8Array.of(1, 2, 3)))).toEqual([['seed', [1, 2, 3]]]);
    expect(properties(n => n.u32('x', 1).u32('y', 2).u32('x', 3))).toEqual([
      ['x', [0, 0, 0, 3]],
      ['y', [0, 0, 0, 2]],
    ]);
  });

  it('gives phandles to the nodes that others refer to, around those that are taken', () => {
    const root = new FdtNode();
    const gic = root.child('intc@8000000');
    const its = gic.child('its@8080000');
    const clock = root.child('apb-pclk').u32('phandle', 2);
    const idle = root.child('idle');
    root.u32('interrupt-parent', gic).child('uart').u32('clocks', clock, clock).u32('msi-map', 0, its, 0, 0x10000);
    const tree = plain(decodeFdt(encodeFdt(root)).root);
    const cells = (n: Plain | undefined, name: string) => {
      const bytes = Uint8Array.from(n?.properties.find(p => p[0] === name)?.[1] ?? []);
      return Array.from({ length: bytes.length / 4 }, (_, i) => new DataView(bytes.buffer).getUint32(4 * i));
    };
    const [readGic, readClock, readIdle, readUart] = tree.children;
    expect(cells(readGic, 'phandle')).toEqual([1]);
    expect(cells(readClock, 'phandle')).toEqual([2]);
    expect(cells(readGic?.children[0], 'phandle')).toEqual([3]);
    expect(cells(tree, 'interrupt-parent')).toEqual([1]);
    expect(cells(readUart, 'clocks')).toEqual([2, 2]);
    expect(cells(readUart, 'msi-map')).toEqual([0, 3, 0, 0x10000]);
    expect([idle.name, readIdle?.properties]).toEqual(['idle', []]);
  });

  it('refuses what no tree can hold', () => {
    const root = new FdtNode();
    root.child('cpu@0');
    for (const f of [
      () => root.child('cpu@0'),
      () => root.child(''),
      () => root.child('a/b'),
      () => root.child('a@'),
      () => root.empty('a b'),
      () => root.u32('reg', -1),
      () => root.u32('reg', 2 ** 32),
      () => root.u32('reg', 1.5),
      () => root.u64('reg', 1n << 64n),
      () => root.u64('reg', 2 ** 53),
      () => root.string('s', 'a\0b'),
      () => encodeFdt(new FdtNode().u32('p', new FdtNode('stray'))),
    ]) {
      expect(f).toThrow(VmError);
    }
  });

  it('copies the bytes that it is given', () => {
    const bytes = Buffer.from([1]);
    const root = new FdtNode().bytes('b', bytes);
    bytes[0] = 2;
    expect(plain(decodeFdt(encodeFdt(root)).root).properties).toEqual([['b', [1]]]);
  });
});

/** Trees with unique names among siblings. */
const names = fc.stringMatching(/^[a-z][a-z0-9,.-]{0,40}(@[0-9a-f]{1,9})?$/);
const treeOf = (depth: number): fc.Arbitrary<Plain> =>
  fc.record({
    name: fc.constant(''),
    properties: fc.uniqueArray(
      fc.tuple(fc.stringMatching(/^[a-z#][a-z0-9,.?-]{0,20}$/), fc.array(fc.nat(255), { maxLength: 20 })),
      { maxLength: 5, selector: p => p[0] },
    ),
    children: fc.uniqueArray(
      fc.tuple(names, depth === 0 ? fc.constant(EMPTY) : treeOf(depth - 1)).map(([name, t]) => ({ ...t, name })),
      { maxLength: 3, selector: c => c.name },
    ),
  });
const EMPTY: Plain = { name: '', properties: [], children: [] };
const tree = treeOf(2);
const build = (t: Plain, n = new FdtNode()): FdtNode => {
  for (const [name, bytes] of t.properties) n.bytes(name, Uint8Array.from(bytes));
  for (const c of t.children) build(c, n.child(c.name));
  return n;
};

describe('decodeFdt', () => {
  it('gives back what was encoded', () => {
    const reservation = fc.record({ address: fc.bigInt(1n, (1n << 64n) - 1n), size: fc.bigInt(0n, (1n << 64n) - 1n) });
    fc.assert(
      fc.property(tree, fc.array(reservation, { maxLength: 3 }), fc.nat(), (t, reservations, bootCpu) => {
        const blob = encodeFdt(build(t), { reservations, bootCpu });
        const fdt = decodeFdt(blob);
        expect(plain(fdt.root)).toEqual(t);
        expect([fdt.reservations, fdt.bootCpu, blob.length % 8]).toEqual([reservations, bootCpu, 0]);
      }),
    );
  });

  it('throws nothing but a VmError at a damaged or short blob', () => {
    const decode = (blob: Uint8Array) => {
      try {
        decodeFdt(blob);
        return true;
      } catch (e) {
        expect(e).toBeInstanceOf(VmError);
        return false;
      }
    };
    fc.assert(
      fc.property(tree, fc.nat(), fc.nat(255), (t, at, byte) => {
        const blob = encodeFdt(build(t));
        blob[at % blob.length] = byte;
        decode(blob);
        decode(blob.subarray(0, at % blob.length));
      }),
    );
    expect(decode(encodeFdt(new FdtNode()).subarray(0, 60))).toBe(false);
    expect(decode(new Uint8Array(100))).toBe(false);
  });
});
