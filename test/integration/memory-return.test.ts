// Guest memory and the system: what is discarded goes back, and no child process gets a copy. By RSS, on Linux.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { A64Engine } from '../../src/engines/emu/a64/engine.ts';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';
import { hostMemory, memoryWithoutAddon } from '../../src/engines/host/host-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from '../../src/memory/pin-types.ts';
import { createHostClock } from '../../src/time/host-clock.ts';

const { addon, reason } = loadAddon();
if (addon === undefined) console.log(`skipped: ${reason}`);
const withAddon = test.skipIf(addon === undefined);

const MIB = 2 ** 20;
const RAM_BASE = 0x4000_0000;
const RSS = /^VmRSS:\s+(\d+) kB$/m;
const rss = () => Number(RSS.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;

/** Keeps large memories alive until the test is over: a collection in between would look like a discard. */
const alive: unknown[] = [];
afterEach(() => {
  alive.length = 0;
});

function sharedMemory(mib: number): Uint8Array {
  const memory = new WebAssembly.Memory({ initial: 16 * mib, maximum: 16 * mib, shared: true });
  alive.push(memory);
  return new Uint8Array(memory.buffer);
}

function engine(mib: number): A64Engine {
  const e = new A64Engine({
    cpus: 1,
    ramBase: RAM_BASE,
    ramBytes: mib * MIB,
    counterHz: 62_500_000,
    hostMemory: hostMemory(),
    clock: { kind: 'host', clock: createHostClock() },
  });
  alive.push(e);
  return e;
}

/** The lines of /proc/self/smaps about the mapping that holds the first byte of `bytes`. */
function mapping(bytes: Uint8Array): string {
  const at = new BigUint64Array(1);
  const address = host().addressOf(bytes);
  host().storeAddress(at, 0, address);
  host().releaseAddress(address);
  const all = readFileSync('/proc/self/smaps', 'utf8').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const found = all.find(m => {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(m)!;
    return BigInt(`0x${from}`) <= at[0]! && at[0]! < BigInt(`0x${to}`);
  });
  return found!;
}

/**
 * Starts a Node and returns, in bytes, its RSS as it reads it itself, and the largest that its process ever had:
 * between fork and exec that is what the fork copied (exec_mmap() of the kernel hands the maximum on).
 */
function child(): { readonly now: number; readonly ever: number } {
  const script = `
    const now = Number(/^VmRSS:\\s+(\\d+) kB$/m.exec(require('node:fs').readFileSync('/proc/self/status', 'utf8'))[1]);
    console.log(JSON.stringify({ now: now * 1024, ever: process.resourceUsage().maxRSS * 1024 }));`;
  const r = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', env: {} });
  return JSON.parse(r.stdout);
}

/** What is left of `touched` bytes after `discard`, by RSS. */
function kept(touched: number, discard: () => void): number {
  const before = rss();
  discard();
  return 1 - (before - rss()) / touched;
}

const isZero = (bytes: Uint8Array) => Buffer.compare(bytes, new Uint8Array(bytes.length)) === 0;

describe('discarded memory', () => {
  withAddon('is private and anonymous, goes back by at least 90 %, and reads as zeros', () => {
    const memory = sharedMemory(300).fill(0x5a);
    expect(mapping(memory)).toMatch(/^\S+ rw-p 00000000 00:00 0 *$/m);
    expect(kept(300 * MIB, () => hostMemory().discard(memory, 0, memory.length))).toBeLessThan(0.1);
    for (let at = 0; at < memory.length; at += MIB) expect(isZero(memory.subarray(at, at + MIB))).toBe(true);
    const filled = new Uint8Array(MIB).fill(0x33);
    memory.fill(0x33);
    for (let at = 0; at < memory.length; at += MIB) {
      expect(Buffer.compare(memory.subarray(at, at + MIB), filled)).toBe(0);
    }
  });

  withAddon('of an engine goes back page by page, too; its neighbours stay', () => {
    const e = engine(256);
    expect(e.returnsMemory).toBe(true);
    const ram = e.memory.view(RAM_BASE, 256 * MIB)!.fill(0x77);
    const discard = () => {
      for (let at = 0; at < 256 * MIB; at += 8 * 4096) e.discard(RAM_BASE + at, 7 * 4096);
    };
    expect(kept((256 * MIB * 7) / 8, discard)).toBeLessThan(0.1);
    for (let at = 0; at < 256 * MIB; at += 8 * 4096) {
      if (!isZero(ram.subarray(at, at + 7 * 4096))) throw new Error(`0x${at.toString(16)} is not zero`);
      if (ram[at + 7 * 4096] !== 0x77 || ram[at + 8 * 4096 - 1] !== 0x77) throw new Error('a neighbour has changed');
    }
  });

  test('without the addon is zero, and memory that was never touched stays so', () => {
    const memory = sharedMemory(200);
    memory.fill(1, 0, 4 * MIB);
    const before = rss();
    memoryWithoutAddon.discard(memory, 0, memory.length);
    expect(isZero(memory.subarray(0, 4 * MIB))).toBe(true);
    if (process.platform === 'linux') expect(rss() - before).toBeLessThan(32 * MIB);
  });

  test('must be whole pages of RAM', () => {
    const e = engine(64);
    for (const [base, length] of [
      [RAM_BASE - 4096, 4096],
      [RAM_BASE + 1, 4096],
      [RAM_BASE, 4095],
      [RAM_BASE, 64 * MIB + 4096],
      [RAM_BASE + 4096, 64 * MIB],
      [RAM_BASE, -4096],
      [RAM_BASE, Number.NaN],
      [Number.NaN, 4096],
    ] as const) {
      expect(() => e.discard(base, length)).toThrow(expect.objectContaining({ code: 'ERR_GUEST_ADDRESS' }));
    }
    e.discard(RAM_BASE, 0);
    e.discard(RAM_BASE, 64 * MIB);
  });

  test('has been written, to those who track: once, and they saw what it was', () => {
    const e = engine(64);
    const ram = e.memory.view(RAM_BASE, 64 * MIB)!;
    ram[0x3000] = 9;
    const told: number[][] = [];
    e.writeTracker.start();
    const protection = e.writeTracker.protect((base, length) => told.push([base, length, ram[0x3000]!]));
    e.discard(RAM_BASE + 0x2000, 0x3000);
    e.discard(RAM_BASE + 0x1000, 0x5000);
    protection[Symbol.dispose]();
    e.discard(RAM_BASE + 0x10000, 0x1000);
    expect(told).toEqual([
      [RAM_BASE + 0x2000, 0x3000, 9],
      [RAM_BASE + 0x1000, 0x1000, 0],
      [RAM_BASE + 0x5000, 0x1000, 0],
    ]);
    const written: number[][] = [];
    e.writeTracker.collectCpu({ markDirty: (base, length) => written.push([base, length]) });
    expect(written).toEqual([
      [RAM_BASE + 0x1000, 0x5000],
      [RAM_BASE + 0x10000, 0x1000],
    ]);
  });
});

describe('a child process', () => {
  withAddon('has a copy of memory that is not kept from it, and none of memory that is', () => {
    const [PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS] = [3, 0x22];
    const bytes = new Uint8Array(host().mmap(256 * MIB, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)).fill(1);
    alive.push(bytes);
    // The measurement can see it.
    const copied = child().ever;
    expect(copied).toBeGreaterThan(256 * MIB);
    hostMemory().keepFromChildren(bytes);
    expect(child().ever).toBeLessThan(copied - 160 * MIB);
    expect([bytes[0], bytes[bytes.length - 1]]).toEqual([1, 1]);
  });

  withAddon('gets nothing of guest RAM: 256 MiB pinned, a small RSS, and the guest keeps its memory', () => {
    const e = engine(256);
    const pins = new PinTable({ memory: e.memory });
    const pin = pins.pin(RAM_BASE, 256 * MIB, FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM, pins.owner('edu0 DMA'));
    const ram = e.memory.view(RAM_BASE, 256 * MIB)!;
    const untouched = child();
    for (let at = 0; at < ram.length; at += 4096) ram.fill(at >> 12, at, at + 4096);
    expect(mapping(ram)).toMatch(/^VmFlags:.* dc\b/m);
    expect(rss()).toBeGreaterThan(256 * MIB);
    const { now, ever } = child();
    expect(now).toBeLessThan(100 * MIB);
    expect(ever).toBeLessThan(untouched.ever + 32 * MIB);
    for (let at = 0; at < ram.length; at += 4096) {
      if (ram[at] !== ((at >> 12) & 0xff) || ram[at + 4095] !== ram[at])
        throw new Error(`0x${at.toString(16)} changed`);
    }
    pins.unpin(pin);
    expect(pins.leaks()).toEqual([]);
  });
});

describe('madvise', () => {
  withAddon('takes whole pages inside of the view, and advice that it knows', () => {
    const h = host();
    const memory = sharedMemory(1).fill(1);
    const page = h.pageSize();
    expect(page % 4096).toBe(0);
    for (const [offset, length, message] of [
      [1, page, 'not whole pages'],
      [0, page - 1, 'not whole pages'],
      [page, MIB, 'length is out of range'],
      [MIB + 1, 0, 'length is out of range'],
      [-page, page, 'offset is out of range'],
      [0, 2 ** 53, 'length is out of range'],
      [0.5, page, 'offset is out of range'],
    ] as const) {
      expect(() => h.madvise(memory, offset, length, 'MADV_DONTNEED')).toThrow(message);
    }
    // The view begins in the middle of a page.
    expect(() => h.madvise(memory.subarray(8), 0, page, 'MADV_DONTNEED')).toThrow('not whole pages');
    expect(() => h.madvise(memory, 0, page, 'MADV_FREE' as never)).toThrow('unknown advice');
    expect(() => h.madvise(memory, 0, page, 4 as never)).toThrow('must be a string');
    expect(() => h.madvise('x' as never, 0, page, 'MADV_DONTNEED')).toThrow('must be a typed array');
    expect(memory.every(b => b === 1)).toBe(true);
    h.madvise(memory.subarray(2 * page), page, page, 'MADV_DONTNEED');
    expect([memory[3 * page - 1], memory[3 * page], memory[4 * page - 1], memory[4 * page]]).toEqual([1, 0, 0, 1]);
    h.madvise(memory, MIB, 0, 'MADV_DONTNEED');
  });

  withAddon('punches holes into shared mappings only; the error has the name of its errno', () => {
    const h = host();
    const [PROT_READ_WRITE, MAP_SHARED_ANONYMOUS] = [3, 0x21];
    const shared = new Uint8Array(h.mmap(4 * 65_536, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0)).fill(1);
    h.madvise(shared, 65_536, 65_536, 'MADV_REMOVE');
    expect([shared[65_535], shared[65_536], shared[131_071], shared[131_072]]).toEqual([1, 0, 0, 1]);
    expect(() => h.madvise(sharedMemory(1), 0, MIB, 'MADV_REMOVE')).toThrow(
      expect.objectContaining({ code: 'ERR_HOST_CALL', details: { call: 'madvise', errno: 'EINVAL' } }),
    );
  });
});
