import { describe, expect, it } from 'vitest';
import { hostTime } from '../../../test/support/host-time.ts';
import { createHostClock } from '../../time/host-clock.ts';
import { createVirtualClock } from '../../time/virtual-clock.ts';
import { Pl031 } from './device.ts';
import * as R from './regs.ts';

/** 2023-11-14T22:13:20.25Z */
const START = 1_700_000_000_250_000_000n;
const SEC = 1e9;

function connect() {
  const levels: boolean[] = [];
  const clock = createVirtualClock({ startWall: START });
  const rtc = new Pl031({ clock, irq: { set: level => levels.push(level) } });
  return {
    rtc,
    levels,
    get: (offset: number) => rtc.read(offset, 4),
    set: (offset: number, value: number) => rtc.write(offset, 4, value),
    /** Lets the time reach `ns`. */
    reach: (ns: number) => {
      clock.advanceTo(ns);
      clock.runDue();
    },
    clock,
  };
}

describe('Pl031', () => {
  it('shows the wall clock and identifies itself', () => {
    const { get, set, reach, rtc } = connect();
    expect(get(R.RTCDR)).toBe(1_700_000_000);
    reach(0.75 * SEC);
    expect(get(R.RTCDR)).toBe(1_700_000_001);
    expect([get(R.RTCCR), get(R.RTCMR), get(R.RTCLR), get(R.RTCIMSC), get(R.RTCRIS), get(R.RTCMIS)]).toEqual([
      1, 0, 0, 0, 0, 0,
    ]);
    set(R.RTCCR, 0);
    expect(get(R.RTCCR)).toBe(1);
    const id = [0xfe0, 0xfe4, 0xfe8, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc].map(get);
    expect(id).toEqual([0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    expect([get(0x020), rtc.read(1, 1), rtc.read(R.RTCDR, 1)]).toEqual([0, 0, 1_700_000_001 & 0xff]);
  });

  it('counts on from what is loaded, through 2^32 and a reset', () => {
    const { rtc, get, set, reach } = connect();
    set(R.RTCLR, 0xffff_ffff);
    expect([get(R.RTCDR), get(R.RTCLR)]).toEqual([0xffff_ffff, 0xffff_ffff]);
    reach(2 * SEC);
    expect(get(R.RTCDR)).toBe(1);
    rtc.reset();
    expect([get(R.RTCDR), get(R.RTCLR)]).toEqual([1, 0]);
  });

  it('rings when the count reaches the match, at the second and not before', () => {
    const { levels, get, set, reach, clock } = connect();
    set(R.RTCIMSC, 1);
    set(R.RTCMR, 1_700_000_003);
    expect(clock.nextDeadline()).toBe(2.75 * SEC);
    reach(2.75 * SEC - 1);
    expect([get(R.RTCRIS), levels]).toEqual([0, []]);
    reach(2.75 * SEC);
    expect([get(R.RTCDR), get(R.RTCRIS), get(R.RTCMIS), levels]).toEqual([1_700_000_003, 1, 1, [true]]);
    set(R.RTCIMSC, 0);
    expect([get(R.RTCRIS), get(R.RTCMIS), levels]).toEqual([1, 0, [true, false]]);
    set(R.RTCICR, 1);
    expect(get(R.RTCRIS)).toBe(0);
  });

  it('rings at once when the match is now, and after 2^32 s when it has just passed', () => {
    const { get, set, clock } = connect();
    set(R.RTCMR, 1_700_000_000);
    expect([get(R.RTCRIS), clock.nextDeadline()]).toEqual([1, Number.POSITIVE_INFINITY]);
    set(R.RTCICR, 1);
    set(R.RTCMR, 1_699_999_999);
    expect([get(R.RTCRIS), clock.nextDeadline()]).toEqual([0, (2 ** 32 - 1) * SEC - 0.25 * SEC]);
  });

  it('moves the alarm when the time is set, and forgets it on reset', () => {
    const { rtc, set, clock } = connect();
    set(R.RTCMR, 1_700_000_010);
    set(R.RTCLR, 1_700_000_008);
    expect(clock.nextDeadline()).toBe(1.75 * SEC);
    rtc.reset();
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
  });

  it('waits on when the host sets its clock back, and rings late rather than never when it is set forward', () => {
    let mono = 0;
    let wall = 1_700_000_000_000_000_000n;
    const clock = createHostClock(
      hostTime(
        () => mono,
        () => wall,
      ),
    );
    const rtc = new Pl031({ clock, irq: { set: () => {} } });
    rtc.write(R.RTCMR, 4, 1_700_000_010);
    mono = 10 * SEC;
    wall += 4_000_000_000n;
    clock.runDue();
    expect([rtc.read(R.RTCRIS, 4), clock.nextDeadline()]).toEqual([0, 16 * SEC]);
    mono = 16 * SEC;
    wall += 3_600_000_000_000n;
    clock.runDue();
    expect(rtc.read(R.RTCRIS, 4)).toBe(1);
  });

  it('goes on in another one: the time that was set, and an alarm that is still to come', () => {
    const a = connect();
    a.set(R.RTCLR, 1000);
    a.set(R.RTCIMSC, 1);
    a.set(R.RTCMR, 1003);
    a.reach(1 * SEC);
    const b = connect();
    b.reach(1 * SEC);
    b.rtc.restore(structuredClone(a.rtc.save()));
    expect([R.RTCDR, R.RTCMR, R.RTCLR, R.RTCIMSC, R.RTCRIS].map(b.get)).toEqual([1001, 1003, 1000, 1, 0]);
    b.reach(2.8 * SEC);
    expect([b.get(R.RTCMIS), b.levels.at(-1)]).toEqual([1, true]);
    // One that has rung goes on ringing.
    const c = connect();
    c.rtc.restore(b.rtc.save());
    expect([c.get(R.RTCMIS), c.levels.at(-1)]).toEqual([1, true]);
  });
});
