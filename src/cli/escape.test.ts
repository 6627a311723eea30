import { expect, test } from 'vitest';
import { EscapeFilter } from './escape.ts';

function type(...pieces: string[]): { guest: string; actions: string[] } {
  const f = new EscapeFilter();
  let guest = '';
  const actions: string[] = [];
  for (const p of pieces) {
    const r = f.feed(Buffer.from(p, 'latin1'));
    guest += Buffer.from(r.guest).toString('latin1');
    actions.push(...r.actions);
  }
  return { guest, actions };
}

test.each([
  [['ls\r'], 'ls\r', []],
  [['\x01x'], '', ['quit']],
  [['\x01', 'X'], '', ['quit']],
  [['a\x01hb'], 'ab', ['help']],
  [['\x01c'], '', ['info']],
  [['\x01a'], '\x01', []],
  [['\x01\x01', 'x'], '\x01x', []],
  [['\x01q'], '', ['help']],
  [['\x03', '\x03\x03'], '\x03\x03\x03', ['hint']],
  [['\x01\x03'], '', ['help']],
  [['\xff\x00'], '\xff\x00', []],
] as const)('%j', (pieces, guest, actions) => {
  expect(type(...pieces)).toEqual({ guest, actions });
});
