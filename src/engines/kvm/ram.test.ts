import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import type { Region } from '../../memory/types.ts';
import type { HostMemory } from '../engine.ts';
import { DirtyRings } from './dirty-ring.ts';
import { guestRam } from './guest-ram.ts';
import { BitmapLog } from './page-log.ts';
import { KvmRam } from './ram.ts';
import { SlotTable } from './slots.ts';
import { KvmSystem } from './system.ts';
import { KvmVm } from './vm.ts';

const PAGE = 4096;
const BLOCK = 2 * 2 ** 20;
const BASE = 0x4000_0000;
const SIZE = 2 * BLOCK;
const PLUG = 0x8000_0000;

let host: FakeHost;
let table: SlotTable;
let ram: KvmRam;
let rings: DirtyRings | undefined;
let regions: Region[];
let discards: [offset: number, length: number][];
let pauses: number;

beforeEach(() => begin(false));

/** @param ringed with the rings of a vCPU, 256 entries, in place of the dirty log. */
function begin(ringed: boolean): void {
  host = new FakeHost();
  const vm = new KvmVm(new KvmSystem(host), 0);
  table = new SlotTable(vm, 16);
  const [main] = guestRam(BASE, SIZE);
  const [hotplug] = guestRam(PLUG, 4 * BLOCK);
  regions = [main!, hotplug!];
  discards = [];
  pauses = 0;
  const pause = () => void pauses++;
  const hostMemory: HostMemory = {
    available: true,
    discard: (bytes, offset, length) => {
      discards.push([offset, length]);
      bytes.fill(0, offset, offset + length);
    },
    keepFromChildren: () => undefined,
  };
  rings = ringed ? DirtyRings.open({ vm, slots: table, entries: 256, pause }) : undefined;
  const fd = vm.createVcpu(0);
  if (rings !== undefined) rings.attach([host.runnerRing(host.runnerCreate([fd], 4096, false, rings.size), 0)]);
  const log = rings ?? new BitmapLog(vm, table);
  ram = new KvmRam({ slots: table, log, regions, hotplug, hostMemory, pause });
}

/** The guest writes a byte. A vCPU whose ring is full leaves the guest before, and the engine answers that. */
function write(address: number): boolean {
  if (host.vm.vcpu(0).ring?.full) rings!.harvest(ram.kept);
  return host.vm.write(address);
}

/** Pages that the log has, by address. */
function dirty(): number[] {
  const pages = new Set<number>();
  ram.collectCpu({
    markDirty: (base, length) => {
      for (let a = base; a < base + length; a += PAGE) pages.add(a);
    },
  });
  return [...pages].sort((a, b) => a - b);
}

const slotsNow = () => [...host.vm.memory.slots.values()].map(s => [s.base, s.size]).sort((a, b) => a[0]! - b[0]!);

describe.each([
  ['the dirty log', false],
  ['dirty rings', true],
])('the pages that are written, by %s,', (_, ringed) => {
  beforeEach(() => begin(ringed));

  it('are every page that a vCPU wrote, once', () => {
    ram.start();
    const pages = fc.array(fc.nat(SIZE / PAGE - 1), { maxLength: 40 });
    fc.assert(
      fc.property(pages, written => {
        for (const p of written) write(BASE + p * PAGE + 17);
        expect(dirty()).toEqual([...new Set(written)].sort((a, b) => a - b).map(p => BASE + p * PAGE));
        expect(dirty()).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it('come as one range where they are neighbours, over words of the bitmap and up to the end of the slot', () => {
    ram.start();
    for (let p = 30; p < 130; p++) write(BASE + p * PAGE);
    write(BASE + SIZE - 1);
    const ranges: [number, number][] = [];
    ram.collectCpu({ markDirty: (base, length) => void ranges.push([base, length]) });
    expect(ranges).toEqual([
      [BASE + 30 * PAGE, 100 * PAGE],
      [BASE + SIZE - PAGE, PAGE],
    ]);
  });

  it('are all of RAM when it was written all over', () => {
    ram.start();
    for (let p = 0; p < SIZE / PAGE; p++) write(BASE + p * PAGE);
    expect(dirty()).toHaveLength(SIZE / PAGE);
  });

  it('are none at the start, and after the end', () => {
    write(BASE);
    ram.start();
    expect(dirty()).toEqual([]);
    write(BASE + PAGE);
    ram.stop();
    expect(dirty()).toEqual([]);
    ram.start();
    expect(dirty()).toEqual([]);
    expect(host.addresses.kept).toBe(0);
  });

  it('include what was given back, which reads as zeros now', () => {
    ram.start();
    write(BASE + 8 * PAGE);
    dirty();
    ram.discard(BASE + 8 * PAGE, 2 * PAGE);
    expect(discards).toEqual([[8 * PAGE, 2 * PAGE]]);
    expect(regions[0]!.bytes[8 * PAGE]).toBe(0);
    expect(dirty()).toEqual([BASE + 8 * PAGE, BASE + 9 * PAGE]);
    ram.stop();
    ram.discard(BASE, PAGE);
    ram.start();
    expect(dirty()).toEqual([]);
  });

  it('are not lost with a slot that is made anew', () => {
    ram.plug(PLUG, BLOCK);
    ram.start();
    write(PLUG + 3 * PAGE);
    write(BASE);
    ram.plug(PLUG + BLOCK, BLOCK);
    write(PLUG + BLOCK);
    expect(dirty()).toEqual([BASE, PLUG + 3 * PAGE, PLUG + BLOCK]);
  });

  it('are told again after each write that follows a collection, and not before', () => {
    ram.start();
    for (const round of [0, 1, 2]) {
      write(BASE + round * PAGE);
      write(BASE + 7 * PAGE);
      expect(dirty()).toEqual([BASE + round * PAGE, BASE + 7 * PAGE]);
      expect(dirty()).toEqual([]);
    }
  });
});

describe('protection', () => {
  it('copies all of RAM before it returns, with no vCPU running', () => {
    write(BASE + 5);
    const copies: [number, number, paused: number][] = [];
    using _ = ram.protect((base, length) => copies.push([base, length, pauses]));
    expect(copies).toEqual([
      [BASE, SIZE, 1],
      [PLUG, 4 * BLOCK, 1],
    ]);
  });
});

describe('a discard', () => {
  it.each([
    ['outside of RAM', 0, PAGE],
    ['beyond the end', BASE + SIZE - PAGE, 2 * PAGE],
    ['of parts of pages', BASE + 1, PAGE],
    ['of a length that is no page', BASE, 100],
    ['of a negative length', BASE, -PAGE],
  ])('%s is refused', (_, base, length) => {
    expect(() => ram.discard(base, length)).toThrow(expect.objectContaining({ code: 'ERR_GUEST_ADDRESS' }));
    expect(discards).toEqual([]);
  });

  it('goes from one region to the next', () => {
    const h = new FakeHost();
    const vm = new KvmVm(new KvmSystem(h), 0);
    const parts = [...guestRam(BASE, BLOCK), ...guestRam(BASE + BLOCK, BLOCK)];
    const seen: [number, number][] = [];
    const slots = new SlotTable(vm, 16);
    const two = new KvmRam({
      slots,
      log: new BitmapLog(vm, slots),
      regions: parts,
      hotplug: undefined,
      hostMemory: { available: true, discard: (_, o, l) => void seen.push([o, l]), keepFromChildren: () => undefined },
      pause: () => undefined,
    });
    two.discard(BASE + BLOCK - PAGE, 3 * PAGE);
    expect(seen).toEqual([
      [BLOCK - PAGE, PAGE],
      [0, 2 * PAGE],
    ]);
  });
});

describe('hot-plug', () => {
  it('begins with nothing of its region', () => {
    expect(slotsNow()).toEqual([[BASE, SIZE]]);
    expect(write(PLUG)).toBe(false);
  });

  it('makes one slot of neighbours, while no vCPU runs', () => {
    ram.plug(PLUG, BLOCK);
    ram.plug(PLUG + 2 * BLOCK, BLOCK);
    expect(slotsNow().slice(1)).toEqual([
      [PLUG, BLOCK],
      [PLUG + 2 * BLOCK, BLOCK],
    ]);
    ram.plug(PLUG + BLOCK, BLOCK);
    expect(slotsNow().slice(1)).toEqual([[PLUG, 3 * BLOCK]]);
    expect(pauses).toBe(3);
  });

  it('has after any changes what is plugged and nothing else, with the bytes of the region', () => {
    const change = fc.record({ first: fc.nat(3), count: fc.integer({ min: 1, max: 4 }), on: fc.boolean() });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), changes => {
        ram.unplug(PLUG, 4 * BLOCK);
        const model = [false, false, false, false];
        for (const { first, count, on } of changes) {
          const end = Math.min(4, first + count);
          model.fill(on, first, end);
          const [base, length] = [PLUG + first * BLOCK, (end - first) * BLOCK];
          if (on) ram.plug(base, length);
          else ram.unplug(base, length);
          expect(model.map((_, i) => write(PLUG + i * BLOCK))).toEqual(model);
        }
        for (const [i, plugged] of model.entries()) {
          regions[1]!.bytes[i * BLOCK] = 0x40 + i;
          const seen = host.vm.memory.read(PLUG + i * BLOCK, 1)?.[0];
          expect(seen).toBe(plugged ? 0x40 + i : undefined);
        }
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    ['parts of blocks', PLUG + PAGE, BLOCK],
    ['a length that is no block', PLUG, PAGE],
    ['beyond the region', PLUG + 3 * BLOCK, 2 * BLOCK],
    ['below it', PLUG - BLOCK, BLOCK],
  ])('of %s is an error of the host', (_, base, length) => {
    expect(() => ram.plug(base, length)).toThrow(expect.objectContaining({ code: 'ERR_INTERNAL' }));
  });

  it('says what to do when no slot is left', () => {
    const h = new FakeHost();
    const vm = new KvmVm(new KvmSystem(h), 0);
    const [hotplug] = guestRam(PLUG, 4 * BLOCK);
    const slots = new SlotTable(vm, 1);
    const small = new KvmRam({
      slots,
      log: new BitmapLog(vm, slots),
      regions: [hotplug!],
      hotplug,
      hostMemory: { available: false, discard: () => undefined, keepFromChildren: () => undefined },
      pause: () => undefined,
    });
    small.plug(PLUG, BLOCK);
    expect(() => small.plug(PLUG + 2 * BLOCK, BLOCK)).toThrow(
      expect.objectContaining({ code: 'ERR_MEMORY_TOO_LARGE', hint: expect.stringContaining('larger pieces') }),
    );
  });
});
