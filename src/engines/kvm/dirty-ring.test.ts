import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import { KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, kvm_dirty_gfn } from './abi/common.generated.ts';
import { DirtyRings } from './dirty-ring.ts';
import { sharedMemory } from './guest-ram.ts';
import { PAGE } from './page-log.ts';
import { type LiveSlot, SlotTable } from './slots.ts';
import { KvmSystem } from './system.ts';
import { KvmVm } from './vm.ts';

const PAGES = 1024;
const SIZE = PAGES * PAGE;
/** The first slot is slot 0 there, the second slot 1 behind a hole. */
const [FIRST, SECOND] = [0x10_0000, 0x4000_0000];

/** A VM of `cpus` vCPUs with rings of 256 entries and two slots of RAM. */
class Rig {
  readonly host: FakeHost;
  readonly table: SlotTable;
  readonly rings: DirtyRings;
  readonly second: LiveSlot;
  onPause: () => void = () => undefined;

  constructor(cpus = 1) {
    this.host = new FakeHost();
    const vm = new KvmVm(new KvmSystem(this.host), 0);
    this.table = new SlotTable(vm, 16);
    this.rings = DirtyRings.open({ vm, slots: this.table, entries: 256, pause: () => this.onPause() })!;
    const fds = Array.from({ length: cpus }, (_, id) => vm.createVcpu(id));
    const runner = this.host.runnerCreate(fds, PAGE, true, this.rings.size);
    this.rings.attach(fds.map((_, id) => this.host.runnerRing(runner, id)));
    this.table.add(FIRST, sharedMemory(SIZE), { ram: true, readOnly: false });
    this.second = this.table.add(SECOND, sharedMemory(SIZE), { ram: true, readOnly: false })!;
  }

  write(address: number, cpu = 0): void {
    expect(this.host.vm.write(address, cpu)).toBe(true);
  }

  full(cpu: number): boolean {
    return this.host.vm.vcpu(cpu).ring!.full;
  }

  collect(): [base: number, length: number][] {
    const ranges: [number, number][] = [];
    this.rings.collect({ markDirty: (base, length) => void ranges.push([base, length]) });
    return ranges;
  }

  get resets(): number {
    return this.host.callsOf('KVM_RESET_DIRTY_RINGS').length;
  }
}

describe('rings', () => {
  /** Which capability was enabled, and with how many bytes; undefined: there are no rings. */
  function opened(o: { entries?: number; prepare?: (host: FakeHost) => void }): [number, bigint][] | undefined {
    const host = new FakeHost();
    o.prepare?.(host);
    const vm = new KvmVm(new KvmSystem(host), 0);
    const slots = new SlotTable(vm, 16);
    const rings = DirtyRings.open({ vm, slots, entries: o.entries ?? 4096, pause: () => undefined });
    if (rings !== undefined) expect(host.vm.ringSize).toBe(rings.size);
    return rings && [...host.vm.enabled];
  }

  it('are enabled by the name that promises an order of stores, before any vCPU', () => {
    expect(opened({})).toEqual([[KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 65_536n]]);
  });

  it('are enabled by the older name on Linux before 6.1', () => {
    const prepare = (h: FakeHost) => void h.capabilities.delete(KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    expect(opened({ prepare })).toEqual([[KVM_CAP_DIRTY_LOG_RING, 65_536n]]);
  });

  it('are as long as the host allows', () => {
    expect(opened({ entries: 2 ** 20 })).toEqual([[KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 2n ** 20n]]);
  });

  it('are not there on a host without them, and where it refuses them', () => {
    const none = (h: FakeHost) => {
      h.capabilities.delete(KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
      h.capabilities.delete(KVM_CAP_DIRTY_LOG_RING);
    };
    expect(opened({ prepare: none })).toBeUndefined();
    // Fewer than KVM keeps in reserve, and no power of two.
    expect(opened({ entries: 16 })).toBeUndefined();
    expect(opened({ entries: 300 })).toBeUndefined();
  });
});

describe('a harvest', () => {
  it('tells of neighbours that were written one after the other as one range', () => {
    const rig = new Rig();
    rig.rings.setLogging(true);
    for (const page of [3, 4, 5, 9, 8]) rig.write(FIRST + page * PAGE);
    rig.write(SECOND + 9 * PAGE);
    expect(rig.collect()).toEqual([
      [FIRST + 3 * PAGE, 3 * PAGE],
      [FIRST + 9 * PAGE, PAGE],
      [FIRST + 8 * PAGE, PAGE],
      [SECOND + 9 * PAGE, PAGE],
    ]);
  });

  it('resets the rings once, and not at all when they were empty', () => {
    const rig = new Rig(2);
    rig.rings.setLogging(true);
    expect(rig.collect()).toEqual([]);
    expect(rig.resets).toBe(0);
    rig.write(FIRST, 0);
    rig.write(SECOND, 1);
    expect(rig.collect()).toEqual([
      [FIRST, PAGE],
      [SECOND, PAGE],
    ]);
    expect(rig.resets).toBe(1);
  });

  it('for a collection comes after the pause, in which processors give what they have kept back', () => {
    const rig = new Rig(2);
    rig.rings.setLogging(true);
    rig.write(FIRST);
    rig.onPause = () => rig.write(FIRST + 5 * PAGE, 1);
    expect(rig.collect()).toEqual([
      [FIRST, PAGE],
      [FIRST + 5 * PAGE, PAGE],
    ]);
  });

  it('takes what is appended meanwhile', () => {
    const rig = new Rig();
    rig.rings.setLogging(true);
    rig.write(FIRST);
    rig.write(SECOND);
    const told: number[] = [];
    rig.rings.harvest({
      markDirty: base => {
        if (told.push(base) === 1) rig.write(FIRST + 7 * PAGE);
      },
    });
    expect(told).toEqual([FIRST, SECOND, FIRST + 7 * PAGE]);
  });

  it('passes over what is in no slot: of the address space of SMM, and of a slot that is gone', () => {
    const rig = new Rig();
    rig.rings.setLogging(true);
    const { ring } = rig.host.vm.vcpu(0);
    ring!.push(0x1_0000, 3);
    rig.write(SECOND);
    rig.table.remove(rig.second);
    rig.write(FIRST);
    expect(rig.collect()).toEqual([[FIRST, PAGE]]);
    expect(rig.collect()).toEqual([]);
  });

  it('has nothing of a log that was ended before', () => {
    const rig = new Rig();
    rig.rings.setLogging(true);
    rig.write(FIRST);
    rig.rings.setLogging(false);
    rig.write(FIRST + PAGE);
    rig.rings.setLogging(true);
    expect(rig.collect()).toEqual([]);
    rig.write(FIRST);
    expect(rig.collect()).toEqual([[FIRST, PAGE]]);
  });

  it('of a ring that has run over is an error of the host: pages are lost', () => {
    const rig = new Rig(2);
    rig.rings.setLogging(true);
    for (let page = 0; page < 256; page++) rig.write(FIRST + page * PAGE, 1);
    expect(() => rig.collect()).toThrow(
      expect.objectContaining({ code: 'ERR_VCPU_FAILED', details: { cpu: 1 }, hint: expect.stringContaining('log') }),
    );
  });

  it('for a vCPU whose ring was full may come too late; for one whose ring is empty and stays full it is an error', () => {
    const rig = new Rig(2);
    rig.rings.setLogging(true);
    const told: number[] = [];
    const into = { markDirty: (base: number, length: number) => void told.push(base, length) };
    for (let round = 0; round < 3; round++) {
      for (const cpu of [0, 1]) {
        for (let page = 0; !rig.full(cpu); page++) rig.write((cpu === 0 ? FIRST : SECOND) + page * PAGE, cpu);
      }
      // The first takes the entries of both.
      for (const cpu of [0, 1]) rig.rings.full(cpu, into);
      expect(told.splice(0)).toEqual([FIRST, 192 * PAGE, SECOND, 192 * PAGE]);
    }
    expect(() => rig.rings.full(1, into)).toThrow(expect.objectContaining({ code: 'ERR_VCPU_FAILED' }));
    // It ends with the rings.
    rig.rings.attach([]);
    rig.rings.full(1, into);
  });

  it('after the rings are gone finds nothing', () => {
    const rig = new Rig();
    rig.rings.setLogging(true);
    rig.write(FIRST);
    rig.rings.attach([]);
    expect(rig.collect()).toEqual([]);
  });

  it('loses and invents no page, however often the rings go round', () => {
    const action = fc.oneof(
      { weight: 12, arbitrary: fc.record({ cpu: fc.nat(1), page: fc.nat(2 * PAGES - 1), count: fc.nat(60) }) },
      { weight: 1, arbitrary: fc.constant('collect' as const) },
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), actions => {
        const rig = new Rig(2);
        rig.rings.setLogging(true);
        const written = new Set<number>();
        const kept = new Set<number>();
        const keep = {
          markDirty: (base: number, length: number) => {
            for (let a = base; a < base + length; a += PAGE) kept.add(a);
          },
        };
        for (const a of [...actions, 'collect' as const]) {
          if (a === 'collect') {
            rig.rings.collect(keep);
            expect(kept).toEqual(written);
            kept.clear();
            written.clear();
            continue;
          }
          for (let p = a.page; p <= a.page + a.count && p < 2 * PAGES; p++) {
            if (rig.full(a.cpu)) rig.rings.harvest(keep);
            const address = p < PAGES ? FIRST + p * PAGE : SECOND + (p - PAGES) * PAGE;
            rig.write(address + 8, a.cpu);
            written.add(address);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});

it('an entry is read by 32-bit words', () => {
  for (const at of [kvm_dirty_gfn.sizeof, kvm_dirty_gfn.flags, kvm_dirty_gfn.slot, kvm_dirty_gfn.offset]) {
    expect(at % 4).toBe(0);
  }
});
