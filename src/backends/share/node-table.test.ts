import type { BigIntStats } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NodeTable, type ShareNode } from './node-table.ts';

const stats = (ino: number, mode = 0o040755) => ({ dev: 1n, ino: BigInt(ino), mode: BigInt(mode) }) as BigIntStats;

function rig(maximum = 100) {
  const dropped: ShareNode[] = [];
  const table = new NodeTable(stats(1), maximum, node => dropped.push(node));
  return { table, root: table.root, dropped };
}

describe('NodeTable', () => {
  it('keeps a node while lookups are counted, and never uses its number again', () => {
    const { table, root, dropped } = rig();
    const a = table.enter(stats(10), root, 'a');
    expect(table.enter(stats(10), root, 'other')).toBe(a);
    expect([a.lookups, a.name]).toEqual([2, 'other']);
    table.forget(a.id, 1);
    expect(table.get(a.id)).toBe(a);
    table.forget(a.id, 1);
    expect(dropped).toEqual([a]);
    expect(() => table.get(a.id)).toThrow(expect.objectContaining({ code: 'ESTALE' }));
    expect(table.enter(stats(10), root, 'a').id).not.toBe(a.id);
  });

  it('an inode number that comes back as another type is another node', () => {
    const { table, root } = rig();
    expect(table.enter(stats(10, 0o120777), root, 'a')).not.toBe(table.enter(stats(10), root, 'a'));
  });

  it('keeps the directories above a node, and drops them with it', () => {
    const { table, root, dropped } = rig();
    const a = table.enter(stats(10), root, 'a');
    const b = table.enter(stats(11), a, 'b');
    const c = table.enter(stats(12), b, 'c');
    table.forget(a.id, 1);
    table.forget(b.id, 99);
    expect([table.size, dropped.length]).toEqual([4, 0]);
    table.forget(c.id, 1);
    expect(dropped).toEqual([c, b, a]);
    expect([table.size, root.children]).toEqual([1, 0]);
  });

  it('follows moves, and lets go of the place before', () => {
    const { table, root, dropped } = rig();
    const a = table.enter(stats(10), root, 'a');
    const f = table.enter(stats(11, 0o100644), a, 'f');
    table.forget(a.id, 1);
    table.moved(f.key, root, 'g');
    expect([f.parent, f.name, dropped]).toEqual([root, 'g', [a]]);
    table.moved('1:99:0', root, 'x'); // nobody knows it
  });

  it('never has a directory inside of itself', () => {
    const { table, root } = rig();
    const a = table.enter(stats(10), root, 'a');
    const b = table.enter(stats(11), a, 'b');
    table.enter(stats(10), b, 'a'); // the host has moved b to the root and a into it meanwhile
    expect([a.parent, b.parent]).toEqual([root, a]);
    expect(table.enter(stats(1), b, 'root')).toBe(root); // a bind mount
    expect(root.parent).toBeUndefined();
  });

  it('is full at its bound, of new nodes only', () => {
    const { table, root } = rig(2);
    const a = table.enter(stats(10), root, 'a');
    table.enter(stats(11), root, 'b');
    expect(() => table.enter(stats(12), root, 'c')).toThrow(expect.objectContaining({ code: 'ENFILE' }));
    table.enter(stats(10), root, 'a');
    table.forget(a.id, 2);
    table.enter(stats(12), root, 'c');
    expect(table.size).toBe(3);
  });

  it('the root stays', () => {
    const { table, root, dropped } = rig();
    table.forget(1, 5);
    const a = table.enter(stats(10), root, 'a');
    table.clear();
    expect([table.get(1), table.size, dropped]).toEqual([root, 1, [a]]);
    table.collect(a); // a handle that is released late
    expect([table.size, root.children]).toEqual([1, 0]);
  });
});
