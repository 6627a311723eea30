import { describe, expect, it } from 'vitest';
import { fakeHost } from '../../../../test/support/fake-virtio.ts';
import { BASE, BUFFERS, RAM_BYTES, readable, rig, writable } from '../../../../test/support/virtqueue.ts';
import { createVirtualClock } from '../../../time/virtual-clock.ts';
import type { VirtQueue } from '../device.ts';
import { VirtioBalloon } from './device.ts';
import { pinAwareDiscarder } from './discarder.ts';
import * as R from './regs.ts';

const PAGE = 4096;
const [INFLATE, DEFLATE, STATS, REPORTING] = [0, 1, 2, 3];
/** The page that the guest gives up. */
const VICTIM = BASE + 0x3_0000;

/** A balloon whose queue `index` is a real one, over memory with a table of pins. */
function setup(index: number) {
  const r = rig({ packed: false });
  const { pins } = r.ram;
  const balloon = new VirtioBalloon({
    ram: [{ base: BASE, size: RAM_BYTES }],
    discarder: pinAwareDiscarder(pins),
    clock: createVirtualClock({ startWall: 0n }),
  });
  const start = () => {
    const host = fakeHost(balloon);
    (host.queues as unknown as VirtQueue[])[index] = r.queue;
    return host;
  };
  start();
  r.ram.setU32(VICTIM, 0x1234_5678);
  const owner = pins.owner('another device');
  /** The driver gives up, or takes back, the victim; true when the device has answered. */
  const name = () => {
    r.ram.setU32(BUFFERS, VICTIM / PAGE);
    r.driver.offer([readable(BUFFERS, 4)], false);
    balloon.notify(index);
    return r.driver.collect().length === 1;
  };
  return { r, pins, balloon, owner, name, start };
}

describe('table 4.3, balloon inflate', () => {
  it('not pinned: is zeros from now on, and counted', () => {
    const { r, pins, balloon, name } = setup(INFLATE);
    expect(name()).toBe(true);
    expect([r.ram.u32(VICTIM), pins.page(VICTIM)?.state]).toEqual([0, 'discarded']);
    expect(balloon.discards).toEqual({ discarded: 1, queued: 0, skippedPinned: 0 });
  });

  it('short pin: the descriptor is returned at once, the page goes with its last pin', () => {
    const { r, pins, balloon, owner, name } = setup(INFLATE);
    const held = [r.ram.pin(VICTIM, 8, 'w', owner), r.ram.pin(VICTIM, PAGE, 'r', owner)];
    expect([name(), r.ram.u32(VICTIM)]).toEqual([true, 0x1234_5678]);
    expect(balloon.discards).toEqual({ discarded: 0, queued: 1, skippedPinned: 0 });
    pins.unpin(held[0]!);
    expect(r.ram.u32(VICTIM)).toBe(0x1234_5678);
    pins.unpin(held[1]!);
    expect(r.ram.u32(VICTIM)).toBe(0);
  });

  it('long pin: is never discarded, and counted', () => {
    const { r, pins, balloon, owner, name } = setup(INFLATE);
    const held = r.ram.pin(VICTIM, 8, 'r', owner, true);
    expect(name()).toBe(true);
    pins.unpin(held);
    expect(r.ram.u32(VICTIM)).toBe(0x1234_5678);
    expect(balloon.discards).toEqual({ discarded: 0, queued: 0, skippedPinned: 1 });
  });
});

describe('table 4.3, balloon deflate', () => {
  it("not pinned: the page is the guest's again, as zeros", () => {
    const { r, pins, name } = setup(DEFLATE);
    pins.discard(VICTIM, PAGE, 'balloon');
    expect(name()).toBe(true);
    expect([r.ram.u32(VICTIM), pins.page(VICTIM)?.state]).toEqual([0, 'present']);
  });

  it('short pin: a discard that was queued is cancelled', () => {
    const { r, pins, owner, name } = setup(DEFLATE);
    const held = r.ram.pin(VICTIM, PAGE, 'w', owner);
    pins.discard(VICTIM, PAGE, 'balloon');
    expect(name()).toBe(true);
    pins.unpin(held);
    expect([r.ram.u32(VICTIM), pins.stats().cancelled]).toEqual([0x1234_5678, 1]);
  });

  it('a reset takes everything out of the balloon, what is queued too', () => {
    const { r, pins, owner, balloon, name, start } = setup(INFLATE);
    name();
    const other = VICTIM + PAGE;
    r.ram.setU32(other, 77);
    const held = r.ram.pin(other, PAGE, 'w', owner);
    pins.discard(other, PAGE, 'balloon');
    balloon.reset();
    pins.unpin(held);
    expect([pins.page(VICTIM)?.state, pins.page(other)?.state, r.ram.u32(other)]).toEqual(['present', 'present', 77]);
    start();
    expect(name()).toBe(true);
    expect(pins.page(VICTIM)?.state).toBe('discarded');
  });
});

describe('table 4.3, free-page reporting', () => {
  const report = ({ r, balloon }: ReturnType<typeof setup>) => {
    r.driver.offer([writable(VICTIM, 2 * PAGE)], false);
    balloon.notify(REPORTING);
    return r.driver.collect().length;
  };

  it('not pinned: discards, though the pages are the buffers of the request', () => {
    const s = setup(REPORTING);
    expect(report(s)).toBe(1);
    expect([s.r.ram.u32(VICTIM), s.pins.page(VICTIM)?.state]).toEqual([0, 'present']);
    expect(s.balloon.discards).toEqual({ discarded: 2, queued: 0, skippedPinned: 0 });
    expect(s.r.ram.counts).toEqual([0, 3]);
  });

  it.each([false, true])('pinned: skips the page, longterm %s', longterm => {
    const s = setup(REPORTING);
    const held = s.r.ram.pin(VICTIM, 4, 'r', s.owner, longterm);
    expect(report(s)).toBe(1);
    s.pins.unpin(held);
    expect(s.r.ram.u32(VICTIM)).toBe(0x1234_5678);
    expect(s.balloon.discards).toEqual({ discarded: 1, queued: 0, skippedPinned: 1 });
  });

  it('a poison value other than 0: skips everything', () => {
    const s = setup(REPORTING);
    s.balloon.writeConfig(R.POISON_VAL, 4, 0xaa);
    expect(report(s)).toBe(1);
    expect(s.r.ram.u32(VICTIM)).toBe(0x1234_5678);
  });
});

it('PIN-5: the buffer of statistics, which waits for the next question, is not pinned meanwhile', () => {
  const { r, balloon } = setup(STATS);
  r.driver.offer([readable(BUFFERS, 10)], false);
  balloon.notify(STATS);
  expect([balloon.statistics, r.ram.counts, r.driver.collect()]).toEqual([{ swapIn: 0 }, [0, 3], []]);
  void balloon.requestStatistics().catch(() => undefined);
  expect(r.driver.collect()).toHaveLength(1);
});
