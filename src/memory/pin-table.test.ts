import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { emulated, FAR, PAGE, PIN_BACKENDS, RAM, RAM_SIZE, ROM, refusal } from '../../test/support/pin-tables.ts';
import { PinTable } from './pin-table.ts';
import { FOLL_GET, FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from './pin-types.ts';

const READ = FOLL_PIN;
const WRITE = FOLL_PIN | FOLL_WRITE;
const LONG = FOLL_PIN | FOLL_LONGTERM;
const LONG_WRITE = LONG | FOLL_WRITE;

// The rules of section 4.2, on each kind of memory.
describe.each(PIN_BACKENDS)('pins of %s', (_name, rig) => {
  it('PIN-1: a pin is all or nothing: after a refusal no page stays counted', () => {
    const { table } = rig({ limits: { pinsPerPage: 1 } });
    const o = table.owner('x');
    // Crosses from RAM into ROM, from ROM into a hole; the last page of the range has its limit of pins.
    expect(refusal(() => table.pin(ROM - PAGE, 2 * PAGE, WRITE, o))).toBe('ERR_PIN_PERMISSION EPERM');
    expect(refusal(() => table.pin(ROM - PAGE, 3 * PAGE, READ, o))).toBe('ERR_PIN_FAULT EFAULT');
    table.pin(RAM + 2 * PAGE, PAGE, READ, o);
    expect(refusal(() => table.pin(RAM, 3 * PAGE, READ, o))).toBe('ERR_PIN_OVERFLOW EOVERFLOW');
    expect(table.maybePinned(RAM, 2 * PAGE)).toBe(false);
    expect(table.maybePinned(ROM - PAGE, 2 * PAGE)).toBe(false);
    expect(table.stats()).toMatchObject({ pinAcquired: 1, current: 1 });
  });

  it.each([
    ['borrow and pin at once', RAM, PAGE, FOLL_GET | FOLL_PIN],
    ['longterm without pin', RAM, PAGE, FOLL_LONGTERM],
    ['no flags', RAM, PAGE, 0],
    ['unknown flags', RAM, PAGE, FOLL_PIN | 0x8000],
    ['an empty range', RAM, 0, READ],
    ['a negative range', RAM, -1, READ],
    ['a range that overflows', Number.MAX_SAFE_INTEGER - 1, PAGE, READ],
    ['a negative address', -PAGE, PAGE, READ],
    ['no number', Number.NaN, PAGE, READ],
  ])('PIN-2: EINVAL for %s', (_what, base, length, flags) => {
    const { table } = rig();
    expect(refusal(() => table.pin(base, length, flags, table.owner('x')))).toBe('ERR_PIN_INVALID EINVAL');
    expect(table.tryPin(base, length, flags, table.owner('x'))).toBe(0);
    expect(table.lastErrno).toBe('EINVAL');
    expect(table.everPinned).toBe(false);
  });

  it('PIN-3: exact counts of short, long and writing pins for each page, huge pages included', () => {
    const { table } = rig();
    const o = table.owner('x');
    table.pin(RAM + 1, 1, READ, o);
    table.pin(RAM + PAGE - 1, 2, WRITE, o);
    table.pin(RAM, RAM_SIZE, LONG_WRITE, o);
    table.pin(RAM, RAM_SIZE, LONG, o);
    expect(table.page(RAM)).toMatchObject({ short: 2, long: 2, write: 2 });
    expect(table.page(RAM + PAGE)).toMatchObject({ short: 1, long: 2, write: 2 });
    expect(table.page(RAM + 2 * PAGE)).toMatchObject({ short: 0, long: 2, write: 1 });
    expect(table.page(ROM)).toMatchObject({ short: 0, long: 0, write: 0 });
    expect(table.page(ROM + PAGE)).toBeUndefined();
  });

  it('PIN-3: a huge page may be pinned when any page of it is', () => {
    const { table } = rig();
    expect(table.maybePinned(RAM, 2 << 20)).toBe(false);
    const h = table.pin(RAM + 300 * PAGE, PAGE, READ, table.owner('x'));
    expect([table.maybePinned(RAM, 2 << 20), table.maybePinned(RAM + (2 << 20), 2 << 20)]).toEqual([true, false]);
    table.unpin(h);
    expect(table.maybePinned(RAM, RAM_SIZE)).toBe(false);
  });

  it('PIN-3: a count that is full refuses with EOVERFLOW and does not wrap', () => {
    const { table } = rig({ limits: { pinsPerPage: 3 } });
    const o = table.owner('x');
    const pins = [1, 2, 3].map(() => table.pin(RAM, PAGE, READ, o));
    expect(refusal(() => table.pin(RAM, PAGE, READ, o))).toBe('ERR_PIN_OVERFLOW EOVERFLOW');
    expect(table.page(RAM)).toMatchObject({ short: 3 });
    table.unpin(pins[0]!);
    expect(table.tryPin(RAM, PAGE, READ, o)).not.toBe(0);
  });

  it('PIN-4: a pin is released once', () => {
    const { table } = rig();
    const o = table.owner('x');
    const h = table.pin(RAM, PAGE, READ, o);
    table.unpin(h);
    expect(refusal(() => table.unpin(h))).toBe('ERR_PIN_INVALID EINVAL');
    // Many later pins, so that its place is taken again.
    const others = Array.from({ length: 500 }, () => table.pin(RAM, PAGE, READ, o));
    for (const bad of [h, 0, -1, 1.5, Number.NaN, others.at(-1)! + 1]) {
      expect(refusal(() => table.unpin(bad))).toBe('ERR_PIN_INVALID EINVAL');
    }
    for (const other of others) table.unpin(other);
    expect(table.stats().current).toBe(0);
  });

  it('PIN-4: dirty of a pin for reading is EINVAL, and it stays pinned', () => {
    const { table } = rig();
    const h = table.pin(RAM, PAGE, READ, table.owner('x'));
    expect(refusal(() => table.unpin(h, true))).toBe('ERR_PIN_INVALID EINVAL');
    expect(table.maybePinned(RAM, PAGE)).toBe(true);
    table.unpin(h);
  });

  it('PIN-5: counters are in pages, equal when nothing is pinned, and leaks have names', () => {
    const { table } = rig();
    const a = table.pin(RAM + 5, 2 * PAGE, WRITE, table.owner('disk0 queue 0'));
    table.pin(RAM, PAGE, LONG, table.owner('edu0'));
    expect(table.stats()).toMatchObject({ pinAcquired: 4, pinReleased: 0, current: 4, currentLong: 1 });
    expect(table.leaks()).toEqual([
      { owner: 'disk0 queue 0', pages: 3 },
      { owner: 'edu0', pages: 1 },
    ]);
    table.unpin(a, true);
    expect(table.releaseOwner(table.owner('edu0'))).toBe(1);
    expect(table.stats()).toMatchObject({ pinAcquired: 4, pinReleased: 4, current: 0, currentLong: 0 });
    expect(table.leaks()).toEqual([]);
  });

  it('PIN-5: says who holds what, since when', () => {
    const { table } = rig();
    table.nowNs = 5_000_000;
    table.pin(RAM + 8, 100, WRITE, table.owner('net0 queue 1'));
    table.nowNs = 7_000_000;
    table.pinRevocable(FAR, PAGE, READ, table.owner('own'), () => undefined);
    const common = { revocable: false, longterm: false };
    expect(table.pins()).toEqual([
      { ...common, owner: 'net0 queue 1', base: RAM + 8, length: 100, write: true, sinceNs: 5_000_000 },
      { owner: 'own', base: FAR, length: PAGE, write: false, longterm: true, revocable: true, sinceNs: 7_000_000 },
    ]);
  });

  it('PIN-6: pages of a pin for writing are dirty at every collection, and once more after it; others never', () => {
    const { table } = rig();
    const o = table.owner('x');
    const before = table.pin(RAM, PAGE, WRITE, o);
    const log = table.dirty.start();
    const other = table.dirty.start();
    const bits = new Uint32Array(32);
    const dirty = () => {
      const n = log.collect(RAM, RAM_SIZE, bits);
      const pages = [...bits].flatMap((w, i) => [...Array(32).keys()].filter(b => (w >>> b) & 1).map(b => i * 32 + b));
      expect(n).toBe(pages.length);
      return pages;
    };
    const reading = table.pin(RAM + 8 * PAGE, PAGE, READ, o);
    const writing = table.pin(RAM + 3 * PAGE, 2 * PAGE, LONG_WRITE, o);
    const big = table.pin(RAM + (2 << 20), 2 << 20, WRITE, o);
    const half = Array.from({ length: 512 }, (_, i) => 512 + i);
    expect(dirty()).toEqual([0, 3, 4, ...half]);
    expect(dirty()).toEqual([0, 3, 4, ...half]);
    table.unpin(big);
    table.unpin(writing, true);
    table.unpin(before);
    table.unpin(reading);
    expect(dirty()).toEqual([0, 3, 4, ...half]);
    expect(dirty()).toEqual([]);
    table.borrow(RAM + 7 * PAGE, 8, 'r');
    table.borrow(RAM + 9 * PAGE - 1, 2, 'w');
    expect(dirty()).toEqual([8, 9]);
    log.stop();
    // The other log has not been collected: it has its own idea of what is clean.
    expect(other.collect(RAM, RAM_SIZE, bits)).toBe(3 + 512 + 2);
    other.stop();
    expect(refusal(() => log.collect(RAM, PAGE, bits))).toBe('ERR_STATE');
  });

  it.each([
    ['EPERM: a pin for writing of ROM', ROM, PAGE, WRITE, 'ERR_PIN_PERMISSION EPERM'],
    ['EFAULT: a hole', ROM + PAGE, PAGE, READ, 'ERR_PIN_FAULT EFAULT'],
    ['EFAULT: beyond the end', FAR, PAGE + 1, READ, 'ERR_PIN_FAULT EFAULT'],
    ['EOPNOTSUPP: what is written back cannot be pinned for long', RAM, PAGE, LONG, 'ERR_PIN_UNSUPPORTED EOPNOTSUPP'],
  ])('PIN-7: %s', (_what, base, length, flags, error) => {
    const shortPinsOnly = [{ base: RAM, length: PAGE, why: 'a file that is written back' }];
    const { table } = rig({ shortPinsOnly });
    expect(refusal(() => table.pin(base, length, flags, table.owner('x')))).toBe(error);
    expect(table.stats().pinAcquired).toBe(0);
  });

  it('PIN-7: ROM may be pinned for reading, and RAM that is written back for a short time', () => {
    const { table } = rig({ shortPinsOnly: [{ base: RAM, length: PAGE, why: 'a file' }] });
    const o = table.owner('x');
    expect(table.view(table.pin(ROM, PAGE, READ, o))).toHaveLength(PAGE);
    expect(table.view(table.pin(RAM, PAGE, WRITE, o))).toHaveLength(PAGE);
    expect(table.tryPin(RAM + PAGE, PAGE, LONG, o)).not.toBe(0);
    // No single view of a range that crosses from RAM into ROM; it is pinned all the same.
    expect(table.view(table.pin(ROM - PAGE, 2 * PAGE, READ, o))).toBeUndefined();
  });

  it('PIN-8: a borrow of a discarded page finds zeros, a pin too; an unplugged block gives EFAULT to both', () => {
    const { table, memory } = rig();
    memory.setU32(RAM, 7);
    table.discard(RAM, PAGE, 'balloon');
    expect(table.borrow(RAM, 4, 'r')).toEqual(new Uint8Array(4));
    table.unpin(table.pin(RAM, PAGE, READ, table.owner('x')));
    expect(table.unplug(RAM + (2 << 20), 2 << 20)).toEqual({ done: true, owners: [] });
    expect(table.borrow(RAM + (2 << 20) - 1, 2, 'r')).toBeUndefined();
    expect(table.lastErrno).toBe('EFAULT');
    expect(refusal(() => table.pin(RAM, RAM_SIZE, READ, table.owner('x')))).toBe('ERR_PIN_FAULT EFAULT');
    expect(table.stats().current).toBe(0);
  });

  it('PIN-9: remembers whether anything has ever been pinned', () => {
    const { table } = rig();
    table.borrow(RAM, 8, 'w');
    expect(table.everPinned).toBe(false);
    table.unpin(table.pin(RAM, PAGE, READ, table.owner('x')));
    expect(table.everPinned).toBe(true);
  });

  it('takes the pins of another table of the same memory into account, whose handles are its own', () => {
    const { table, memory } = rig();
    const other = new PinTable({ memory, state: table.share() });
    const mine = table.pin(RAM, PAGE, WRITE, table.owner('x'));
    const theirs = other.pin(RAM, PAGE, LONG, other.owner('y'));
    expect(table.page(RAM)).toMatchObject({ short: 1, long: 1, write: 1 });
    expect(table.stats()).toMatchObject({ current: 2, currentLong: 1 });
    expect(table.threads).toBe(2);
    expect(table.unplug(RAM, PAGE)).toMatchObject({ done: false });
    table.unpin(mine);
    expect(table.leaks()).toEqual([{ owner: 'other threads', pages: 1 }]);
    expect(other.pins()).toHaveLength(1);
    other.unpin(theirs);
    other.detach();
    expect(table.threads).toBe(1);
    expect(table.leaks()).toEqual([]);
    expect(() => new PinTable({ memory: rig().memory, state: { ...table.share(), regions: [] } })).toThrow();
  });
});

describe('the table against a simple model', () => {
  it('PIN-3, PIN-5: any sequence of pins, unpins and discards counts as the model does', () => {
    const pages = 24;
    const range = fc.record({ first: fc.nat(pages - 1), count: fc.integer({ min: 1, max: pages }) });
    const action = fc.oneof(
      fc.record({
        what: fc.constant('pin'),
        range,
        flags: fc.constantFrom(READ, WRITE, LONG, LONG_WRITE),
        n: fc.nat(),
      }),
      fc.record({ what: fc.constant('unpin'), range, flags: fc.constant(0), n: fc.nat() }),
      fc.record({ what: fc.constantFrom('inflate', 'deflate', 'report'), range, flags: fc.constant(0), n: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), actions => {
        const { table, memory } = emulated();
        const o = table.owner('x');
        // Around the border of two blocks of 512 pages, and of runs of 16.
        const origin = RAM + 500 * PAGE;
        const state = new Array<string>(pages).fill('present');
        const live: { handle: number; first: number; end: number; flags: number }[] = [];
        const short = (p: number) => live.filter(l => l.first <= p && p < l.end && !(l.flags & FOLL_LONGTERM)).length;
        const long = (p: number) => live.filter(l => l.first <= p && p < l.end && l.flags & FOLL_LONGTERM).length;
        for (const { what, range: r, flags, n } of actions) {
          const end = Math.min(pages, r.first + r.count);
          const base = origin + r.first * PAGE;
          const length = (end - r.first) * PAGE;
          if (what === 'pin') live.push({ handle: table.pin(base, length, flags, o), first: r.first, end, flags });
          else if (what === 'unpin') {
            const [gone] = live.splice(n % Math.max(1, live.length), 1);
            if (gone === undefined) continue;
            table.unpin(gone.handle);
            for (let p = gone.first; p < gone.end; p++) {
              if (state[p] === 'queued' && short(p) + long(p) === 0) state[p] = 'discarded';
            }
          } else if (what === 'deflate') {
            table.deflate(base, length);
            for (let p = r.first; p < end; p++) state[p] = 'present';
          } else {
            for (let p = r.first; p < end; p++) memory.setU8(origin + p * PAGE, 1);
            table.discard(base, length, what === 'inflate' ? 'balloon' : 'report');
            for (let p = r.first; p < end; p++) {
              const free = short(p) + long(p) === 0;
              if (state[p] !== 'queued') {
                if (what === 'inflate' && (free || long(p) === 0)) state[p] = free ? 'discarded' : 'queued';
                else state[p] = 'present';
                expect(memory.u8(origin + p * PAGE)).toBe(free ? 0 : 1);
              }
            }
          }
          for (let p = 0; p < pages; p++) {
            expect(table.page(origin + p * PAGE)).toMatchObject({ short: short(p), long: long(p), state: state[p] });
          }
        }
        const pinned = live.reduce((sum, l) => sum + l.end - l.first, 0);
        expect(table.stats().current).toBe(pinned);
        for (const l of live) table.unpin(l.handle);
        expect(table.maybePinned(RAM, RAM_SIZE)).toBe(false);
        expect(table.stats().current).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
