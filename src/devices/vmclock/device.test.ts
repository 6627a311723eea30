import { describe, expect, it } from 'vitest';
import { guestTime, readVmClock } from '../../../test/support/vmclock.ts';
import { type CounterReading, VmClock, type VmClockOptions } from './device.ts';
import * as R from './regs.ts';

const HZ = 62_500_000;
const EPOCH = 1_700_000_000_000_000_000n;

/** A VM clock of a counter that stands where the test puts it. */
function clockOf(options: { exact?: boolean; counter?: undefined; disruptionMarker?: bigint } = {}) {
  const page = new Uint8Array(4096);
  const now = { wallNs: EPOCH, counter: 1000n, errorNs: 250 };
  const sleep = { ns: -123e9 };
  let reads = 0;
  const read = (): CounterReading => {
    reads++;
    return now;
  };
  const counter =
    'counter' in options ? undefined : { id: R.COUNTER_ARM_VCNT, hz: HZ, read, exact: options.exact ?? false };
  const made: VmClockOptions = {
    page,
    counter,
    disruptionMarker: options.disruptionMarker ?? 40n,
    vmGenerationCounter: 70n,
    hostSleepNs: () => sleep.ns,
  };
  const device = new VmClock(made);
  return { device, page, now, sleep, reads: () => reads, fields: () => readVmClock(page) };
}

describe('a VM clock', () => {
  it('says what it is, and has no time before the guest runs', () => {
    const { fields, reads } = clockOf();
    expect(fields()).toMatchObject({ magic: 0x4b4c_4356, size: 4096, version: 1, counterId: 0, timeType: 0 });
    expect(fields()).toMatchObject({
      clockStatus: R.STATUS_INITIALIZING,
      disruptionMarker: 40n,
      vmGenerationCounter: 70n,
    });
    expect(reads()).toBe(0);
  });

  it('has a pair when the guest runs, and another one after a second of it', () => {
    const { device, page, now, reads, fields } = clockOf();
    device.refresh(0);
    const first = fields();
    expect(first).toMatchObject({ counterValue: 1000n, timeSec: 1_700_000_000n, disruptionMarker: 40n });
    expect([first.seqCount & 1, guestTime(page, 1000n)]).toEqual([0, EPOCH]);
    device.refresh(999_999_999);
    expect([reads(), fields()]).toEqual([1, first]);
    // The host's clock was set: the guest sees it, and no disruption.
    now.wallNs += 3_600_000_000_000n;
    now.counter += 62_500_000n;
    device.refresh(1e9);
    expect([reads(), guestTime(page, now.counter)]).toEqual([2, now.wallNs]);
    expect(fields()).toMatchObject({ seqCount: first.seqCount + 2, disruptionMarker: 40n });
    // A guest that has slept for long: one new pair, when it runs again.
    device.refresh(100e9);
    expect(reads()).toBe(3);
  });

  it('promises no error bound for the time of a host, which may be wrong', () => {
    const { device, fields } = clockOf();
    device.refresh(0);
    expect(fields()).toMatchObject({
      flags: R.FLAG_VM_GEN_COUNTER_PRESENT,
      clockStatus: R.STATUS_FREERUNNING,
      timeMaxErrorNs: 0n,
    });
  });

  it('with the virtual clock is right but for a tick, once and for all', () => {
    const { device, now, reads, fields } = clockOf({ exact: true });
    now.errorNs = 0;
    device.refresh(0);
    device.refresh(1e15);
    expect(reads()).toBe(1);
    expect(fields()).toMatchObject({
      flags: R.FLAG_VM_GEN_COUNTER_PRESENT | R.FLAG_PERIOD_MAXERROR_VALID | R.FLAG_TIME_MAXERROR_VALID,
      clockStatus: R.STATUS_SYNCHRONIZED,
      timeMaxErrorNs: 16n,
    });
    // A reset of the machine may set the counter.
    device.reset();
    device.refresh(1);
    expect(reads()).toBe(2);
  });

  it('whose counter stood: another marker, and the new pair with it', () => {
    const { device, page, now, fields } = clockOf();
    device.refresh(0);
    const { seqCount } = fields();
    now.wallNs += 5_000_000_000n;
    device.disrupt();
    expect(fields()).toMatchObject({ disruptionMarker: 41n, vmGenerationCounter: 70n, seqCount: seqCount + 2 });
    expect(guestTime(page, now.counter)).toBe(now.wallNs);
  });

  it.each([{}, { counter: undefined }])(
    'of a host that has been suspended: another marker when the guest runs again',
    o => {
      const { device, now, sleep, fields } = clockOf(o);
      device.refresh(0);
      // What is read of a host that never sleeps is not quite steady.
      for (const [s, ns] of [20e6, -30e6, 100e6].entries()) {
        sleep.ns = -123e9 + ns;
        device.refresh((s + 1) * 1e9);
      }
      expect(fields()).toMatchObject({ disruptionMarker: 40n });
      sleep.ns += 600e9;
      now.wallNs += 600_000_000_000n;
      device.refresh(4e9);
      expect(fields()).toMatchObject({ disruptionMarker: 41n, vmGenerationCounter: 70n });
      device.refresh(5e9);
      expect(fields()).toMatchObject({ disruptionMarker: 41n });
    },
  );

  it('with the virtual clock is not disrupted by a pause, which does not exist for it', () => {
    const { device, fields } = clockOf({ exact: true });
    device.refresh(0);
    const before = fields();
    device.disrupt();
    expect(fields()).toEqual(before);
  });

  it.each([false, true])(
    'that is restored has other markers than the one that was saved (virtual clock: %s)',
    exact => {
      const parent = clockOf({ exact });
      parent.device.refresh(0);
      parent.device.refresh(5e9);
      const saved = parent.device.save();
      const before = parent.fields();
      const child = clockOf({ exact, disruptionMarker: 12345n });
      child.device.restore(saved);
      expect(child.fields()).toMatchObject({ disruptionMarker: 41n, vmGenerationCounter: 71n });
      expect([child.fields().seqCount & 1, child.fields().seqCount]).toEqual([0, before.seqCount + 2]);
      expect(guestTime(child.page, child.now.counter)).toBe(child.now.wallNs);
      expect(parent.fields()).toEqual(before);
      // And its own child another one again.
      const grandchild = clockOf({ exact });
      grandchild.device.restore(child.device.save());
      expect(grandchild.fields()).toMatchObject({ disruptionMarker: 42n, vmGenerationCounter: 72n });
    },
  );

  it('without a counter that can be read tells of disruptions only', () => {
    const { device, fields } = clockOf({ counter: undefined, disruptionMarker: 2n ** 64n - 1n });
    device.refresh(5e9);
    expect(fields()).toMatchObject({
      ...{ counterId: R.COUNTER_INVALID, clockStatus: R.STATUS_UNKNOWN, counterValue: 0n, timeSec: 0n },
      ...{ disruptionMarker: 2n ** 64n - 1n, seqCount: 2 },
    });
    device.disrupt();
    expect(fields()).toMatchObject({ disruptionMarker: 0n, seqCount: 4 });
  });

  it('gives the same by exits, where its page cannot be mapped, and takes no writes', () => {
    const { device, page } = clockOf();
    device.refresh(0);
    const before = [...page];
    device.write();
    device.write64();
    expect([...page]).toEqual(before);
    expect([device.read(0, 4), device.read(4, 2), device.read(0x0a, 1)]).toEqual([0x4b4c_4356, 4096, 0]);
    expect(device.read64(R.COUNTER_VALUE)).toBe(1000n);
  });
});
