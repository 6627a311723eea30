import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import type { DeviceMemory } from '../../memory/types.ts';
import { KVM_CAP_NR_MEMSLOTS, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from './abi/common.generated.ts';
import { sharedMemory } from './guest-ram.ts';
import { KvmMemorySlots, type LiveSlot, SlotTable } from './slots.ts';
import { KvmSystem } from './system.ts';
import { KvmVm } from './vm.ts';

const PAGE = 4096;
const SLOTS = 8;
const RAM = { ram: true, readOnly: false };
const DEVICE = { ram: false, readOnly: false };

let host: FakeHost;
let vm: KvmVm;
let table: SlotTable;

beforeEach(() => {
  host = new FakeHost();
  host.capabilities.set(KVM_CAP_NR_MEMSLOTS, SLOTS);
  vm = new KvmVm(new KvmSystem(host), 0);
  table = new SlotTable(vm, SLOTS);
});

/** What KVM has, by number. */
const kept = () => [...host.vm.memory.slots].map(([slot, s]) => [slot, s.base, s.size, s.flags]).sort();
const pages = (n: number) => sharedMemory(n * PAGE);

describe('the table of slots', () => {
  it('gives the lowest free number, and none when all are in use', () => {
    const all = Array.from({ length: SLOTS }, (_, i) => table.add(i * PAGE, pages(1), RAM));
    expect(all.map(s => s?.slot)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(table.add(SLOTS * PAGE, pages(1), RAM)).toBeUndefined();
    table.remove(all[5]!);
    table.remove(all[2]!);
    expect(table.add(0x10_0000, pages(1), RAM)?.slot).toBe(2);
    expect(host.vm.memory.slots.size).toBe(SLOTS - 1);
  });

  it('maps the very bytes that it is given', () => {
    const bytes = pages(2);
    table.add(0x10_0000, bytes.subarray(PAGE), RAM);
    host.vm.memory.write(0x10_0010, Uint8Array.of(1, 2, 3));
    expect([...bytes.subarray(PAGE + 0x10, PAGE + 0x13)]).toEqual([1, 2, 3]);
    expect(host.addresses.kept).toBe(0);
  });

  it('keeps nothing of a slot that KVM refuses', () => {
    table.add(0x10_0000, pages(2), RAM);
    expect(() => table.add(0x10_1000, pages(1), RAM)).toThrow(
      expect.objectContaining({ code: 'ERR_HOST_CALL', details: expect.objectContaining({ errno: 'EEXIST' }) }),
    );
    expect(() => table.add(0x20_0800, pages(1), RAM)).toThrow(/EINVAL/);
    expect(table.ram()).toHaveLength(1);
    expect(table.add(0x20_0000, pages(1), RAM)?.slot).toBe(1);
    expect(host.addresses.kept).toBe(0);
  });

  it('knows a slot as long as KVM does, when it cannot be removed', () => {
    const slot = table.add(0x10_0000, pages(1), RAM)!;
    host.failOn('KVM_SET_USER_MEMORY_REGION', 'ENOMEM');
    expect(() => table.remove(slot)).toThrow(/ENOMEM/);
    expect(table.ram()).toHaveLength(1);
    table.remove(slot);
    expect(kept()).toEqual([]);
  });

  it('removes a slot once, not what has its number afterwards', () => {
    const first = table.add(0x10_0000, pages(1), DEVICE)!;
    table.remove(first);
    table.add(0x20_0000, pages(1), DEVICE);
    table.remove(first);
    expect(kept()).toEqual([[0, 0x20_0000, PAGE, 0]]);
  });

  it('takes nothing from a VM that is closed, whose number may be another file’s', () => {
    const slot = table.add(0x10_0000, pages(1), DEVICE)!;
    vm[Symbol.dispose]();
    host.eventfd(0, 0);
    expect(() => table.remove(slot)).not.toThrow();
  });

  it('logs the writes of RAM alone, of what comes later too', () => {
    table.add(0, pages(1), RAM);
    table.add(0x10_0000, pages(1), DEVICE);
    table.setLogging(true);
    table.add(0x20_0000, pages(1), RAM);
    expect(kept().map(s => s[3])).toEqual([KVM_MEM_LOG_DIRTY_PAGES, 0, KVM_MEM_LOG_DIRTY_PAGES]);
    table.setLogging(true);
    table.setLogging(false);
    expect(kept().map(s => s[3])).toEqual([0, 0, 0]);
    // Three slots, two that begin and two that end; nothing for what is as it was.
    expect(host.callsOf('KVM_SET_USER_MEMORY_REGION')).toHaveLength(3 + 1 + 2);
  });

  it('tells a new VM of every slot', () => {
    table.add(0, pages(1), RAM);
    table.add(0x10_0000, pages(3), { ram: false, readOnly: true });
    table.setLogging(true);
    const before = kept();
    vm.renew();
    expect(kept()).toEqual([]);
    table.renew();
    expect(kept()).toEqual(before);
    expect(before).toEqual([
      [0, 0, PAGE, KVM_MEM_LOG_DIRTY_PAGES],
      [1, 0x10_0000, 3 * PAGE, KVM_MEM_READONLY],
    ]);
  });

  it('has what KVM has, through a storm of additions and removals', () => {
    const memory = pages(16);
    const command = fc.oneof(
      fc.record({
        kind: fc.constant('add' as const),
        page: fc.nat(15),
        count: fc.integer({ min: 1, max: 4 }),
        ram: fc.boolean(),
        readOnly: fc.boolean(),
      }),
      fc.record({ kind: fc.constant('remove' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('log' as const), on: fc.boolean() }),
      fc.record({ kind: fc.constant('renew' as const) }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), commands => {
        vm.renew();
        table = new SlotTable(vm, SLOTS);
        /** Ours: by page the slot that is there. */
        const model = new Map<LiveSlot, { base: number; size: number; ram: boolean; readOnly: boolean }>();
        let log = false;
        for (const c of commands) {
          if (c.kind === 'add') {
            const [base, size] = [c.page * PAGE, Math.min(c.count, 16 - c.page) * PAGE];
            const taken = [...model.values()].some(m => base < m.base + m.size && m.base < base + size);
            const add = () => table.add(base, memory.subarray(base, base + size), c);
            if (model.size === SLOTS) expect(add()).toBeUndefined();
            else if (taken) expect(add).toThrow(/EEXIST/);
            else model.set(add()!, { base, size, ram: c.ram, readOnly: c.readOnly });
          } else if (c.kind === 'remove') {
            const slot = [...model.keys()][c.which % Math.max(1, model.size)];
            if (slot === undefined) continue;
            table.remove(slot);
            model.delete(slot);
          } else if (c.kind === 'log') {
            log = c.on;
            table.setLogging(log);
          } else {
            vm.renew();
            table.renew();
          }
          const wanted = [...model].map(([{ slot }, m]) => {
            const flags = (m.readOnly ? KVM_MEM_READONLY : 0) | (m.ram && log ? KVM_MEM_LOG_DIRTY_PAGES : 0);
            return [slot, m.base, m.size, flags];
          });
          expect(kept()).toEqual(wanted.sort());
          expect(table.ram()).toHaveLength([...model.values()].filter(m => m.ram).length);
        }
      }),
      { numRuns: 100 },
    );
    expect(host.addresses.kept).toBe(0);
  });
});

describe('memory of devices', () => {
  let slots: KvmMemorySlots;
  beforeEach(() => {
    slots = new KvmMemorySlots(table, true);
  });

  it('is zeroed, whole pages, each device its own', () => {
    const a = slots.allocate(PAGE);
    const b = slots.allocate(2 * PAGE);
    a.bytes.fill(0xff);
    expect(a.bytes).toHaveLength(PAGE);
    expect(b.bytes.every(x => x === 0)).toBe(true);
    expect(b.bytes.byteOffset % PAGE).toBe(0);
  });

  it.each([0, -PAGE, 100, Number.NaN, 2 ** 32 + PAGE])('of %d bytes is not given', size => {
    expect(() => slots.allocate(size)).toThrow(
      expect.objectContaining({ code: 'ERR_MEMORY_TOO_LARGE', hint: expect.stringContaining('4096 MiB') }),
    );
  });

  it('is reached by the guest until the mapping is disposed, and moves to where it is mapped again', () => {
    const memory = slots.allocate(4 * PAGE);
    memory.bytes[PAGE] = 0x5a;
    const mapping = slots.map(0x8000_0000, 2 * PAGE, memory, PAGE, false);
    expect(host.vm.memory.read(0x8000_0000, 1)).toEqual(Uint8Array.of(0x5a));
    expect(host.vm.memory.write(0x8000_0000, Uint8Array.of(1))).toBe(true);
    mapping?.[Symbol.dispose]();
    expect(host.vm.memory.read(0x8000_0000, 1)).toBeUndefined();
    slots.map(0x9000_0000, 2 * PAGE, memory, PAGE, false);
    expect(host.vm.memory.read(0x9000_0000, 1)).toEqual(Uint8Array.of(1));
  });

  it('that is read-only keeps its contents: the guest leaves with its write', () => {
    const memory = slots.allocate(PAGE);
    slots.map(0x8000_0000, PAGE, memory, 0, true);
    expect(host.vm.memory.write(0x8000_0000, Uint8Array.of(1))).toBe(false);
    expect(host.vm.memory.read(0x8000_0000, 1)).toEqual(Uint8Array.of(0));
  });

  it('that is read-only is not mapped where KVM could not keep writes away', () => {
    const memory = slots.allocate(PAGE);
    expect(new KvmMemorySlots(table, false).map(0x8000_0000, PAGE, memory, 0, true)).toBeUndefined();
    expect(kept()).toEqual([]);
  });

  it('is answered by exits where RAM is already, or no slot is left', () => {
    table.add(0x8000_0000, pages(1), RAM);
    const memory: DeviceMemory = slots.allocate(PAGE);
    expect(slots.map(0x8000_0000, PAGE, memory, 0, false)).toBeUndefined();
    for (let i = 1; i < SLOTS; i++) expect(slots.map(0x9000_0000 + i * PAGE, PAGE, memory, 0, false)).toBeDefined();
    expect(slots.map(0xa000_0000, PAGE, memory, 0, false)).toBeUndefined();
  });
});
