import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { FakeHost } from '../../../test/support/fake-kvm/fake-host.ts';
import type { FakeVcpu } from '../../../test/support/fake-kvm/fake-vcpu.ts';
import { RecordingSink } from '../../../test/support/fake-kvm/sink.ts';
import {
  exit,
  failEntry,
  hypercall,
  input,
  internalError,
  load,
  nisv,
  out,
  type Step,
  store,
  systemEvent,
} from '../../../test/support/fake-kvm/steps.ts';
import * as kvm from './abi/common.generated.ts';
import { CoalescedRing, ExitState } from './exit-state.ts';
import { KvmSystem } from './system.ts';
import { KvmVm } from './vm.ts';

const MMIO = 0x80_0000_1000;
/** Entries of the ring: the page without its head, by 24 bytes. */
const RING = 170;

let host: FakeHost;
let vm: KvmVm;
let cpu: FakeVcpu;
let state: ExitState;
let ring: CoalescedRing;
let sink: RecordingSink;
let run: () => number;

beforeEach(() => {
  host = new FakeHost();
  vm = new KvmVm(new KvmSystem(host), 0);
  const fd = vm.createVcpu(0);
  const runner = host.runnerCreate([fd], vm.system.vcpuMapSize, false);
  cpu = host.vm.vcpu(0);
  state = new ExitState(0, host.runnerState(runner, 0));
  ring = new CoalescedRing(host.runnerState(runner, 0), 2);
  sink = new RecordingSink();
  run = () => host.run(runner, 0);
});

/** Runs the guest to its next exit and tells its reason. */
function exitOf(step: Step): number {
  cpu.script.push(step);
  expect(run()).toBe(0);
  return state.reason;
}

/** The guest goes on with the answer; what it got. */
function answers(): bigint[] {
  expect(run()).toBe(-1);
  return cpu.answers;
}

describe('MMIO', () => {
  it.each([
    [1, 0xfe, 0xfe],
    [2, 0xfedc, 0xfedc],
    [4, 0xfedc_ba98, 0xfedc_ba98],
    [8, 0xfedc_ba98_7654_3210n, 0xfedc_ba98_7654_3210n],
  ])('of %d bytes reaches the device as one write', (size, value, seen) => {
    expect(exitOf(store(MMIO, size, value))).toBe(kvm.KVM_EXIT_MMIO);
    state.mmio(sink);
    expect(sink.events).toEqual([['mmioWrite', 0, MMIO, size, seen]]);
  });

  it.each([
    [1, 0xfe, 0xfen],
    [2, 0xfedc, 0xfedcn],
    [4, 0xfedc_ba98, 0xfedc_ba98n],
    [8, 0xfedc_ba98_7654_3210n, 0xfedc_ba98_7654_3210n],
    // A device of 32 bits that gives a number for a read of 64, or a negative one.
    [8, 7, 7n],
    [4, -1, 0xffff_ffffn],
    [2, -1, 0xffffn],
    [1, 0x1ff, 0xffn],
  ])('of %d bytes gives the guest what the device gave', (size, value, seen) => {
    expect(exitOf(load(MMIO, size))).toBe(kvm.KVM_EXIT_MMIO);
    sink.values.push(value);
    state.mmio(sink);
    expect(sink.events).toEqual([['mmioRead', 0, MMIO, size]]);
    expect(answers()).toEqual([seen]);
  });

  it('of a width that is none comes byte by byte, in order', () => {
    exitOf(store(MMIO, 3, 0x03_02_01));
    state.mmio(sink);
    expect(sink.events).toEqual([
      ['mmioWrite', 0, MMIO, 1, 1],
      ['mmioWrite', 0, MMIO + 1, 1, 2],
      ['mmioWrite', 0, MMIO + 2, 1, 3],
    ]);
    exitOf(load(MMIO, 3));
    sink.values.push(1, 2, 3);
    state.mmio(sink);
    expect(answers()).toEqual([0x03_02_01n]);
  });
});

describe('ports', () => {
  it.each([
    [1, 0xab],
    [2, 0xabcd],
    [4, 0xabcd_ef01],
  ])('of %d bytes are written and read', (size, value) => {
    expect(exitOf(out(0x3f8, size, value))).toBe(kvm.KVM_EXIT_IO);
    state.io(sink);
    exitOf(input(0xcfc, size));
    sink.values.push(value);
    state.io(sink);
    expect(answers()).toEqual([BigInt(value)]);
    expect(sink.events).toEqual([
      ['portOut', 0, 0x3f8, size, value],
      ['portIn', 0, 0xcfc, size],
    ]);
  });

  it('take a repeated string as so many accesses, in order', () => {
    exitOf(out(0x1f0, 2, 0x1111, 0x2222, 0x3333));
    state.io(sink);
    expect(sink.events).toEqual([
      ['portOut', 0, 0x1f0, 2, 0x1111],
      ['portOut', 0, 0x1f0, 2, 0x2222],
      ['portOut', 0, 0x1f0, 2, 0x3333],
    ]);
  });

  it('fill a string that is read with so many values', () => {
    exitOf(input(0x1f0, 4, 3));
    sink.values.push(0xffff_ffff, 1, 0x8000_0000);
    state.io(sink);
    expect(answers()).toEqual([0xffff_ffffn, 1n, 0x8000_0000n]);
  });

  it('give a byte and no more for a device that answers too much', () => {
    exitOf(input(0x60, 1, 2));
    sink.values.push(-1, 0x155);
    state.io(sink);
    expect(answers()).toEqual([0xffn, 0x55n]);
  });
});

describe('other exits', () => {
  it('a hypercall gives number and six arguments, and takes a result of 64 bits', () => {
    expect(exitOf(hypercall(9, 1n, 2n, 3n, 2n ** 64n - 1n))).toBe(kvm.KVM_EXIT_HYPERCALL);
    const call = state.hypercall;
    expect(call.nr).toBe(9);
    expect([0, 1, 2, 3, 4, 5, 6].map(n => call.arg(n))).toEqual([1n, 2n, 3n, 2n ** 64n - 1n, 0n, 0n, 0n]);
    call.result(-1000n);
    expect(answers()).toEqual([BigInt.asUintN(64, -1000n)]);
  });

  it('a system event tells its type', () => {
    expect(exitOf(systemEvent(kvm.KVM_SYSTEM_EVENT_RESET))).toBe(kvm.KVM_EXIT_SYSTEM_EVENT);
    expect(state.systemEvent).toBe(kvm.KVM_SYSTEM_EVENT_RESET);
  });

  it('an internal error tells its kind and its data, 16 words at most', () => {
    exitOf(internalError(3, 0x8000_000bn, 2n));
    expect(state.internalError).toEqual({ suberror: 3, data: [0x8000_000bn, 2n] });
    exitOf(exit(kvm.KVM_EXIT_INTERNAL_ERROR, r => r.setUint32(kvm.kvm_run['internal.ndata'], 0xffff_ffff, true)));
    expect(state.internalError.data).toHaveLength(16);
  });

  it('a failed entry tells the reason of the hardware', () => {
    exitOf(failEntry(0x8000_0021n));
    expect(state.reason).toBe(kvm.KVM_EXIT_FAIL_ENTRY);
    expect(state.hardwareReason).toBe(0x8000_0021n);
  });

  it('an access that arm64 does not decode tells syndrome and address', () => {
    exitOf(nisv(0x35n, 0x90_0001_0000));
    expect(state.nisv).toEqual({ iss: 0x35n, address: 0x90_0001_0000 });
  });
});

describe('writes that wait', () => {
  beforeEach(() => {
    vm.coalesce('memory', MMIO, 16, true);
    vm.coalesce('io', 0x3f8, 1, true);
  });

  it('reach their devices in the guest’s order when they are drained, and once', () => {
    cpu.script.push(store(MMIO, 4, 0x41), out(0x3f8, 1, 0x42), store(MMIO + 8, 8, 2n ** 63n), store(MMIO, 1, 0x43));
    expect(run()).toBe(-1);
    expect(sink.events).toEqual([]);
    ring.drain(sink);
    const all = [
      ['mmioWrite', 0, MMIO, 4, 0x41],
      ['portOut', 0, 0x3f8, 1, 0x42],
      ['mmioWrite', 0, MMIO + 8, 8, 2n ** 63n],
      ['mmioWrite', 0, MMIO, 1, 0x43],
    ];
    expect(sink.events).toEqual(all);
    ring.drain(sink);
    expect(sink.events).toHaveLength(4);
  });

  it('are no exits until the ring is full, and then one', () => {
    for (let i = 0; i < RING; i++) cpu.script.push(store(MMIO, 4, i));
    // One place stays empty, so that full is not taken for empty.
    expect(run()).toBe(0);
    expect(cpu.script).toEqual([]);
    ring.drain(sink);
    state.mmio(sink);
    expect(sink.events.map(e => e[4])).toEqual(Array.from({ length: RING }, (_, i) => i));
  });

  it('are all there and in order over the end of the ring, however often it is drained', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: RING - 1 }), { maxLength: 12 }), batches => {
        sink.events.length = 0;
        let next = 0;
        for (const count of batches) {
          for (let i = 0; i < count; i++) cpu.script.push(store(MMIO, 4, next++));
          expect(run()).toBe(-1);
          ring.drain(sink);
        }
        expect(sink.events.map(e => e[4])).toEqual(Array.from({ length: next }, (_, i) => i));
      }),
      { numRuns: 30 },
    );
  });

  it('outside of the zone, or of a zone that has ended, are exits', () => {
    expect(exitOf(store(MMIO + 14, 4, 1))).toBe(kvm.KVM_EXIT_MMIO);
    vm.coalesce('memory', MMIO, 16, false);
    expect(exitOf(store(MMIO, 4, 1))).toBe(kvm.KVM_EXIT_MMIO);
    expect(exitOf(out(0x3f9, 1, 1))).toBe(kvm.KVM_EXIT_IO);
  });
});
