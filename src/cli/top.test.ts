import { expect, test } from 'vitest';
import type { VmStats } from '../vmm/index.ts';
import { difference } from './top.ts';
import { formatTop } from './top-format.ts';

type Access = VmStats['accesses'][number];

const SECOND = 1e9;
const access = (a: Partial<Access>): Access => ({
  space: 'memory',
  device: 'pl011',
  offset: 0x18,
  reads: 0,
  writes: 0,
  totalNs: 0,
  latency: [],
  ...a,
});
/** Stats of an emulated VM at `s` seconds that ran `instructions`. */
const stats = (s: number, instructions: number, rest: Partial<VmStats> = {}): VmStats => ({
  name: undefined,
  engine: 'emu',
  state: 'running',
  nowNs: s * SECOND,
  vcpus: [{ id: 0, state: 'on', instructions, counters: undefined }],
  thread: { runNs: 0, exitNs: 0, idleNs: 0 },
  accesses: [],
  ...rest,
});

test('rates are those of the interval, and what was not used is left out', () => {
  const before = stats(10, 5e6, {
    thread: { runNs: 4e8, exitNs: 1e8, idleNs: 9e9 },
    accesses: [access({ reads: 100, totalNs: 1e6, latency: [0, 100] }), access({ device: 'pl031', reads: 7 })],
  });
  const after = stats(12, 205e6, {
    thread: { runNs: 1.4e9, exitNs: 3e8, idleNs: 9.5e9 },
    accesses: [
      access({ reads: 298, writes: 2, totalNs: 2e6, latency: [0, 100, 197, 0, 3] }),
      access({ device: 'pl031', reads: 7 }),
      access({ device: 'disk0 BAR 4', offset: 0x3000, writes: 1000, totalNs: 1e6, latency: [1000] }),
    ],
  });
  const sample = difference('one', before, after);
  expect(sample.interval).toBe(2 * SECOND);
  expect(sample.vcpus).toMatchObject([{ id: 0, mips: 100 }]);
  expect(sample.thread.guest).toBeCloseTo(0.4);
  expect(sample.thread.exits).toBeCloseTo(0.1);
  expect(sample.thread.idle).toBeCloseTo(0.25);
  expect(sample.thread.eventLoop).toBeCloseTo(0.25);
  expect(sample.exitsPerSecond).toBe(600);
  // 197 of 200 are faster than 45 ns, which are less than 99 %.
  expect(sample.accesses).toEqual([
    expect.objectContaining({
      device: 'disk0 BAR 4',
      writesPerSecond: 500,
      readsPerSecond: 0,
      meanNs: 1000,
      p99Ns: 32,
    }),
    expect.objectContaining({ device: 'pl011', readsPerSecond: 99, writesPerSecond: 1, meanNs: 5000, p99Ns: 64 }),
  ]);
});

test('a reset between two samples makes no negative rate', () => {
  expect(difference('one', stats(1, 1e9), stats(2, 5)).vcpus[0]!.mips).toBe(0);
});

test('with several vCPUs on KVM the thread waits for their exits', () => {
  const counters = (exits: number, guestNs: number) => ({ exits, guestNs, waitNs: 0 });
  const at = (s: number, exits: number, guestNs: number, runNs: number, exitNs: number, cpus: number): VmStats =>
    stats(s, 0, {
      engine: 'kvm',
      vcpus: Array.from({ length: cpus }, (_, id) => ({
        id,
        state: 'on',
        instructions: undefined,
        counters: counters(exits, guestNs),
      })),
      thread: { runNs, exitNs, idleNs: 0 },
    });
  const one = difference('one', at(0, 0, 0, 0, 0, 1), at(1, 50, 7e8, 9e8, 1e8, 1));
  expect(one.thread.guest).toBeCloseTo(0.7);
  expect(one.thread.exits).toBeCloseTo(0.2);
  expect(one.vcpus).toMatchObject([{ exitsPerSecond: 50, guest: 0.7, mips: undefined }]);
  const two = difference('two', at(0, 0, 0, 0, 0, 2), at(1, 50, 7e8, 9e8, 1e8, 2));
  expect(two.thread.guest).toBe(0);
  expect(two.thread.idle).toBeCloseTo(0.8);
  expect(two.thread.exits).toBeCloseTo(0.1);
  expect(two.thread.eventLoop).toBeCloseTo(0.1);
});

test('a sample is a table, as long as the terminal is', () => {
  const after = stats(1, 123.4e6, {
    accesses: [
      access({ reads: 12_345, totalNs: 12_345 * 250, latency: [0, 0, 0, 0, 12_345] }),
      access({ device: 'disk0 BAR 4', offset: undefined, writes: 3, totalNs: 6000, latency: [0, 0, 0, 0, 0, 0, 3] }),
      access({ space: 'port', device: 'rtc', offset: 0x70, writes: 2, totalNs: 4e6, latency: [2] }),
    ],
    thread: { runNs: 0.9e9, exitNs: 0.1e9, idleNs: 0 },
  });
  const sample = difference('one', stats(0, 0), after);
  expect(formatTop(sample)).toBe(`one: emu, running, 12350 exits/s
thread: guest 80.0 %, exits 10.0 %, event loop 10.0 %, idle 0.0 %

VCPU  STATE   MIPS
0     on     123.4

DEVICE       REGISTER  READS/S  WRITES/S    MEAN    P99
pl011        0x18        12345         0  250 ns  64 ns
disk0 BAR 4  others          0       3.0  2.0 us  91 ns
rtc (ports)  0x70            0       2.0  2.0 ms  32 ns
`);
  expect(formatTop(sample, 9).split('\n').slice(7)).toEqual([
    'pl011        0x18        12345         0  250 ns  64 ns',
    'and 2 more',
    '',
  ]);
});
