import { expect, test } from 'vitest';
import { VmError } from '../util/errors.ts';
import { Transcript } from './transcript.ts';

const utf8 = (s: string) => new TextEncoder().encode(s);

test('a match may arrive one byte at a time, and UTF-8 may be cut anywhere', async () => {
  const t = new Transcript();
  const wait = t.wait(/grüß(e+)/u);
  for (const b of utf8('...\r\ngrüßee!')) t.append(new Uint8Array([b]));
  const m = await wait.match;
  expect(m).toMatchObject({ text: 'grüße', before: '...\r\n', captures: ['e'] });
  expect(t.text).toBe('...\r\ngrüßee!');
});

test('a string is found across pieces; what follows a match is left for the next wait', async () => {
  const t = new Transcript();
  t.append(utf8('one two th'));
  const three = t.wait('three');
  t.append(utf8('ree four'));
  expect(await three.match).toMatchObject({ text: 'three', before: 'one two ' });
  expect(await t.wait(/\S+/).match).toMatchObject({ text: 'four', before: ' ' });
});

test('two waits at once see the same text, and the flags g and y do not confuse', async () => {
  const t = new Transcript();
  const pattern = /b/gy;
  const waits = [t.wait(pattern), t.wait(pattern), t.wait('c')];
  t.append(utf8('abc'));
  expect((await Promise.all(waits.map(w => w.match))).map(m => m.before)).toEqual(['a', 'a', 'ab']);
  expect(t.waiting).toBe(false);
});

test('a wait that is cancelled is gone', async () => {
  const t = new Transcript();
  const w = t.wait('x');
  w.cancel(new Error('enough'));
  await expect(w.match).rejects.toThrow('enough');
  expect(t.waiting).toBe(false);
  t.append(utf8('x'));
  expect((await t.wait('x').match).before).toBe('');
});

test('the end fails those who wait, and late ones, but what was printed is still found', async () => {
  const t = new Transcript();
  t.append(utf8('first\r\nlast words\r\n'));
  const w = t.wait('more');
  t.end(new VmError('ERR_STATE', 'the guest ended (shutdown)'));
  await expect(w.match).rejects.toThrow(
    'the guest ended (shutdown) before the console showed "more"; its last lines:\n    first\n    last words',
  );
  expect((await t.wait('last').match).text).toBe('last');
  await expect(t.wait(/again/i).match).rejects.toMatchObject({ code: 'ERR_STATE', details: { pattern: '/again/gi' } });
});

test('only the latest text is kept, and positions survive the cut', async () => {
  const t = new Transcript();
  const line = utf8(`${'x'.repeat(1023)}\n`);
  for (let i = 0; i < 9 * 1024; i++) t.append(line);
  expect(t.text.length).toBeLessThan(9 * 2 ** 20);
  t.append(utf8('needle'));
  const m = await t.wait('needle').match;
  expect(m.before.length).toBe(t.text.length - 'needle'.length);
});
