import { describe, expect, it } from 'vitest';
import { emulated, PAGE, type PinRig, RAM, refusal } from '../../test/support/pin-tables.ts';
import type { PinTable } from './pin-table.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from './pin-types.ts';

const WRITE = FOLL_PIN | FOLL_WRITE;
const BLOCK = 2 << 20;

/** A coordinated pin of [base, base + length) that goes with its memory. */
function coordinated(table: PinTable, base: number, length: number, name = 'vfio'): () => boolean {
  let pin = table.pinCoordinated(base, length, WRITE, table.owner(name, true));
  table.addPlugListener({
    plug: () => undefined,
    unplug: (from, bytes) => {
      if (pin === 0 || from + bytes <= base || from >= base + length) return;
      table.unpin(pin);
      pin = 0;
    },
  });
  return () => pin !== 0;
}

function rigWithTwo(): { readonly rig: PinRig; readonly first: () => boolean; readonly second: () => boolean } {
  const rig = emulated();
  const first = coordinated(rig.table, RAM, BLOCK);
  return { rig, first, second: coordinated(rig.table, RAM + BLOCK, BLOCK) };
}

describe('coordinated pins', () => {
  it('4.3 memory hot-unplug, long pin: end when their memory is unplugged, and others do not', () => {
    const { rig, first, second } = rigWithTwo();
    expect(rig.table.unplug(RAM, BLOCK)).toEqual({ done: true, owners: [] });
    expect([first(), second()]).toEqual([false, true]);
    expect(rig.discarded).toEqual([{ base: RAM, length: BLOCK }]);
    expect(rig.table.stats()).toMatchObject({ current: 512, revoked: 0 });
  });

  it('4.3 memory hot-unplug: while another has the memory pinned, they stay, and only the other is named', () => {
    for (const flags of [FOLL_PIN, FOLL_PIN | FOLL_LONGTERM]) {
      const { rig, first } = rigWithTwo();
      rig.table.pin(RAM + PAGE, PAGE, flags, rig.table.owner('disk0'));
      expect(rig.table.unplug(RAM, BLOCK)).toEqual({ done: false, owners: ['disk0'] });
      expect(first()).toBe(true);
    }
  });

  it('4.3 memory hot-unplug: one that reaches beyond what goes is in the way', () => {
    const { rig, first } = rigWithTwo();
    expect(rig.table.unplug(RAM, BLOCK - PAGE)).toEqual({ done: false, owners: ['vfio'] });
    expect(first()).toBe(true);
  });

  it('4.3 memory hot-unplug: two of the same page end together, and a revocable one is asked before', () => {
    const { rig, first } = rigWithTwo();
    const again = coordinated(rig.table, RAM + PAGE, PAGE, 'second container');
    const h = rig.table.pinRevocable(RAM, 2 * PAGE, WRITE, rig.table.owner('map'), () => {
      expect([first(), again()]).toEqual([true, true]);
      rig.table.unpin(h);
    });
    expect(rig.table.unplug(RAM, BLOCK).done).toBe(true);
    expect([first(), again()]).toEqual([false, false]);
    expect(rig.table.stats()).toMatchObject({ current: 512, revoked: 1 });
  });

  it('4.3 memory hot-unplug: nobody is asked to go for memory that somebody else keeps', () => {
    const { rig } = rigWithTwo();
    rig.table.pin(RAM, PAGE, FOLL_PIN | FOLL_LONGTERM, rig.table.owner('ring'));
    rig.table.pinRevocable(RAM, PAGE, WRITE, rig.table.owner('map'), () => expect.unreachable());
    expect(rig.table.unplug(RAM, BLOCK)).toEqual({ done: false, owners: ['ring', 'map'] });
  });

  it('4.3 balloon inflate, long pin: they are not asked to go, and the page stays', () => {
    const rig = emulated();
    const pinned = coordinated(rig.table, RAM, PAGE);
    // A neighbour that would go is not asked for nothing.
    rig.table.pinRevocable(RAM, PAGE, WRITE, rig.table.owner('map'), () => expect.unreachable());
    expect(rig.table.discard(RAM, PAGE, 'balloon')).toEqual({ discarded: 0, queued: 0, skippedPinned: 1 });
    expect(pinned()).toBe(true);
    expect(rig.table.pins().map(p => p.revocable)).toEqual([false, true]);
  });

  it('a holder that does not let go is an error of the host, and the memory does not go back', () => {
    const rig = emulated();
    rig.table.pinCoordinated(RAM, PAGE, WRITE, rig.table.owner('vfio', true));
    expect(refusal(() => rig.table.unplug(RAM, PAGE))).toBe('ERR_INTERNAL');
    expect(rig.discarded).toEqual([]);
    expect(rig.table.page(RAM)?.state).toBe('unplugged');
  });
});
