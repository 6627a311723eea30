import { describe, expect, it } from 'vitest';
import { hostTime } from '../../test/support/host-time.ts';
import { createHostClock } from './host-clock.ts';
import { createVirtualClock } from './virtual-clock.ts';
import { toWall } from './wall.ts';

describe('createHostClock', () => {
  it('counts from its creation and follows the host wall clock', () => {
    let mono = 5_000.75;
    let wall = 1_700_000_000_123_456_789n;
    const clock = createHostClock(
      hostTime(
        () => mono,
        () => wall,
      ),
    );
    expect(clock.nowNs()).toBe(0);
    mono += 1234.5;
    expect(clock.nowNs()).toBe(1234);
    expect(clock.wall()).toEqual({ sec: 1_700_000_000n, nsec: 123_456_789 });
    wall -= 3_600_000_000_000n; // somebody sets the host's clock back
    expect(clock.wall().sec).toBe(1_699_996_400n);
    expect(clock.nowNs()).toBe(1234);
  });

  it('runs timers only when driven', () => {
    let mono = 0;
    let ran = 0;
    const clock = createHostClock(
      hostTime(
        () => mono,
        () => 0n,
      ),
    );
    clock.at(100, () => ran++);
    mono = 99;
    clock.runDue();
    expect([ran, clock.nextDeadline()]).toEqual([0, 100]);
    mono = 100;
    expect(ran).toBe(0);
    clock.runDue();
    expect([ran, clock.nextDeadline()]).toEqual([1, Number.POSITIVE_INFINITY]);
  });

  it('stands while it is held; the wall clock goes on', () => {
    let mono = 0;
    let wall = 0n;
    let ran = 0;
    const clock = createHostClock(
      hostTime(
        () => mono,
        () => wall,
      ),
      1000,
    );
    clock.at(1200, () => ran++);
    mono = 100;
    clock.hold();
    mono = 5000;
    wall = 5000n;
    clock.hold();
    clock.runDue();
    expect([clock.nowNs(), clock.wall().nsec, ran]).toEqual([1100, 5000, 0]);
    clock.release();
    clock.release();
    expect(clock.nowNs()).toBe(1100);
    mono = 5100;
    clock.runDue();
    expect([clock.nowNs(), ran]).toEqual([1200, 1]);
  });
});

describe('createVirtualClock', () => {
  it('moves only forward and only by advanceTo', () => {
    const clock = createVirtualClock({ startWall: 1_000_000_000_999_999_999n });
    let ran = 0;
    clock.at(2, () => ran++);
    expect([clock.nowNs(), clock.wall()]).toEqual([0, { sec: 1_000_000_000n, nsec: 999_999_999 }]);
    clock.advanceTo(2);
    expect([clock.nowNs(), clock.wall(), ran]).toEqual([2, { sec: 1_000_000_001n, nsec: 1 }, 0]);
    clock.runDue();
    clock.advanceTo(1);
    clock.advanceTo(Number.NaN);
    clock.advanceTo(Number.POSITIVE_INFINITY); // "idle until never" must not become the time
    expect([clock.nowNs(), ran]).toEqual([2, 1]);
  });
});

describe('toWall', () => {
  it('keeps nsec in 0..999999999 also before 1970', () => {
    expect(toWall(-1n)).toEqual({ sec: -1n, nsec: 999_999_999 });
    expect(toWall(-1_000_000_000n)).toEqual({ sec: -1n, nsec: 0 });
    expect(toWall(1_000_000_000n)).toEqual({ sec: 1n, nsec: 0 });
  });
});
