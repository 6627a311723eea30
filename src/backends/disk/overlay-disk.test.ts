import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FileCalls, HostFile } from './host-file.ts';
import type { ImageLock } from './lock.ts';
import { OverlayDisk } from './overlay-disk.ts';
import { CLUSTER, checkHeader, newHeader } from './overlay-format.ts';
import { OverlayTable } from './overlay-table.ts';

const SECTOR = 512;
/** Three and a half clusters. */
const SIZE = 3 * CLUSTER + CLUSTER / 2;
const lock: ImageLock = { release: () => undefined };

/** A file in memory whose host may lose, at a crash, any sectors that were not synced. */
class CrashFile {
  data = new Uint8Array(16 * CLUSTER);
  end = 0;
  full = false;
  /** What has been written since the last sync. */
  #unsynced: { offset: number; bytes: Uint8Array }[] = [];
  #durable = new Uint8Array(16 * CLUSTER);

  constructor(
    content: Uint8Array,
    /** Calls without Sync end in a later turn, in any order. */
    readonly turn: () => Promise<void> = () => Promise.resolve(),
  ) {
    this.data.set(content);
    this.#durable.set(content);
    this.end = content.length;
  }

  /** The file after a crash: what was synced, and of the rest the sectors that `kept` picks. */
  crashed(kept: () => boolean): Uint8Array {
    const image = this.#durable.slice();
    for (const { offset, bytes } of this.#unsynced) {
      for (let at = 0; at < bytes.length; ) {
        const next = Math.min(bytes.length, at + SECTOR - ((offset + at) % SECTOR));
        if (kept()) image.set(bytes.subarray(at, next), offset + at);
        at = next;
      }
    }
    return image;
  }

  #read(views: readonly Uint8Array[], position: number): number {
    let at = position;
    for (const v of views) {
      const bytes = this.data.subarray(at, Math.min(at + v.length, this.end));
      v.set(bytes);
      at += bytes.length;
    }
    return Math.max(at - position, 0);
  }

  #write(views: readonly Uint8Array[], position: number): number {
    if (this.full && position >= CLUSTER) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    let at = position;
    for (const v of views) {
      this.#unsynced.push({ offset: at, bytes: v.slice() });
      this.data.set(v, at);
      at += v.length;
    }
    this.end = Math.max(this.end, at);
    return at - position;
  }

  #sync(writes: number): void {
    for (const { offset, bytes } of this.#unsynced.splice(0, writes)) this.#durable.set(bytes, offset);
  }

  readonly calls = {
    readSync: (_fd: number, view: Uint8Array, _o: number, _l: number, position: number) => this.#read([view], position),
    readvSync: (_fd: number, views: Uint8Array[], position: number) => this.#read(views, position),
    writeSync: (_fd: number, view: Uint8Array, _o: number, _l: number, position: number) =>
      this.#write([view], position),
    writevSync: (_fd: number, views: Uint8Array[], position: number) => this.#write(views, position),
    readv: (_fd: number, views: Uint8Array[], position: number, done: (e: unknown, n: number) => void) =>
      void this.turn().then(() => done(null, this.#read(views, position))),
    writev: (_fd: number, views: Uint8Array[], position: number, done: (e: unknown, n: number) => void) =>
      void this.turn().then(() => {
        try {
          done(null, this.#write(views, position));
        } catch (error) {
          done(error, 0);
        }
      }),
    fdatasync: (_fd: number, done: (e: unknown) => void) => {
      // Only what was there at the beginning is sure to be durable.
      const writes = this.#unsynced.length;
      void this.turn().then(() => {
        this.#sync(writes);
        done(null);
      });
    },
    fsync: (fd: number, done: (e: unknown) => void) => this.calls.fdatasync(fd, done),
    fdatasyncSync: () => this.#sync(this.#unsynced.length),
    fsyncSync: () => this.#sync(this.#unsynced.length),
    closeSync: () => undefined,
  } as unknown as FileCalls;
}

const baseContent = Uint8Array.from({ length: SIZE }, (_, i) => 1 + ((i >> 9) % 100));
const fingerprint = { size: SIZE, mtime: 5n };

function openOverlay(overlay: CrashFile, synchronous: boolean, base = new CrashFile(baseContent, overlay.turn)) {
  const used = checkHeader(overlay.data.slice(0, 4096), fingerprint, 'overlay');
  // With a clock that stands still small requests are done in place; one that leaps makes them all asynchronous.
  let time = 0;
  const options = (calls: FileCalls) => ({ synchronous, calls, now: () => (time += 1000) });
  return new OverlayDisk({
    base: new HostFile(-1, SIZE, options(base.calls)),
    overlay: new HostFile(-1, overlay.end, options(overlay.calls)),
    size: SIZE,
    used,
    lock,
  });
}

async function contentOf(disk: OverlayDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE);
  await disk.read(0, [bytes]);
  return bytes;
}

type Operation = { kind: 'write' | 'zeroes' | 'discard' | 'flush'; sector: number; count: number; fill: number };
const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'zeroes', 'discard', 'flush'),
  sector: fc.oneof(fc.nat(SIZE / SECTOR - 1), fc.constantFrom(0, 128, 256, 384)),
  count: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.constantFrom(64, 128, 256, 448)),
  fill: fc.integer({ min: 128, max: 255 }),
});

function start(
  disk: OverlayDisk,
  { kind, sector, count, fill }: Operation,
): { offset: number; length: number; done: Promise<void> } {
  const offset = sector * SECTOR;
  const length = Math.min(count * SECTOR, SIZE - offset);
  // Two parts, so that framing is never one view.
  const data = new Uint8Array(length).fill(fill);
  const parts = [data.subarray(0, 100), data.subarray(100)];
  const run = {
    write: () => disk.write(offset, parts),
    zeroes: () => disk.writeZeroes(offset, length),
    discard: () => disk.discard(offset, length),
    flush: () => disk.flush(),
  }[kind];
  return { offset, length, done: Promise.resolve(run()) };
}

/** What the model's bytes become; 'discard' empties whole clusters. */
function apply(model: Uint8Array, { kind, fill }: Operation, offset: number, length: number): void {
  const end = offset + length;
  if (kind === 'write') model.fill(fill, offset, end);
  if (kind === 'zeroes') model.fill(0, offset, end);
  if (kind !== 'discard') return;
  const first = Math.ceil(offset / CLUSTER) * CLUSTER;
  const last = end === SIZE ? end : Math.floor(end / CLUSTER) * CLUSTER;
  if (last > first) model.fill(0, first, last);
}

describe('OverlayDisk', () => {
  it.each([true, false])('behaves as an array (synchronous: %s)', async synchronous => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 20 }), async operations => {
        let file = new CrashFile(newHeader(fingerprint));
        let disk = openOverlay(file, synchronous);
        const model = baseContent.slice();
        for (const [i, o] of operations.entries()) {
          const { offset, length, done } = start(disk, o);
          await done;
          apply(model, o, offset, length);
          if (i % 7 === 6) {
            await disk.close();
            file = new CrashFile(file.data.slice(0, file.end));
            disk = openOverlay(file, synchronous);
          }
        }
        expect(Buffer.compare(await contentOf(disk), model)).toBe(0);
        // One slot for each cluster of the disk at most, however often it was discarded.
        expect(file.end).toBeLessThanOrEqual(5 * CLUSTER);
      }),
      { numRuns: 60 },
    );
  });

  it('does writes to one cluster one after the other while it is being copied', async () => {
    const late: (() => void)[] = [];
    const turn = () => new Promise<void>(resolve => late.push(resolve));
    const disk = openOverlay(new CrashFile(newHeader(fingerprint), turn), false);
    // The first two calls are in place and slow; from then on everything takes turns.
    await disk.read(0, [new Uint8Array(SECTOR)]);
    const filling = start(disk, { kind: 'write', sector: 400, count: 8, fill: 200 }).done;
    while (late.length > 0) {
      late.pop()!();
      for (let i = 0; i < 20; i++) await null;
    }
    await filling;
    // Sectors of one cluster, all at once, and a read in the middle; the turns end in reverse.
    const model = baseContent.slice();
    model.fill(200, 400 * SECTOR, 408 * SECTOR);
    const all = Array.from({ length: 24 }, (_, i) => {
      const o: Operation = { kind: 'write', sector: 128 + i * 5, count: 3, fill: 130 + i };
      const { offset, length, done } = start(disk, o);
      apply(model, o, offset, length);
      return done;
    });
    const read = new Uint8Array(SECTOR);
    all.push(Promise.resolve(disk.read(127 * SECTOR, [read])));
    expect(disk.inFlight).toBeGreaterThan(20);
    while (disk.inFlight > 0) {
      late.pop()?.();
      for (let i = 0; i < 20; i++) await null;
    }
    await Promise.all(all);
    const content = contentOf(disk);
    while (disk.inFlight > 0) {
      late.pop()?.();
      for (let i = 0; i < 20; i++) await null;
    }
    expect(Buffer.compare(await content, model)).toBe(0);
    expect(read[0]).toBe(baseContent[127 * SECTOR]);
  });

  it('keeps what was flushed through any crash of the host, and is never damaged', async () => {
    const seeds = fc.integer({ min: 1, max: 2 ** 31 - 1 });
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 14 }), seeds, fc.nat(60), async (some, seed, turns) => {
        const random = xorshift(seed);
        // A crash in the middle of a flush is the hardest, so half of them are.
        const operations = random() % 2 ? some : [...some, { kind: 'flush', sector: 0, count: 1, fill: 0 } as const];
        const file = new CrashFile(newHeader(fingerprint), async () => {
          for (let i = random() % 4; i > 0; i--) await null;
        });
        const disk = openOverlay(file, false);
        // The values that each sector may have: those that were flushed or came later.
        const allowed = Array.from({ length: SIZE / SECTOR }, (_, i) => new Set([baseContent[i * SECTOR]!]));
        const model = baseContent.slice();
        let unfinished: Promise<void> | undefined;
        for (const [i, o] of operations.entries()) {
          const last = i === operations.length - 1;
          const { offset, length, done } = start(disk, o);
          apply(model, o, offset, length);
          for (let s = 0; s < SIZE / SECTOR; s++) allowed[s]!.add(model[s * SECTOR]!);
          if (last) {
            // The crash comes in the middle of it.
            unfinished = done;
            for (let n = turns; n > 0; n--) await null;
            break;
          }
          await done;
          if (o.kind === 'flush') {
            for (let s = 0; s < SIZE / SECTOR; s++) allowed[s] = new Set([model[s * SECTOR]!]);
          }
        }
        const image = file.crashed(() => random() % 2 === 0);
        await unfinished;
        const after = await contentOf(openOverlay(new CrashFile(image), true));
        for (let s = 0; s < SIZE / SECTOR; s++) {
          for (const at of [s * SECTOR, s * SECTOR + SECTOR - 1]) {
            if (!allowed[s]!.has(after[at]!)) throw new Error(`sector ${s}: ${after[at]} not in ${[...allowed[s]!]}`);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  it('survives a full host disk and goes on when there is space', async () => {
    const file = new CrashFile(newHeader(fingerprint));
    const disk = openOverlay(file, true);
    file.full = true;
    const part = new Uint8Array(SECTOR).fill(200);
    for (let i = 0; i < 3; i++) expect(() => disk.write(SECTOR, [part])).toThrow('full');
    expect(() => disk.write(0, [new Uint8Array(2 * CLUSTER)])).toThrow('full');
    expect(Buffer.compare(await contentOf(disk), baseContent)).toBe(0);
    file.full = false;
    disk.write(SECTOR, [part]);
    disk.flush();
    const model = baseContent.slice();
    model.set(part, SECTOR);
    expect(Buffer.compare(await contentOf(disk), model)).toBe(0);
    disk.write(2 * CLUSTER, [part]);
    // Failed writes cost no space.
    expect(file.end).toBe(3 * CLUSTER);
  });

  it('makes an I/O error of an entry that refers to nothing', () => {
    const file = new CrashFile(newHeader(fingerprint));
    new DataView(file.data.buffer).setUint32(4096 + 8, 2 * 77, true);
    file.end = 4096 + 16;
    const disk = openOverlay(file, true);
    expect(() => disk.read(CLUSTER, [new Uint8Array(SECTOR)])).toThrow('damaged');
    expect(disk.read(0, [new Uint8Array(SECTOR)])).toBeUndefined();
  });
});

describe('OverlayTable', () => {
  it('forgets pages that are unchanged, and none that are', () => {
    let reads = 0;
    const table = new OverlayTable({ readSync: () => void reads++ });
    for (let page = 0; page < 2000; page += 2) table.set(page * 512, page + 2);
    for (let page = 1; page < 4000; page += 2) expect(table.get(page * 512)).toBe(0);
    expect(reads).toBe(3000);
    expect(table.dirtyPages).toBe(1000);
    for (let page = 0; page < 2000; page += 2) expect(table.get(page * 512)).toBe(page + 2);
    expect(reads).toBe(3000);
    const changed = table.begin();
    expect([changed.length, table.dirtyPages]).toEqual([1000, 0]);
    // They did not get into the file, so they still count.
    table.end(false);
    expect(table.dirtyPages).toBe(1000);
    table.begin();
    table.set(0, 9);
    table.end(true);
    expect(table.dirtyPages).toBe(1);
  });
});

function xorshift(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}
