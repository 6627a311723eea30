import { describe, expect, it } from 'vitest';
import { FAR, PAGE, PIN_BACKENDS, RAM, RAM_SIZE } from '../../test/support/pin-tables.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from './pin-types.ts';
import { WriteBack } from './write-back.ts';

const NOBODY = { protect: () => ({ [Symbol.dispose]: () => undefined }) };
const LIMIT = { timeoutMs: 20 };

describe.each(PIN_BACKENDS)('write-back of %s', (_name, make) => {
  /** A file, as far as it matters: pages by address. */
  function setup() {
    const rig = make();
    const file = new Map<number, number>();
    const back = new WriteBack(rig.table, NOBODY);
    const flush = () =>
      back.flush((base, bytes) => {
        for (let at = 0; at < bytes.length; at += PAGE) file.set(base + at, bytes[at]!);
      }, LIMIT);
    return { ...rig, file, back, flush };
  }

  it('4.3 write-back, not pinned: everything once, then what was written since', async () => {
    const { table, memory, file, back, flush } = setup();
    memory.setU8(RAM + PAGE, 7);
    memory.setU8(FAR, 8);
    expect(await flush()).toBe(RAM_SIZE / PAGE + 1);
    expect([file.get(RAM), file.get(RAM + PAGE), file.get(FAR)]).toEqual([0, 7, 8]);
    expect(await flush()).toBe(0);
    table.borrow(RAM, 1, 'w')![0] = 5;
    table.discard(RAM + PAGE, PAGE, 'report');
    expect(await flush()).toBe(2);
    expect([file.get(RAM), file.get(RAM + PAGE)]).toEqual([5, 0]);
    back[Symbol.dispose]();
    expect(table.dirty.active).toBe(0);
  });

  it('4.3 write-back, short pin: waits for its end, which makes its pages dirty', async () => {
    const { table, memory, file, flush } = setup();
    await flush();
    const h = table.pin(RAM, PAGE, FOLL_PIN | FOLL_WRITE, table.owner('disk'));
    await expect(flush()).rejects.toMatchObject({ code: 'ERR_PINNED' });
    memory.setU8(RAM, 3);
    table.unpin(h);
    expect([await flush(), file.get(RAM), await flush()]).toEqual([1, 3, 0]);
  });

  it('4.3 write-back, long pin: a stable copy each time, and the page stays dirty', async () => {
    const { table, memory, file, back, flush } = setup();
    const h = table.pin(RAM, PAGE, FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM, table.owner('ring'));
    await flush();
    for (const value of [1, 2]) {
      memory.setU8(RAM, value);
      const pages = await back.flush((base, bytes) => {
        // The holder writes on while the copy is on its way.
        memory.setU8(RAM, 99);
        file.set(base, bytes[0]!);
      }, LIMIT);
      expect([pages, file.get(RAM)]).toEqual([1, value]);
    }
    table.unpin(h);
    expect([await flush(), file.get(RAM), await flush()]).toEqual([1, 99, 0]);
  });

  it('does not lose what a sink has refused', async () => {
    const { table, memory, file, back, flush } = setup();
    await flush();
    for (const p of [1, 3]) {
      table.borrow(RAM + p * PAGE, 1, 'w');
      memory.setU8(RAM + p * PAGE, p);
    }
    const full = back.flush(base => {
      if (base > RAM + PAGE) throw new Error('full');
    }, LIMIT);
    await expect(full).rejects.toThrow('full');
    expect(await flush()).toBe(1);
    expect(file.get(RAM + 3 * PAGE)).toBe(3);
  });
});
