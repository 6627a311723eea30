import { describe, expect, it } from 'vitest';
import { hostTime } from '../../../../test/support/host-time.ts';
import { emulated, FAR, PAGE, RAM, RAM_SIZE, ROM } from '../../../../test/support/pin-tables.ts';
import { guestTime, readTimeInfo } from '../../../../test/support/pvclock-guest.ts';
import { createHypercallBus } from '../../../bus/hypercall-bus.ts';
import { type KvmX86Register, kvmX86Hypercall } from '../../../bus/hypercall-x86.ts';
import { createHostClock } from '../../../time/host-clock.ts';
import { createClockPairing } from './clock-pairing.ts';
import { Kvmclock, MSR_KVM_SYSTEM_TIME_NEW } from './kvmclock.ts';
import { Tsc } from './tsc.ts';

const M = 2n ** 64n;
const HZ = 2_100_000_000;
const WALL = 1_700_000_000_123_456_789n;
const AT = BigInt(RAM + 0x100);

function rig({ ptp = true } = {}) {
  let now = 0;
  // Time passes with every look at the clock.
  const clock = createHostClock(
    hostTime(
      () => (now += 100),
      () => WALL + BigInt(now),
    ),
  );
  const { table, memory } = emulated();
  const tsc = new Tsc({ hz: HZ, cpus: 2, clock });
  const bus = createHypercallBus();
  if (ptp) bus.add(createClockPairing({ clock, tsc, pins: table }));
  const call = (registers: Partial<Record<KvmX86Register, bigint>>, cpl = 0, mode64 = true, cpu = 0) => {
    const r = { rax: 9n, rbx: AT, rcx: 0n, rdx: 0n, rsi: 0n, ...registers };
    let rax = r.rax;
    kvmX86Hypercall({ cpu, cpl, mode64, get: name => r[name], setRax: v => (rax = v) }, c => bus.handle(c));
    return rax;
  };
  return { clock, table, memory, tsc, call };
}

describe('KVM_HC_CLOCK_PAIRING', () => {
  it('EMU-X5: pairs wall-clock time and the TSC, and clears the rest of 64 bytes', () => {
    const { memory, tsc, call, table } = rig();
    memory.write(RAM, new Uint8Array(0x200).fill(0xff));
    const before = tsc.read(0);
    expect(call({})).toBe(0n);
    const after = tsc.read(0);
    const at = Number(AT);
    const [sec, nsec, count] = [memory.u64(at), memory.u64(at + 8), memory.u64(at + 16)];
    // X86-2: a value that the vCPU could have read during the call.
    expect(count > before && count < after).toBe(true);
    // The clock began 100 ns after the fake host's did; 2.1 ticks a nanosecond.
    expect(sec * 1_000_000_000n + nsec).toBe(WALL + 100n + (count * 10n) / 21n);
    expect(nsec).toBeLessThan(1_000_000_000n);
    for (let i = 24; i < 64; i += 8) expect(memory.u64(at + i)).toBe(0n);
    expect([memory.u8(at - 1), memory.u8(at + 64)]).toEqual([0xff, 0xff]);
    expect(table.stats().current).toBe(0);
  });

  it('X86-2: kvmclock at the TSC of a pair lies between two reads of it, on every vCPU and whatever its TSC', () => {
    const { clock, memory, tsc, call, table } = rig();
    const kvmclock = new Kvmclock({ clock, tsc, cpus: 2, pins: table });
    const pages = [RAM, RAM + 64];
    for (const cpu of [0, 1]) kvmclock.write(cpu, MSR_KVM_SYSTEM_TIME_NEW, BigInt(pages[cpu]!) | 1n);
    tsc.write(1, 1n << 63n);
    let last = 0n;
    for (let i = 0; i < 1000; i++) {
      const cpu = i % 2;
      const time = (count: bigint) => guestTime(readTimeInfo(memory, pages[cpu]!), count);
      const before = time(tsc.read(cpu));
      expect(call({}, 0, true, cpu)).toBe(0n);
      const paired = time(memory.u64(Number(AT) + 16));
      expect(before >= last && paired > before && time(tsc.read(cpu)) > paired).toBe(true);
      last = paired;
    }
  });

  it('EMU-X6: while the machine is held its TSC stands, and wall-clock time goes on', () => {
    const { clock, memory, call } = rig();
    clock.hold();
    const pairs = [0, 1].map(() => {
      call({});
      return [memory.u64(Number(AT) + 8), memory.u64(Number(AT) + 16)] as const;
    });
    expect(pairs[1]![1]).toBe(pairs[0]![1]);
    expect(pairs[1]![0]).toBeGreaterThan(pairs[0]![0]);
  });

  it('EMU-X5: the structure may cross pages, and has any alignment', () => {
    const { memory, call } = rig();
    for (const gpa of [RAM + PAGE - 32, RAM + PAGE - 20, RAM + PAGE - 13, RAM + 1]) {
      expect(call({ rbx: BigInt(gpa) })).toBe(0n);
      expect(memory.u64(gpa)).toBe(1_700_000_000n);
    }
  });

  it('EMU-X5: the pages are dirty', () => {
    const { table, call } = rig();
    const log = table.dirty.start();
    call({ rbx: BigInt(RAM + 2 * PAGE - 8) });
    const bitmap = new Uint32Array(1);
    log.collect(RAM, 8 * PAGE, bitmap);
    expect(bitmap[0]).toBe(0b110);
    log.stop();
  });

  it.each([
    ['another type of clock', { rcx: 1n }, -95n],
    ['a type beyond 32 bits', { rcx: 1n << 32n }, -95n],
    ['another type and a bad address: the type is first', { rcx: 1n, rbx: BigInt(ROM) }, -95n],
    ['no memory', { rbx: 0x1000n }, -14n],
    ['ROM', { rbx: BigInt(ROM) }, -14n],
    ['across the end of RAM', { rbx: BigInt(FAR + PAGE - 32) }, -14n],
    ['from RAM into ROM', { rbx: BigInt(RAM + RAM_SIZE - 32) }, -14n],
    ['the end of 64 bits', { rbx: M - 32n }, -14n],
    ['an unknown number', { rax: 10n }, -1000n],
    ['a number that is 9 in 32 bits only', { rax: 0x1_0000_0009n }, -1000n],
  ])('2.1: errors: %s', (_, registers, result) => {
    const { memory, call } = rig();
    expect(call(registers)).toBe(M + result);
    // In 32-bit mode, all registers are their lower halves.
    const fits = Object.values(registers).every(v => v < 1n << 32n);
    if (fits) expect(call(registers, 0, false)).toBe((1n << 32n) + result);
    expect(memory.u64(Number(AT))).toBe(0n);
    expect(memory.u64(FAR + PAGE - 8)).toBe(0n);
    expect(memory.u64(RAM + RAM_SIZE - 8)).toBe(0n);
  });

  it('2.1: in 32-bit mode the upper halves of registers do not count', () => {
    const { memory, call } = rig();
    const high = 0xdead_0000_0000n;
    expect(call({ rax: high | 9n, rbx: high | AT, rcx: high }, 0, false)).toBe(0n);
    expect(memory.u64(Number(AT))).toBe(1_700_000_000n);
  });

  it.each([1, 2, 3])('2.1: CPL %i gets EPERM, whatever it calls, and nothing happens', cpl => {
    const { memory, call } = rig();
    expect(call({}, cpl)).toBe(M - 1n);
    expect(call({ rax: 77n, rcx: 1n }, cpl)).toBe(M - 1n);
    expect(call({}, cpl, false)).toBe(0xffff_ffffn);
    expect(memory.u64(Number(AT))).toBe(0n);
  });

  it('EMU-X7: with ptp off the call does not exist', () => {
    const { memory, call } = rig({ ptp: false });
    expect(call({})).toBe(M - 1000n);
    expect(call({}, 3)).toBe(M - 1n);
    expect(memory.u64(Number(AT))).toBe(0n);
  });
});
