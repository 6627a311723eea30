import assert from 'node:assert/strict';
import { pvclockScale } from '../../src/devices/kvm-hypervisor/x86/pvclock-scale.ts';
import { host } from '../../src/engines/host/host.ts';
import { KVM_GET_TSC_KHZ, KVM_KVMCLOCK_CTRL } from '../../src/engines/kvm/abi/x86_64.generated.ts';
import type { X86Architecture } from '../../src/engines/kvm/x86/architecture.ts';
import { type ContractCase, Rig } from '../contract/contract.ts';
import { X86 } from '../contract/places.ts';
import { kvmX86 } from '../contract/subjects.ts';
import { guestTime, guestTscKhz, readTimeInfo, readWallClock } from '../support/pvclock-guest.ts';
import {
  GDT_32,
  loadResults,
  type Operation,
  PAGE,
  PROGRAM_32,
  PROGRAM_64,
  READ_ONLY,
  type Result,
  services,
  storeOperations,
} from '../support/pvclock-script.ts';
import { assembleX86, x86Binutils } from '../support/x86-assembler.ts';
import { type LabContext, labCase } from './lab-case.ts';

// KVM's own kvmclock and hypercalls, and beside them our x86-64 services: the same operations must come to the same results.

const [WALL_CLOCK, SYSTEM_TIME] = [0x4b56_4d00, 0x4b56_4d01];
/** Places that the guest gives, each in a page of its own, and where it copies them to. */
const TIME = 0x3_0000;
const WALL = 0x4_0000;
const PAIR = 0x5_0000;
const COPY = 0x6_0000;
const NO_MEMORY = 0xd000_0000;

const op = (what: string, code: Operation['code'], ...operands: (number | bigint)[]): Operation => {
  return { what, code, operands };
};
const pair = (what: string, gpa: number | bigint, type: number | bigint = 0): Operation =>
  op(what, 'vmcall', 9, gpa, type);

/** Calls that give the same in 32-bit mode. */
const CALLS: readonly Operation[] = [
  pair('a pair', PAIR),
  pair('a pair across pages', PAIR + PAGE - 20),
  pair('a pair that is not aligned', PAIR + 0x101),
  pair('another type of clock', PAIR, 1),
  pair('a pair where no memory is', NO_MEMORY),
  pair('a pair across the end of RAM', X86.low - 32),
  pair('a pair in read-only memory', READ_ONLY),
  pair('another type, and no memory', NO_MEMORY, 2),
  op('an unknown call', 'vmcall', 77, PAIR, 0),
  op('call -1', 'vmcall', 0xffff_ffff, PAIR, 0),
];

const CALLS_64: readonly Operation[] = [
  ...CALLS,
  op('a pair, by VMMCALL', 'vmmcall', 9, PAIR + 0x200, 0),
  pair('a type beyond 32 bits', PAIR, 1n << 32n),
  pair('a pair beyond all memory', 1n << 52n),
  pair('a pair at the end of 64 bits', -32n),
  op('a call that is 9 in 32 bits only', 'vmcall', 0x1_0000_0009n, PAIR, 0),
];

/** Copies the page at `gpa` to COPY + 64 n. */
const copy = (n: number, gpa: number) => op(`copy ${n}`, 'copy', gpa, COPY + 64 * n);

const MSRS: readonly Operation[] = [
  op('a version and GUEST_STOPPED', 'store', TIME, 7),
  op('a version and GUEST_STOPPED', 'store', TIME + 24, 0x0200_0000_0000n),
  op('system time', 'wrmsr', SYSTEM_TIME, TIME | 1),
  copy(0, TIME),
  op('system time', 'rdmsr', SYSTEM_TIME),
  op('GUEST_STOPPED is cleared', 'store', TIME + 24, 0),
  op('system time again', 'wrmsr', SYSTEM_TIME, TIME | 1),
  copy(1, TIME),
  op('wall clock', 'wrmsr', WALL_CLOCK, WALL),
  copy(2, WALL),
  op('wall clock', 'rdmsr', WALL_CLOCK),
  op('wall clock that is not aligned', 'wrmsr', WALL_CLOCK, WALL + 0x103),
  copy(3, WALL + 0x103),
  op('wall clock across pages', 'wrmsr', WALL_CLOCK, WALL + PAGE - 4),
  copy(4, WALL + PAGE - 4),
  op('wall clock where no memory is', 'wrmsr', WALL_CLOCK, NO_MEMORY),
  op('wall clock where no memory is', 'rdmsr', WALL_CLOCK),
  op('system time that is not aligned', 'wrmsr', SYSTEM_TIME, (TIME + 0x202) | 1),
  copy(5, TIME + 0x202),
  op('system time across pages', 'wrmsr', SYSTEM_TIME, (TIME + PAGE - 16) | 1),
  copy(6, TIME + PAGE - 16),
  op('system time across pages', 'rdmsr', SYSTEM_TIME),
  op('system time where no memory is', 'wrmsr', SYSTEM_TIME, NO_MEMORY | 1),
  op('system time in read-only memory', 'wrmsr', SYSTEM_TIME, READ_ONLY | 1),
  op('system time is off', 'wrmsr', SYSTEM_TIME, TIME + 0x400),
  copy(7, TIME + 0x400),
  op('system time is off', 'rdmsr', SYSTEM_TIME),
  op('no register', 'wrmsr', 0x4b56_4d7f, 1),
  op('no register', 'rdmsr', 0x4b56_4d7f),
  op('no register', 'wrmsr', 0x4b56_4dff, 0),
  op('no register', 'rdmsr', 0x4b56_4dff),
  op('system time', 'wrmsr', SYSTEM_TIME, TIME | 1),
  op('TSC before', 'rdtsc'),
];
const OPERATIONS: readonly Operation[] = [...MSRS, ...CALLS_64, op('TSC after', 'rdtsc')];

/** Copies of pages of system time, and of wall clocks. */
const TIMES = [0, 1, 5, 6, 7];
const WALLS = [2, 3, 4];

/** A guest on KVM, when it has done all that. */
async function onKvm({ skip }: LabContext, mode: 'protected' | 'long', operations: readonly Operation[]): Promise<Rig> {
  if (x86Binutils() === undefined) skip('GNU as is not installed (Debian: binutils)');
  const source = mode === 'long' ? PROGRAM_64 : PROGRAM_32;
  const [code] = assembleX86([{ bits: mode === 'long' ? 64 : 32, source }]);
  const title = 'kvmclock and hypercalls';
  const c: ContractCase = { title, arch: 'x86_64', mode, code: source, words: GDT_32, trace: [] };
  const rig = new Rig(c, code!, kvmX86);
  const { slots, memory } = rig.engine;
  assert.notEqual(slots.map(READ_ONLY, PAGE, slots.allocate(PAGE), 0, true), undefined);
  storeOperations(memory, operations);
  rig.start();
  await rig.finish();
  return rig;
}

const text = (operations: readonly Operation[], results: readonly Result[]) =>
  operations.map(({ code, what }, i) => {
    const { value, fault } = results[i]!;
    // The time is everybody's own.
    const shown = code === 'rdtsc' ? 'a time' : `0x${BigInt.asUintN(64, value).toString(16)}`;
    return `${code}: ${what}: ${fault ? '#GP' : shown}`;
  });

labCase('EMU-X2, EMU-X3, EMU-X5: KVM answers as our services do, in 64-bit mode', { on: ['x86'] }, async context => {
  await using rig = await onKvm(context, 'long', OPERATIONS);
  const kvm = rig.engine.memory;
  const { fd } = (rig.subject.interrupts as X86Architecture).bootCpu;
  const hz = host().ioctl(fd, KVM_GET_TSC_KHZ, 0) * 1000;
  const ours = services(hz);
  const results = loadResults(kvm, OPERATIONS);
  const own = ours.run(OPERATIONS, true);
  assert.deepEqual(text(OPERATIONS, results), text(OPERATIONS, own));
  for (const line of text(CALLS_64, results.slice(MSRS.length))) context.note(line);

  // Pages: all but times and versions, which are even, and differ by how often they were written.
  const pages = (memory: typeof kvm) => ({
    times: TIMES.map(n => {
      const { version, mul, shift, flags, padding } = readTimeInfo(memory, COPY + 64 * n);
      return { written: version > 0, odd: version & 1, mul, shift, flags, padding };
    }),
    walls: WALLS.map(n => {
      const { version, ns } = readWallClock(memory, COPY + 64 * n);
      return { version, recent: ns > 1_600_000_000_000_000_000n };
    }),
  });
  assert.deepEqual(pages(kvm), pages(ours.memory));
  const first = readTimeInfo(kvm, COPY);
  context.note(`versions: ${TIMES.map(n => readTimeInfo(kvm, COPY + 64 * n).version).join(', ')}`);
  assert.deepEqual(pvclockScale(hz), { mul: first.mul, shift: first.shift });
  context.note(`${hz} Hz: multiplier 0x${first.mul.toString(16)}, shift ${first.shift}; ${guestTscKhz(first)} kHz`);

  // 2.2: KVM's pages, read with the guest's algorithm, are in step with KVM's pairs; and so are ours.
  for (const [name, memory, r] of [
    ['KVM', kvm, results],
    ['tsvisor', ours.memory, own],
  ] as const) {
    const time = readTimeInfo(memory, TIME);
    const tsc = memory.u64(PAIR + 16);
    const kvmclock = guestTime(time, tsc);
    const real = memory.u64(PAIR) * 1_000_000_000n + memory.u64(PAIR + 8);
    const error = Number(readWallClock(memory, COPY + 64 * 2).ns + kvmclock - real);
    context.note(`${name}: wall clock + kvmclock - pair = ${error} ns`);
    assert.ok(Math.abs(error) < 10_000_000);
    // X86-2.
    const [before, after] = [r[MSRS.length - 1]!.value, r.at(-1)!.value];
    assert.ok(before <= tsc && tsc <= after, `${before} <= ${tsc} <= ${after}`);
    assert.ok(guestTime(time, before) >= time.systemTime && guestTime(time, after) >= kvmclock);
  }

  // EMU-X6: a pause, as KVM tells guests of it.
  const version = kvm.u32(TIME);
  host().ioctl(fd, KVM_KVMCLOCK_CTRL);
  await rig.until('the page is written', () => kvm.u32(TIME) !== version && (kvm.u32(TIME) & 1) === 0);
  ours.kvmclock.resumed();
  assert.deepEqual([kvm.u8(TIME + 29), ours.memory.u8(TIME + 29)], [3, 3]);
});

labCase('EMU-X3: and in 32-bit mode, at CPL 0 and CPL 3', { on: ['x86'] }, async context => {
  const operations = [...CALLS, op('to CPL 3', 'to CPL 3'), ...CALLS];
  await using rig = await onKvm(context, 'protected', operations);
  const results = loadResults(rig.engine.memory, operations);
  const ours = services(1_000_000_000);
  const expected = text(operations, ours.run(operations, false));
  assert.deepEqual(text(operations, results), expected);
  assert.equal(rig.registers().rax, 0xffff_ffffn);
  for (const line of text(operations, results)) context.note(line);
});
