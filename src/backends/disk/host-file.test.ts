import * as fs from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FileCalls, HostFile } from './host-file.ts';
import { Pace } from './pace.ts';

type Done = (error: Error | null, count: number) => void;
const failure = (code: string) => Object.assign(new Error(code), { code });

/** Calls on an array that transfer as much, or fail, as `behave` says. */
function host(content: Uint8Array, behave: (wanted: number) => number | Error = n => n) {
  const counts = { inPlace: 0, elsewhere: 0 };
  const transfer = (views: readonly Uint8Array[], position: number, write: boolean): number => {
    const wanted = views.reduce((n, v) => n + v.length, 0);
    const answer = behave(wanted);
    if (typeof answer !== 'number') throw answer;
    let left = Math.min(answer, Math.max(content.length - position, 0));
    let at = position;
    for (const v of views) {
      const n = Math.min(v.length, left);
      if (write && n > 0) content.set(v.subarray(0, n), at);
      else v.set(content.subarray(at, at + n));
      at += n;
      left -= n;
    }
    return at - position;
  };
  const sync = (write: boolean) => (_fd: number, views: Uint8Array[], position: number) => {
    counts.inPlace++;
    return transfer(views, position, write);
  };
  const async = (write: boolean) => (_fd: number, views: Uint8Array[], position: number, done: Done) => {
    counts.elsewhere++;
    queueMicrotask(() => {
      try {
        done(null, transfer(views, position, write));
      } catch (error) {
        done(error as Error, 0);
      }
    });
  };
  const one = (write: boolean) => (fd: number, view: Uint8Array, _o: number, _l: number, position: number) =>
    sync(write)(fd, [view], position);
  const calls = {
    ...fs,
    readSync: one(false),
    writeSync: one(true),
    readvSync: sync(false),
    writevSync: sync(true),
    readv: async(false),
    writev: async(true),
    closeSync: () => undefined,
  } as unknown as FileCalls;
  return { calls, counts };
}

describe('HostFile', () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 5 });

  it.each([true, false])('gets everything through short and interrupted calls (synchronous: %s)', async synchronous => {
    const answers = fc.infiniteStream(fc.integer({ min: -2, max: 40 }));
    await fc.assert(
      fc.asyncProperty(parts, fc.nat(20), answers, async (from, offset, stream) => {
        const content = new Uint8Array(300);
        const { calls } = host(content, wanted => {
          const n = stream.next().value as number;
          if (n < 0) return failure(n === -1 ? 'EINTR' : 'EAGAIN');
          return Math.min(wanted, Math.max(n, 1));
        });
        // Each call takes a second, so all but the first are asynchronous.
        let time = 0;
        const file = new HostFile(-1, 300, { synchronous, calls, now: () => (time += 1000) });
        await file.read(0, [new Uint8Array(1)]);
        await file.write(0, [new Uint8Array(1)]);
        await file.write(offset, from);
        const all = Uint8Array.from(from.flatMap(p => [...p]));
        expect(content.slice(offset, offset + all.length)).toEqual(all);
        const into = from.map(p => new Uint8Array(p.length));
        await file.read(offset, into);
        expect(into).toEqual(from);
      }),
      { numRuns: 100 },
    );
  });

  it('reads zeroes behind the end, or fails', async () => {
    const { calls } = host(Uint8Array.of(1, 2, 3));
    const file = new HostFile(-1, 3, { calls, synchronous: true });
    const into = new Uint8Array(5).fill(9);
    file.read(1, [into]);
    expect([...into]).toEqual([2, 3, 0, 0, 0]);
    expect(() => file.read(1, [into], 'error')).toThrow('shorter');
    expect(() => file.write(9, [into])).toThrow('nothing');
  });

  it('gives up on a call that never gets through', () => {
    const { calls, counts } = host(new Uint8Array(9), () => failure('EAGAIN'));
    expect(() => new HostFile(-1, 9, { calls }).read(0, [new Uint8Array(1)])).toThrow('EAGAIN');
    expect(counts.inPlace).toBe(100);
  });

  it('does small requests in place while the host is fast, and large ones elsewhere', async () => {
    const { calls, counts } = host(new Uint8Array(200 * 1024));
    let time = 0;
    let step = 0.01;
    const file = new HostFile(-1, 200 * 1024, { calls, now: () => (time += step) });
    const small = () => file.read(0, [new Uint8Array(4096)]);
    for (let i = 0; i < 100; i++) expect(small()).toBeUndefined();
    const large = file.read(0, [new Uint8Array(128 * 1024 + 1)]);
    expect(file.inFlight).toBe(1);
    await large;
    expect([counts.inPlace, counts.elsewhere, file.inFlight]).toEqual([100, 1, 0]);
    step = 5;
    expect(small()).toBeUndefined();
    for (let i = 0; i < 32; i++) expect(await small()).toBe(undefined);
    expect(counts.elsewhere).toBe(33);
    // The next one tries.
    step = 0.01;
    for (let i = 0; i < 50; i++) expect(small()).toBeUndefined();
    // Writes are paced by themselves.
    expect(file.write(0, [new Uint8Array(1)])).toBeUndefined();
  });

  it('keeps at most 16 transfers at the thread pool, and close() waits for all', async () => {
    const { calls } = host(new Uint8Array(2 ** 18));
    const pending: (() => void)[] = [];
    const readv = calls.readv as unknown as (...args: unknown[]) => void;
    const slow = {
      ...calls,
      readv: (...args: unknown[]) => pending.push(() => readv(...args)),
    } as unknown as FileCalls;
    const file = new HostFile(-1, 2 ** 18, { calls: slow });
    const reads = Array.from({ length: 40 }, () => file.read(0, [new Uint8Array(2 ** 17 + 1)]));
    let closed = false;
    const close = file.close().then(() => {
      closed = true;
    });
    for (let i = 0; i < 40; i++) {
      for (let n = 0; n < 10; n++) await null;
      expect(closed).toBe(false);
      expect(pending.length).toBe(Math.min(16, 40 - i));
      pending.shift()!();
    }
    await Promise.all(reads);
    await close;
    expect(() => file.read(0, [new Uint8Array(1)])).toThrow('closed');
    expect(() => file.sync()).toThrow('closed');
  });

  it('never claims durability after a sync that failed', async () => {
    let fails = true;
    const names: string[] = [];
    const sync = (name: string) => (_fd: number, done: (e: Error | null) => void) => {
      names.push(name);
      queueMicrotask(() => done(fails ? failure('EIO') : null));
    };
    const { calls } = host(new Uint8Array(100));
    const file = new HostFile(-1, 50, {
      calls: { ...calls, fsync: sync('fsync'), fdatasync: sync('fdatasync') } as unknown as FileCalls,
    });
    fails = false;
    await file.sync();
    file.write(40, [new Uint8Array(20)]);
    await file.sync();
    await file.sync();
    // The file grew once.
    expect(names).toEqual(['fdatasync', 'fsync', 'fdatasync']);
    fails = true;
    await expect(file.sync()).rejects.toThrow('EIO');
    fails = false;
    expect(() => file.sync()).toThrow('EIO');
  });
});

describe('Pace', () => {
  it('tries a host that stays slow less and less often', () => {
    const pace = new Pace();
    const skipped = () => {
      let n = 0;
      while (!pace.mayBlock()) n++;
      return n;
    };
    const runs = [];
    for (let i = 0; i < 8; i++) {
      pace.took(3);
      runs.push(skipped());
    }
    expect(runs).toEqual([32, 64, 128, 256, 512, 1024, 1024, 1024]);
    pace.took(1);
    expect(skipped()).toBe(0);
    pace.took(3);
    expect(skipped()).toBe(32);
  });
});
