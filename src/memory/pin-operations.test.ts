import { describe, expect, it } from 'vitest';
import { PAGE, PIN_BACKENDS, type PinRig, RAM, RAM_SIZE, ROM, refusal } from '../../test/support/pin-tables.ts';
import { forkMemory, type WriteGate } from './memory-fork.ts';
import { PageIndex } from './page-index.ts';
import { PinTable } from './pin-table.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from './pin-types.ts';
import { sharedState } from './shared-state.ts';

const READ = FOLL_PIN;
const WRITE = FOLL_PIN | FOLL_WRITE;
const LONG = FOLL_PIN | FOLL_LONGTERM;
const LONG_WRITE = LONG | FOLL_WRITE;
const BLOCK = 2 << 20;

/** The columns of table 4.3: nobody, a short pin, a long one; both for writing. */
const COLUMNS = [
  ['not pinned', 0],
  ['short pin', WRITE],
  ['long pin', LONG_WRITE],
] as const;

/** Pins the second of the first four pages as the column says. */
function pinned(rig: PinRig, flags: number): () => void {
  if (flags === 0) return () => undefined;
  const handle = rig.table.pin(RAM + PAGE, PAGE, flags, rig.table.owner('holder'));
  return () => rig.table.unpin(handle);
}

/** A vCPU's writes, which go past the table. */
function vcpu(rig: PinRig): WriteGate & { write(a: number, value: number): void; announce(a: number): void } {
  const gates = new Set<(base: number, length: number) => void>();
  return {
    protect(f) {
      gates.add(f);
      return { [Symbol.dispose]: () => void gates.delete(f) };
    },
    write(a, value) {
      this.announce(a);
      rig.memory.setU8(a, value);
    },
    announce(a) {
      for (const f of gates) f(a - (a % PAGE), PAGE);
    },
  };
}

const firstBytes = (rig: PinRig) => [0, 1, 2, 3].map(p => rig.memory.u8(RAM + p * PAGE));
const fill = (rig: PinRig) => {
  for (let p = 0; p < 4; p++) rig.memory.setU8(RAM + p * PAGE, p + 1);
};

describe.each(PIN_BACKENDS)('table 4.3 on %s', (_name, make) => {
  describe('balloon inflate', () => {
    it.each([
      ['not pinned', 0, [0, 0, 0, 0], { discarded: 4, queued: 0, skippedPinned: 0 }, 'discarded'],
      ['short pin', WRITE, [0, 2, 0, 0], { discarded: 3, queued: 1, skippedPinned: 0 }, 'queued'],
      ['long pin', LONG_WRITE, [0, 2, 0, 0], { discarded: 3, queued: 0, skippedPinned: 1 }, 'present'],
    ] as const)('4.3 balloon inflate, %s', (_column, flags, bytes, result, state) => {
      const rig = make();
      const release = pinned(rig, flags);
      fill(rig);
      expect(rig.table.discard(RAM, 4 * PAGE, 'balloon')).toEqual(result);
      expect(firstBytes(rig)).toEqual(bytes);
      expect(rig.table.page(RAM + PAGE)?.state).toBe(state);
      release();
      // What was queued goes with the last unpin, what was skipped stays.
      expect(firstBytes(rig)).toEqual(flags === LONG_WRITE ? bytes : [0, 0, 0, 0]);
      expect(rig.table.stats()).toMatchObject({
        discarded: flags === LONG_WRITE ? 3 : 4,
        queued: result.queued,
        skippedPinned: result.skippedPinned,
        cancelled: 0,
      });
    });

    it('4.3 balloon inflate, short pin: waits for the last of several pins', () => {
      const rig = make();
      fill(rig);
      const first = pinned(rig, READ);
      rig.table.discard(RAM, 4 * PAGE, 'balloon');
      const second = pinned(rig, LONG);
      first();
      expect(firstBytes(rig)).toEqual([0, 2, 0, 0]);
      second();
      expect(firstBytes(rig)).toEqual([0, 0, 0, 0]);
    });

    it('4.3 balloon inflate, long pin: a revocable owner is asked to go, and then the page does', () => {
      const rig = make();
      fill(rig);
      const asked: number[] = [];
      const h = rig.table.pinRevocable(RAM + PAGE, PAGE, WRITE, rig.table.owner('map'), () => {
        asked.push(rig.memory.u8(RAM + PAGE));
        rig.table.unpin(h);
      });
      expect(rig.table.discard(RAM, 4 * PAGE, 'balloon')).toEqual({ discarded: 4, queued: 0, skippedPinned: 0 });
      expect(asked).toEqual([2]);
      expect(rig.table.stats()).toMatchObject({ revoked: 1, current: 0 });
    });

    it('4.3 balloon inflate, long pin: nobody is revoked for a page that stays pinned all the same', () => {
      const rig = make();
      pinned(rig, LONG);
      rig.table.pinRevocable(RAM, 4 * PAGE, READ, rig.table.owner('map'), () => expect.unreachable());
      expect(rig.table.discard(RAM + PAGE, PAGE, 'balloon')).toEqual({ discarded: 0, queued: 0, skippedPinned: 1 });
    });

    it('4.3 balloon inflate, long pin: a page that stays pinned does not keep its neighbours', () => {
      const rig = make();
      fill(rig);
      const release = pinned(rig, LONG);
      const h = rig.table.pinRevocable(RAM, 4 * PAGE, READ, rig.table.owner('map'), () => rig.table.unpin(h));
      expect(rig.table.discard(RAM, 4 * PAGE, 'balloon')).toEqual({ discarded: 3, queued: 0, skippedPinned: 1 });
      expect(firstBytes(rig)).toEqual([0, 2, 0, 0]);
      release();
    });

    it('4.3 balloon inflate, short pin: when the host fails to take a queued page, the guest keeps it', () => {
      let fails = true;
      const rig = make({
        discardBytes: () => {
          if (fails) throw new Error('no');
        },
      });
      const release = pinned(rig, WRITE);
      rig.table.discard(RAM + PAGE, PAGE, 'balloon');
      expect(release).toThrow('no');
      expect(rig.table.page(RAM + PAGE)).toEqual({ short: 0, long: 0, write: 0, state: 'present' });
      fails = false;
      expect(rig.table.discard(RAM, 4 * PAGE, 'balloon')).toEqual({ discarded: 4, queued: 0, skippedPinned: 0 });
    });

    it('an owner that does not let go when asked is an error of the host', () => {
      const rig = make();
      rig.table.pinRevocable(RAM, PAGE, READ, rig.table.owner('map'), () => undefined);
      expect(refusal(() => rig.table.discard(RAM, PAGE, 'balloon'))).toBe('ERR_INTERNAL');
      expect(rig.table.page(RAM)?.state).toBe('present');
    });
  });

  describe('balloon deflate', () => {
    it('4.3 balloon deflate, not pinned: the page is usable and reads as zeros', () => {
      const rig = make();
      fill(rig);
      rig.table.discard(RAM, 4 * PAGE, 'balloon');
      rig.table.deflate(RAM, 4 * PAGE);
      expect(rig.table.page(RAM)?.state).toBe('present');
      expect(firstBytes(rig)).toEqual([0, 0, 0, 0]);
    });

    it('4.3 balloon deflate, short pin: a discard that was queued is cancelled', () => {
      const rig = make();
      const release = pinned(rig, WRITE);
      rig.table.discard(RAM, 4 * PAGE, 'balloon');
      fill(rig);
      rig.table.deflate(RAM, 4 * PAGE);
      release();
      expect(firstBytes(rig)).toEqual([1, 2, 3, 4]);
      expect(rig.table.stats()).toMatchObject({ queued: 1, cancelled: 1, discarded: 3 });
    });

    it('4.3 balloon deflate, long pin: the page never left', () => {
      const rig = make();
      fill(rig);
      const release = pinned(rig, LONG);
      rig.table.discard(RAM, 4 * PAGE, 'balloon');
      rig.table.deflate(RAM, 4 * PAGE);
      release();
      expect(firstBytes(rig)).toEqual([0, 2, 0, 0]);
    });
  });

  it.each(COLUMNS)('4.3 free-page reporting, %s', (column, flags) => {
    const rig = make();
    fill(rig);
    const release = pinned(rig, flags);
    const kept = column === 'not pinned' ? 0 : 1;
    expect(rig.table.discard(RAM, 4 * PAGE, 'report')).toEqual({ discarded: 4 - kept, queued: 0, skippedPinned: kept });
    expect(firstBytes(rig)).toEqual([0, 2 * kept, 0, 0]);
    release();
    expect(firstBytes(rig)).toEqual([0, 2 * kept, 0, 0]);
    // The guest uses them again without a word.
    expect(rig.table.page(RAM)?.state).toBe('present');
  });

  describe('memory hot-unplug', () => {
    it.each([
      ['not pinned', 0, true],
      ['short pin', WRITE, false],
      ['long pin', LONG_WRITE, false],
    ] as const)('4.3 memory hot-unplug, %s', (_column, flags, done) => {
      const rig = make();
      fill(rig);
      const told: string[] = [];
      rig.table.addPlugListener({
        plug: () => undefined,
        unplug: (base, length) => void told.push(`${base - RAM} ${length} ${rig.discarded.length}`),
      });
      const release = pinned(rig, flags);
      const result = rig.table.unplug(RAM, BLOCK);
      expect(result).toEqual({ done, owners: done ? [] : ['holder'] });
      // Listeners unmap before the memory goes back.
      expect(told).toEqual(done ? [`0 ${BLOCK} 0`] : []);
      expect(rig.discarded).toEqual(done ? [{ base: RAM, length: BLOCK }] : []);
      expect(rig.table.page(RAM)?.state).toBe(done ? 'unplugged' : 'present');
      release();
      if (!done) expect(rig.table.unplug(RAM, BLOCK).done).toBe(true);
      expect(rig.table.tryPin(RAM, PAGE, READ, rig.table.owner('x'))).toBe(0);
    });

    it('4.3 memory hot-unplug, long pin: a map of all RAM unmaps the block when it is told', () => {
      const rig = make();
      const o = rig.table.owner('vfio', true);
      const pins = [RAM, RAM + BLOCK].map(base => {
        const h = rig.table.pinRevocable(base, BLOCK, WRITE, o, () => rig.table.unpin(h));
        return h;
      });
      expect(pins).toHaveLength(2);
      expect(rig.table.unplug(RAM, BLOCK)).toEqual({ done: true, owners: [] });
      expect(rig.table.stats()).toMatchObject({ revoked: 1, current: 512 });
    });

    it('refuses what are no whole pages of RAM, and takes what was unplugged before along', () => {
      const rig = make();
      expect(refusal(() => rig.table.unplug(RAM, 100))).toBe('ERR_PIN_INVALID EINVAL');
      expect(refusal(() => rig.table.unplug(ROM, PAGE))).toBe('ERR_PIN_INVALID EINVAL');
      expect(refusal(() => rig.table.plug(RAM, PAGE))).toBe('ERR_PIN_INVALID EINVAL');
      expect(rig.table.unplug(RAM, PAGE).done && rig.table.unplug(RAM, BLOCK).done).toBe(true);
    });
  });

  describe('hot-plug', () => {
    it('4.3 hot-plug: listeners are told before the guest is, and may pin what comes', () => {
      const rig = make();
      rig.table.startUnplugged(RAM + BLOCK, BLOCK);
      const o = rig.table.owner('map');
      rig.table.addPlugListener({
        plug: (base, length) => void rig.table.pin(base, length, LONG_WRITE, o),
        unplug: () => undefined,
      });
      expect(rig.table.plug(RAM + BLOCK, BLOCK)).toEqual({ done: true, veto: undefined });
      expect(rig.table.stats()).toMatchObject({ currentLong: 512 });
    });

    it('4.3 hot-plug: a veto undoes what earlier listeners did', () => {
      const rig = make({ limits: { longtermBytes: BLOCK - 1 } });
      rig.table.startUnplugged(RAM, BLOCK);
      const told: string[] = [];
      rig.table.addPlugListener({ plug: () => void told.push('plug'), unplug: () => void told.push('unplug') });
      rig.table.addPlugListener({
        plug: (base, length) => void rig.table.pin(base, length, LONG, rig.table.owner('map')),
        unplug: () => void told.push('never told'),
      });
      const { done, veto } = rig.table.plug(RAM, BLOCK);
      expect(done).toBe(false);
      expect(veto).toMatchObject({ code: 'ERR_MEMLOCK_LIMIT' });
      expect(told).toEqual(['plug', 'unplug']);
      expect(rig.table.page(RAM)?.state).toBe('unplugged');
      expect(rig.table.stats().current).toBe(0);
    });
  });

  describe('snapshot and copy-on-write fork', () => {
    it.each(COLUMNS)('4.3 snapshot, fork, %s', async (column, flags) => {
      const rig = make();
      const cpu = vcpu(rig);
      fill(rig);
      const release = pinned(rig, flags);
      const waiting = forkMemory(rig.table, cpu, { timeoutMs: 30 });
      if (column === 'short pin') {
        await expect(waiting).rejects.toMatchObject({
          code: 'ERR_PINNED',
          details: { errno: 'EBUSY', owners: ['holder'] },
        });
        release();
        return;
      }
      const fork = await waiting;
      // A long pin's page was copied at once, since its holder says nothing; others are shared.
      expect(fork.ownBytes).toBe(column === 'long pin' ? PAGE : 0);
      if (column === 'long pin') rig.memory.setU8(RAM + PAGE, 99);
      cpu.write(RAM, 88);
      rig.table.borrow(RAM + 2 * PAGE, 1, 'w')![0] = 77;
      rig.table.discard(RAM + 3 * PAGE, PAGE, 'balloon');
      const seen = new Uint8Array(4 * PAGE);
      fork.read(RAM, seen);
      expect([0, 1, 2, 3].map(p => seen[p * PAGE])).toEqual([1, 2, 3, 4]);
      fork.write(RAM + PAGE - 1, Uint8Array.of(5, 6));
      fork.read(RAM, seen);
      expect([seen[PAGE - 1], seen[PAGE]]).toEqual([5, 6]);
      expect(rig.memory.u8(RAM + PAGE - 1)).toBe(0);
      // Handles stay with the parent.
      release();
      expect(rig.table.stats().current).toBe(0);
      fork.close();
      expect(refusal(() => fork.read(RAM, seen))).toBe('ERR_STATE');
      cpu.write(RAM, 1);
    });

    it('4.3 snapshot, short pin: waits for the last, meanwhile new pins get EBUSY, afterwards they are welcome', async () => {
      const rig = make();
      const release = pinned(rig, READ);
      const waiting = forkMemory(rig.table, vcpu(rig), { timeoutMs: 10_000 });
      expect(refusal(() => pinned(rig, READ))).toBe('ERR_PINNED EBUSY');
      setTimeout(release, 5);
      const fork = await waiting;
      pinned(rig, WRITE)();
      expect(fork.ownBytes).toBe(PAGE);
      fork.close();
    });

    it('4.3 snapshot, long pin: of a device that cannot be stopped: EOPNOTSUPP', async () => {
      const rig = make();
      rig.table.pin(RAM, PAGE, LONG_WRITE, rig.table.owner('vfio', true));
      const unsupported = { code: 'ERR_PIN_UNSUPPORTED', details: { errno: 'EOPNOTSUPP', owners: ['vfio'] } };
      await expect(forkMemory(rig.table, vcpu(rig), { timeoutMs: 10 })).rejects.toMatchObject(unsupported);
      // Another thread's device is no different, but for its name.
      const other = new PinTable({ memory: rig.memory, state: rig.table.share() });
      await expect(forkMemory(other, vcpu(rig), { timeoutMs: 10 })).rejects.toMatchObject({
        code: 'ERR_PIN_UNSUPPORTED',
        details: { owners: ['another thread'] },
      });
    });

    it('4.3 fork: with another thread that may write unseen, all pages are copied at once; what is no memory never', async () => {
      const rig = make();
      fill(rig);
      const other = new PinTable({ memory: rig.memory, state: rig.table.share() });
      const cpu = vcpu(rig);
      using fork = await forkMemory(rig.table, cpu, { timeoutMs: 10 });
      expect(fork.ownBytes).toBe(RAM_SIZE + 2 * PAGE);
      other.borrow(RAM, 1, 'w')![0] = 99;
      cpu.announce(ROM + PAGE);
      expect(fork.ownBytes).toBe(RAM_SIZE + 2 * PAGE);
      const seen = new Uint8Array(1);
      fork.read(RAM, seen);
      expect(seen).toEqual(Uint8Array.of(1));
    });

    it('ends when it is told to', async () => {
      const rig = make();
      pinned(rig, READ);
      const signal = AbortSignal.timeout(5);
      await expect(forkMemory(rig.table, vcpu(rig), { timeoutMs: 10_000, signal })).rejects.toMatchObject({
        name: 'TimeoutError',
      });
    });
  });

  it.each(COLUMNS)('4.3 dirty log, %s', (column, flags) => {
    const rig = make();
    const log = rig.table.dirty.start();
    // vCPUs' writes come from their source.
    let written = true;
    rig.table.dirty.addSource({
      start: () => undefined,
      stop: () => undefined,
      collectCpu: sink => {
        if (written) sink.markDirty(RAM + 3 * PAGE, 1);
        written = false;
      },
    });
    const release = pinned(rig, flags);
    const bits = new Uint32Array(1);
    const round = () => {
      log.collect(RAM, 4 * PAGE, bits);
      return bits[0];
    };
    const held = column === 'not pinned' ? 0 : 0b0010;
    expect([round(), round()]).toEqual([0b1000 | held, held]);
    release();
    expect([round(), round()]).toEqual([held, 0]);
    log.stop();
  });

  describe('removal of memory', () => {
    it.each(COLUMNS)('4.3 remove or move memslot, %s: still memory is waited for', async (column, flags) => {
      const rig = make();
      const release = pinned(rig, flags);
      const moved = rig.table.drained(RAM, BLOCK, { timeoutMs: 20 }, () => rig.table.unplug(RAM, BLOCK));
      if (column === 'short pin') await expect(moved).rejects.toMatchObject({ code: 'ERR_PINNED' });
      else expect((await moved).done).toBe(column === 'not pinned');
      release();
      expect(rig.table.tryPin(RAM + BLOCK, PAGE, READ, rig.table.owner('x'))).not.toBe(0);
    });
  });

  it('4.3 guest reset, VM stop: an owner that is gone holds nothing, and others keep theirs', () => {
    const rig = make();
    const gone = rig.table.owner('disk0');
    rig.table.pin(RAM, PAGE, WRITE, gone);
    rig.table.pin(RAM, BLOCK, LONG, gone);
    const kept = rig.table.pin(RAM, BLOCK, LONG, rig.table.owner('vfio', true));
    expect(rig.table.releaseOwner(gone)).toBe(2);
    expect(rig.table.leaks()).toEqual([{ owner: 'vfio', pages: 512 }]);
    rig.table.unpin(kept);
    expect(rig.table.leaks()).toEqual([]);
  });

  it.each(COLUMNS)('4.3 DMA read from ROM, write to ROM, %s', (_column, flags) => {
    const { table, memory } = make();
    const o = table.owner('x');
    if (flags !== 0) table.pin(ROM, PAGE, flags & ~FOLL_WRITE, o);
    memory.setU8(ROM, 5);
    expect(table.borrow(ROM, 4, 'r')?.[0]).toBe(5);
    expect(table.view(table.pin(ROM, 4, READ, o))?.[0]).toBe(5);
    expect(table.borrow(ROM, 4, 'w')).toBeUndefined();
    expect(table.lastErrno).toBe('EPERM');
    expect(refusal(() => table.pin(ROM, 4, WRITE, o))).toBe('ERR_PIN_PERMISSION EPERM');
    expect(memory.u8(ROM)).toBe(5);
  });

  it.each([READ, WRITE, LONG, LONG_WRITE])('4.3 DMA to MMIO or a hole: EFAULT (flags %i)', flags => {
    const { table } = make();
    for (const a of [0, ROM + PAGE, RAM - PAGE]) {
      expect(refusal(() => table.pin(a, PAGE, flags, table.owner('x')))).toBe('ERR_PIN_FAULT EFAULT');
      expect(table.borrow(a, PAGE, 'r')).toBeUndefined();
    }
  });

  describe('quota', () => {
    it('4.3 quota exhausted, long pin: limit - 1, limit, limit + 1; the error has the numbers, nothing is pinned', () => {
      const { table } = make({ limits: { longtermBytes: 3 * PAGE } });
      const o = table.owner('edu0');
      const two = table.pin(RAM, 2 * PAGE, LONG, o);
      table.unpin(table.pin(RAM, PAGE, LONG, o));
      try {
        table.pin(RAM + BLOCK, 2 * PAGE, LONG_WRITE, o);
        expect.unreachable();
      } catch (e) {
        expect(e).toMatchObject({
          code: 'ERR_MEMLOCK_LIMIT',
          details: {
            errno: 'ENOMEM',
            owner: 'edu0',
            limitName: 'long-term',
            needed: 2 * PAGE,
            used: 2 * PAGE,
            limit: 3 * PAGE,
          },
        });
        expect((e as Error).message).toMatch(/8192 bytes more .* 12288 bytes, of which 8192/);
      }
      expect(table.maybePinned(RAM + BLOCK, 2 * PAGE)).toBe(false);
      expect(table.stats().current).toBe(2);
      table.unpin(two);
      table.pin(RAM, 3 * PAGE, LONG, o);
    });

    it('4.3 quota exhausted, long pin: RLIMIT_MEMLOCK counts what a device of the host locks, and only that', () => {
      const { table } = make({ limits: { memlockBytes: PAGE } });
      table.pin(RAM, BLOCK, LONG, table.owner('edu0'));
      const vfio = table.owner('vfio', true);
      table.unpin(table.pin(RAM, PAGE, LONG, vfio));
      expect(refusal(() => table.pin(RAM, 2 * PAGE, LONG, vfio))).toBe('ERR_MEMLOCK_LIMIT ENOMEM');
      table.unpin(table.pin(RAM, PAGE, LONG, vfio));
      expect(table.stats()).toMatchObject({ currentLong: 512 });
    });

    it('4.3 quota exhausted, short pin: its own limit of what is in flight, and none for borrows', () => {
      const { table } = make({ limits: { shortBytes: 2 * PAGE, longtermBytes: 0 } });
      const o = table.owner('x');
      const h = table.pin(RAM, 2 * PAGE, WRITE, o);
      expect(refusal(() => table.pin(RAM, 1, READ, o))).toBe('ERR_MEMLOCK_LIMIT ENOMEM');
      expect(table.borrow(RAM, RAM_SIZE, 'w')).toHaveLength(RAM_SIZE);
      table.unpin(h);
      table.unpin(table.pin(RAM, 1, READ, o));
    });
  });

  it('takes at most 32 MiB for 3 GiB of RAM', () => {
    const ram = { kind: 'ram', base: RAM, size: 3 * 2 ** 30, bytes: new Uint8Array(0) } as const;
    expect(sharedState(new PageIndex([ram])).buffer.byteLength).toBeLessThanOrEqual(32 * 2 ** 20);
  });
});
