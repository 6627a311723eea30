import { describe, expect, it } from 'vitest';
import { emulated, FAR, PAGE, RAM, ROM } from '../../../../test/support/pin-tables.ts';
import { guestTime, guestTscKhz, readTimeInfo, readWallClock } from '../../../../test/support/pvclock-guest.ts';
import { createVirtualClock } from '../../../time/virtual-clock.ts';
import {
  Kvmclock,
  MSR_KVM_SYSTEM_TIME_NEW,
  MSR_KVM_WALL_CLOCK_NEW,
  PVCLOCK_GUEST_STOPPED,
  PVCLOCK_TSC_STABLE_BIT,
} from './kvmclock.ts';
import { Tsc } from './tsc.ts';

const HZ = 2_400_000_000;
const START_WALL = 1_700_000_000_123_456_789n;
/** Where the pages of two vCPUs and the wall clock's are. */
const TIME = [RAM + 0x40, RAM + 0x60] as const;
const WALL = RAM + 0x80;
const CLEAN = [0, 0, 0, 0, 0, 0];

function rig(hz = HZ) {
  const clock = createVirtualClock({ startWall: START_WALL });
  const { table, memory } = emulated();
  const tsc = new Tsc({ hz, cpus: 2, clock });
  const kvmclock = new Kvmclock({ clock, tsc, cpus: 2, pins: table });
  const enable = (cpu: number, gpa: number = TIME[cpu]!) =>
    kvmclock.write(cpu, MSR_KVM_SYSTEM_TIME_NEW, BigInt(gpa) | 1n);
  /** What a vCPU's guest takes the time for. */
  const time = (cpu: number) => guestTime(readTimeInfo(memory, TIME[cpu]!), tsc.read(cpu));
  const info = (cpu: number) => readTimeInfo(memory, TIME[cpu]!);
  return { clock, table, memory, tsc, kvmclock, enable, time, info };
}

describe('Kvmclock: MSRs', () => {
  it('EMU-X2: both registers read back what was written, system time for each vCPU', () => {
    const { kvmclock } = rig();
    expect(kvmclock.read(0, MSR_KVM_SYSTEM_TIME_NEW)).toBe(0n);
    kvmclock.write(0, MSR_KVM_SYSTEM_TIME_NEW, BigInt(TIME[0]) | 1n);
    kvmclock.write(1, MSR_KVM_SYSTEM_TIME_NEW, 0xffff_ffff_ffff_fffen);
    kvmclock.write(1, MSR_KVM_WALL_CLOCK_NEW, BigInt(WALL));
    expect([0, 1].map(cpu => kvmclock.read(cpu, MSR_KVM_SYSTEM_TIME_NEW))).toEqual([
      BigInt(TIME[0]) | 1n,
      0xffff_ffff_ffff_fffen,
    ]);
    expect([0, 1].map(cpu => kvmclock.read(cpu, MSR_KVM_WALL_CLOCK_NEW))).toEqual([BigInt(WALL), BigInt(WALL)]);
  });

  it.each([0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04, 0x4b56_4d05, 0x4b56_4d7f, 0x4b56_4dff, 0x11, 0x12])(
    'EMU-X2: %i is nobody’s: #GP',
    msr => {
      const { kvmclock } = rig();
      expect(kvmclock.read(0, msr)).toBeUndefined();
      expect(kvmclock.write(0, msr, 1n)).toBe(false);
    },
  );

  it.each([
    ['misaligned', RAM + 0x101],
    ['the last bytes of a page', RAM + PAGE - 32],
  ])('EMU-X2: a page of system time goes where the guest says: %s', (_, gpa) => {
    const { clock, memory, tsc, enable } = rig();
    clock.advanceTo(5_000_000);
    // Bit 0 of the address is the switch.
    enable(0, gpa & ~1);
    expect(guestTime(readTimeInfo(memory, gpa & ~1), tsc.read(0))).toBe(4_999_999n);
  });

  it.each([
    ['no memory', FAR + 0x10_0000],
    ['ROM', ROM],
    ['across two pages', RAM + PAGE - 16],
  ])('EMU-X2: system time that cannot be written is none, and the guest lives: %s', (_, gpa) => {
    const { table, memory, kvmclock, enable } = rig();
    expect(enable(0, gpa)).toBe(true);
    expect(kvmclock.read(0, MSR_KVM_SYSTEM_TIME_NEW)).toBe(BigInt(gpa) | 1n);
    kvmclock.resumed();
    if (memory.contains(gpa, 32)) expect(memory.u64(gpa)).toBe(0n);
    expect(table.stats().current).toBe(0);
  });

  it('EMU-X2: bit 0 = 0 ends the updates', () => {
    const { clock, kvmclock, enable, info } = rig();
    enable(0);
    kvmclock.write(0, MSR_KVM_SYSTEM_TIME_NEW, BigInt(TIME[0]));
    const before = info(0);
    clock.advanceTo(1e9);
    kvmclock.update(0);
    kvmclock.resumed();
    expect(info(0)).toEqual(before);
  });

  it('a reset ends the updates', () => {
    const { clock, kvmclock, enable, info } = rig();
    enable(0);
    const before = info(0);
    kvmclock.reset();
    clock.advanceTo(1e9);
    kvmclock.resumed();
    expect(info(0)).toEqual(before);
    expect(kvmclock.read(0, MSR_KVM_SYSTEM_TIME_NEW)).toBe(0n);
  });
});

describe('Kvmclock: pages of system time', () => {
  it('EMU-X4: are written by the MSR, with the right multiplier from the first time on', () => {
    const { info, enable } = rig();
    enable(0);
    expect(info(0)).toEqual({
      version: 2,
      tscTimestamp: 0n,
      systemTime: 0n,
      mul: 0xd555_5555,
      shift: -1,
      flags: PVCLOCK_TSC_STABLE_BIT,
      padding: CLEAN,
    });
    expect(guestTscKhz(info(0))).toBe(2_400_000n);
  });

  it('EMU-X4: give the time of the machine’s clock, on every vCPU the same', () => {
    const { clock, enable, time, kvmclock } = rig();
    enable(0);
    for (const ns of [1, 1000, 1_000_000_000, 3_600_000_000_000]) {
      clock.advanceTo(ns);
      // vCPUs that begin later, or were away for a while, see no other time.
      enable(1);
      kvmclock.update(0);
      expect(time(0)).toBe(time(1));
      expect(time(0)).toBe(kvmclock.timeAt(ns));
      const behind = BigInt(ns) - time(0);
      expect(behind).toBeGreaterThanOrEqual(0n);
      expect(behind).toBeLessThan(2n + (BigInt(ns) >> 31n));
    }
  });

  it('EMU-X4: are written again when a vCPU goes on, with a new version', () => {
    const { info, enable, kvmclock } = rig();
    enable(0);
    kvmclock.update(0);
    kvmclock.update(1);
    expect([info(0).version, info(1).version]).toEqual([4, 0]);
  });

  it.each([
    [0, 2],
    [1, 4],
    [6, 8],
    [7, 10],
    [0xffff_fffe, 0],
    [0xffff_ffff, 2],
  ])('2.2: what was in the version before does not matter: %i becomes %i', (before, after) => {
    const { memory, info, enable } = rig();
    memory.setU32(TIME[0], before);
    enable(0);
    expect(info(0).version).toBe(after);
  });

  it('2.2: the version is odd while the rest is written', () => {
    const { memory, kvmclock, enable, info } = rig();
    enable(0);
    // The order of the stores, as another thread would see it.
    const stores: string[] = [];
    const { store } = Atomics;
    Atomics.store = ((words: Int32Array, at: number, value: number) => {
      stores.push(`${words.byteOffset - memory.regions[0]!.bytes.byteOffset + 4 * at - 0x40}: ${value}`);
      return store(words, at, value);
    }) as typeof store;
    try {
      kvmclock.update(0);
    } finally {
      Atomics.store = store;
    }
    expect([stores[0], stores.at(-1)]).toEqual(['0: 3', '0: 4']);
    expect(stores.slice(1, -1).map(s => s.split(':')[0])).toEqual(['4', '8', '12', '16', '20', '24', '28']);
    expect(info(0).version).toBe(4);
  });

  it('2.2: GUEST_STOPPED stays until the guest clears it; other flags are ours', () => {
    const { memory, kvmclock, enable, info } = rig();
    enable(0);
    memory.setU8(TIME[0] + 29, 0xff);
    kvmclock.update(0);
    expect(info(0).flags).toBe(PVCLOCK_TSC_STABLE_BIT | PVCLOCK_GUEST_STOPPED);
    memory.setU8(TIME[0] + 29, PVCLOCK_TSC_STABLE_BIT);
    kvmclock.update(0);
    expect(info(0).flags).toBe(PVCLOCK_TSC_STABLE_BIT);
  });

  it('EMU-X4: follow a vCPU’s TSC that the guest sets; with unequal ones no page is good for all', () => {
    const { clock, tsc, enable, time, info } = rig();
    enable(0);
    enable(1);
    clock.advanceTo(1_000_000);
    const before = time(0);
    tsc.write(0, 12_345n);
    expect([time(0), time(1)]).toEqual([before, before]);
    expect([info(0), info(1)].map(i => i.flags)).toEqual([0, 0]);
    tsc.writeAdjust(1, tsc.adjust(0));
    expect([info(0), info(1)].map(i => i.flags)).toEqual([PVCLOCK_TSC_STABLE_BIT, PVCLOCK_TSC_STABLE_BIT]);
    expect([time(0), time(1)]).toEqual([before, before]);
  });

  it('EMU-X5: are dirty, and nothing of them stays pinned', () => {
    const { table, enable } = rig();
    const log = table.dirty.start();
    enable(0);
    const bitmap = new Uint32Array(1);
    log.collect(RAM, 2 * PAGE, bitmap);
    expect([bitmap[0], table.stats().current]).toEqual([1, 0]);
    log.stop();
  });
});

describe('Kvmclock: wall clock', () => {
  it('2.2: its page and system time add up to the host’s wall clock', () => {
    const { clock, memory, kvmclock, enable, time } = rig();
    clock.advanceTo(3_000_000_000);
    kvmclock.write(0, MSR_KVM_WALL_CLOCK_NEW, BigInt(WALL));
    enable(0);
    const wall = readWallClock(memory, WALL);
    expect(wall.version).toBe(2);
    expect(wall.ns + time(0)).toBe(START_WALL + 3_000_000_000n);
  });

  it('2.2: is written once for each write of the MSR, across pages too, and not at 0', () => {
    const { clock, memory, kvmclock } = rig();
    const gpa = RAM + PAGE - 4;
    for (const version of [2, 4]) {
      kvmclock.write(0, MSR_KVM_WALL_CLOCK_NEW, BigInt(gpa));
      expect(readWallClock(memory, gpa)).toEqual({ version, ns: START_WALL });
    }
    clock.advanceTo(1e9);
    kvmclock.resumed();
    kvmclock.write(1, MSR_KVM_WALL_CLOCK_NEW, 0n);
    expect(readWallClock(memory, gpa)).toEqual({ version: 4, ns: START_WALL });
  });

  it.each([
    ['no memory', FAR + 0x10_0000],
    ['ROM', ROM],
    ['the end of RAM', FAR + PAGE - 8],
  ])('EMU-X2: an address that cannot be written does nothing: %s', (_, gpa) => {
    const { kvmclock, memory } = rig();
    expect(kvmclock.write(0, MSR_KVM_WALL_CLOCK_NEW, BigInt(gpa))).toBe(true);
    if (memory.contains(gpa, 8)) expect(memory.u64(gpa)).toBe(0n);
  });
});

describe('Kvmclock: pause and restore', () => {
  it('EMU-X6: after a pause time goes on from where it was, and every guest with a page is told', () => {
    const { clock, memory, kvmclock, enable, time, info } = rig();
    enable(0);
    clock.advanceTo(3_600_000_000_000);
    const before = time(0);
    kvmclock.resumed();
    expect(info(0)).toMatchObject({ version: 4, flags: PVCLOCK_TSC_STABLE_BIT | PVCLOCK_GUEST_STOPPED });
    expect(memory.u32(TIME[1])).toBe(0);
    // What the page had lost in an hour is made up for; it never goes back.
    expect(time(0)).toBe(3_600_000_000_000n);
    expect(time(0)).toBeGreaterThanOrEqual(before);
    clock.advanceTo(3_600_000_000_100);
    expect(time(0)).toBe(3_600_000_000_099n);
  });

  it('EMU-X6: a guest whose clock is fast is not taken back by a pause', () => {
    // The low bit of this frequency is shifted out.
    const { clock, kvmclock, enable, time } = rig(2_000_000_001);
    enable(0);
    clock.advanceTo(3_600_000_000_000);
    const before = time(0);
    expect(before).toBeGreaterThan(3_600_000_000_000n);
    kvmclock.resumed();
    expect(time(0)).toBe(before);
    expect(kvmclock.timeAt(3_600_000_000_000)).toBe(before);
  });

  it('EMU-X6: a machine that is restored has its pages, its time, and GUEST_STOPPED', () => {
    // Guests of this one are ahead of the machine's clock.
    const hz = 2_000_000_001;
    const a = rig(hz);
    a.clock.advanceTo(4_000_000_000);
    a.kvmclock.resumed();
    a.kvmclock.write(0, MSR_KVM_WALL_CLOCK_NEW, BigInt(WALL));
    a.enable(0);
    a.enable(1);
    a.tsc.write(0, 77n);
    a.clock.advanceTo(5_000_000_000);
    const b = rig(hz);
    b.memory.write(RAM, a.memory.regions[0]!.bytes);
    b.clock.advanceTo(5_000_000_000);
    b.tsc.restore(structuredClone(a.tsc.save()));
    b.kvmclock.restore(structuredClone(a.kvmclock.save()));
    b.kvmclock.resumed();
    expect(a.time(0)).toBeGreaterThan(5_000_000_000n);
    expect(b.kvmclock.read(0, MSR_KVM_WALL_CLOCK_NEW)).toBe(BigInt(WALL));
    for (const cpu of [0, 1]) {
      expect(b.time(cpu)).toBe(a.time(cpu));
      expect(b.info(cpu).version).toBe(a.info(cpu).version + 2);
      expect(b.info(cpu).flags).toBe(PVCLOCK_GUEST_STOPPED);
    }
  });
});
