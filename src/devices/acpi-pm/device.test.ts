import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../time/virtual-clock.ts';
import { AcpiPm } from './device.ts';
import * as R from './regs.ts';

/** When bit 31 changes first, ns. */
const TOGGLE_NS = Math.ceil((2 ** 31 / R.PM_TIMER_HZ) * 1e9);

function connect() {
  const levels: boolean[] = [];
  const log: string[] = [];
  const clock = createVirtualClock({ startWall: 0n });
  const pm = new AcpiPm({
    sci: { set: level => levels.push(level) },
    clock,
    sleepTypeS5: 5,
    powerOff: () => log.push('off'),
    log: line => log.push(line),
  });
  const reach = (ns: number) => {
    while (clock.nextDeadline() <= ns) {
      clock.advanceTo(clock.nextDeadline());
      clock.runDue();
    }
    clock.advanceTo(ns);
  };
  return {
    pm,
    levels,
    log,
    clock,
    reach,
    sts: () => pm.event.read(R.PM1_STS, 2),
    clear: (bits: number) => pm.event.write(R.PM1_STS, 2, bits),
    en: () => pm.event.read(R.PM1_EN, 2),
    enable: (bits: number) => pm.event.write(R.PM1_EN, 2, bits),
  };
}

describe('AcpiPm', () => {
  it('counts 3.579545 MHz in 32 bits, exactly after years', () => {
    const { pm, reach } = connect();
    const at = (ns: number) => {
      reach(ns);
      return pm.timer.read(0, 4);
    };
    expect(at(279)).toBe(0);
    expect(at(280)).toBe(1);
    expect(at(1e9)).toBe(3_579_545);
    expect(at(1200e9)).toBe((1200 * 3_579_545) % 2 ** 32);
    const ns = 104 * 86_400 * 1_000_000_000 + 123_456_789;
    expect(at(ns)).toBe(Number((BigInt(ns) * 3_579_545n) / 1_000_000_000n) % 2 ** 32);
    pm.timer.write(0, 4, 0);
    const value = at(ns);
    expect([pm.timer.read(0, 2), pm.timer.read(2, 2), pm.timer.read(1, 1)]).toEqual([
      value & 0xffff,
      value >>> 16,
      (value >>> 8) & 0xff,
    ]);
  });

  it('interrupts when bit 31 changes, for which one timer runs if it is enabled', () => {
    const { sts, clear, enable, levels, reach, clock } = connect();
    reach(TOGGLE_NS - 1);
    expect([sts(), clock.nextDeadline()]).toEqual([0, Number.POSITIVE_INFINITY]);
    reach(TOGGLE_NS);
    expect([sts(), levels]).toEqual([R.TMR, []]);
    enable(R.TMR);
    expect([levels, clock.nextDeadline()]).toEqual([[true], Number.POSITIVE_INFINITY]);
    clear(R.TMR);
    expect([sts(), levels]).toEqual([0, [true, false]]);
    // The way back counts as well.
    reach(2 * TOGGLE_NS - 1000);
    expect(levels.length).toBe(2);
    reach(2 * TOGGLE_NS);
    expect([levels, sts()]).toEqual([[true, false, true], R.TMR]);
  });

  it('tells of the power button, whether SCI is enabled before or after', () => {
    const { pm, sts, clear, enable, levels } = connect();
    pm.pressPowerButton();
    expect([sts(), levels]).toEqual([R.PWRBTN, []]);
    enable(R.PWRBTN);
    clear(R.TMR | R.GBL);
    expect([sts(), levels]).toEqual([R.PWRBTN, [true]]);
    clear(R.PWRBTN);
    expect([sts(), levels]).toEqual([0, [true, false]]);
    pm.pressPowerButton();
    enable(0);
    expect([sts(), levels]).toEqual([R.PWRBTN, [true, false, true, false]]);
  });

  it('has enables for the events that exist, and takes accesses of any width', () => {
    const { pm, en, enable, sts, levels } = connect();
    enable(0xffff);
    expect(en()).toBe(R.TMR | R.GBL | R.PWRBTN | R.RTC);
    pm.event.write(R.PM1_EN, 1, 0);
    expect([en(), pm.event.read(3, 1)]).toEqual([0x500, 0x05]);
    pm.pressPowerButton();
    pm.event.write(R.PM1_STS, 1, 0xff);
    expect(pm.event.read(0, 4)).toBe(0x0500_0100);
    pm.event.write(1, 1, 0x01);
    expect([sts(), en(), levels]).toEqual([0, 0x500, [true, false]]);
    pm.pressPowerButton();
    pm.event.write(0, 4, 0x0020_0100);
    expect(pm.event.read(0, 4)).toBe(0x0020_0000);
  });

  it('is always in ACPI mode, and keeps of PM1_CNT what can be read', () => {
    const { pm, log } = connect();
    expect(pm.control.read(0, 2)).toBe(R.SCI_EN);
    pm.control.write(0, 2, 0xffff & ~R.SLP_EN);
    expect(pm.control.read(0, 2)).toBe(R.SCI_EN | R.BM_RLD | R.SLP_TYP);
    pm.control.write(0, 2, 0);
    expect([pm.control.read(0, 2), log]).toEqual([R.SCI_EN, []]);
    pm.control.write(1, 1, 0x14);
    expect([pm.control.read(0, 2), pm.control.read(1, 1)]).toEqual([0x1401, 0x14]);
  });

  it('powers off for S5 with SLP_EN, in one write, in two, or in that of a byte; other states are not there', () => {
    const { pm, log } = connect();
    pm.control.write(0, 2, 5 << 10);
    expect(log).toEqual([]);
    pm.control.write(0, 2, (5 << 10) | R.SLP_EN);
    expect(log).toEqual(['off']);
    pm.control.write(1, 1, 0x34);
    expect(log).toEqual(['off', 'off']);
    expect(pm.control.read(0, 2)).toBe(0x1401);
    pm.control.write(0, 2, (1 << 10) | R.SLP_EN);
    expect(log[2]).toMatch(/SLP_TYP 1/);
  });

  it('goes on in another one, and forgets all but the time on reset', () => {
    const a = connect();
    a.reach(1e9);
    a.enable(R.TMR | R.GBL);
    a.pm.control.write(0, 2, 7 << 10);
    a.pm.pressPowerButton();
    const b = connect();
    b.reach(2e9);
    b.pm.restore(structuredClone(a.pm.save()));
    expect([b.sts(), b.en(), b.pm.control.read(0, 2), b.levels]).toEqual([R.PWRBTN, R.TMR | R.GBL, 0x1c01, []]);
    b.reach(TOGGLE_NS);
    expect(b.levels).toEqual([true]);
    b.pm.reset();
    expect([b.sts(), b.en(), b.pm.control.read(0, 2), b.levels]).toEqual([0, 0, 1, [true, false]]);
    expect([b.pm.timer.read(0, 4), b.clock.nextDeadline()]).toEqual([2 ** 31, Number.POSITIVE_INFINITY]);
    // What came due between the two is not lost.
    const late = connect();
    late.reach(TOGGLE_NS + 1e9);
    late.pm.restore(a.pm.save());
    expect(late.levels).toEqual([true]);
  });

  it('under any accesses and times: nothing throws, SCI is status and enable', () => {
    const step = fc.record({
      block: fc.constantFrom('event' as const, 'control' as const, 'timer' as const),
      offset: fc.nat(7),
      size: fc.constantFrom(1 as const, 2 as const, 4 as const),
      value: fc.option(fc.nat(0xffff_ffff), { nil: undefined }),
      ns: fc.oneof(
        fc.constant(0),
        fc.nat(400).map(s => s * 1e9),
      ),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const { pm, clock, levels, sts, en } = connect();
        for (const { block, offset, size, value, ns } of steps) {
          if (value === undefined) expect(pm[block].read(offset, size)).toBeLessThan(2 ** (8 * size));
          else pm[block].write(offset, size, value % 2 ** (8 * size));
          clock.advanceTo(clock.nowNs() + ns);
          clock.runDue();
          expect(clock.nextDeadline()).toBeGreaterThan(clock.nowNs());
          expect((sts() & en()) !== 0).toBe(levels.at(-1) ?? false);
        }
      }),
    );
  });
});
