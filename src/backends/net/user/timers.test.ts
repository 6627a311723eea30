import { describe, expect, it } from 'vitest';
import { FakeTime } from '../../../../test/support/user-net.ts';
import { Deadlines } from './timers.ts';

function makeDeadlines() {
  const time = new FakeTime();
  const deadlines = new Deadlines(time);
  const log: string[] = [];
  const add = (name: string, ms: number, then: () => void = () => undefined) => {
    const member = {
      deadline: time.now() + ms,
      expire: () => {
        log.push(name);
        member.deadline = Number.POSITIVE_INFINITY;
        then();
      },
    };
    deadlines.add(member);
    return member;
  };
  return { time, deadlines, log, add };
}

describe('Deadlines', () => {
  it('uses one timer, and none while there is nothing to wait for', () => {
    const { time, deadlines, log, add } = makeDeadlines();
    const members = [add('c', 300), add('a', 100), add('b', 200)];
    expect(time.timers).toBe(1);
    time.advance(99);
    expect(log).toEqual([]);
    time.advance(250);
    expect(log).toEqual(['a', 'b', 'c']);
    expect(time.timers).toBe(0);
    for (const m of members) deadlines.delete(m);
  });

  it('notices deadlines that moved', () => {
    const { time, deadlines, log, add } = makeDeadlines();
    const member = add('a', 100);
    member.deadline += 400;
    time.advance(499);
    expect(log).toEqual([]);
    member.deadline -= 300; // in the past
    deadlines.update(member);
    time.advance(5);
    expect(log).toEqual(['a']);
  });

  it('does not call one that another took out', () => {
    const { time, deadlines, log, add } = makeDeadlines();
    add('a', 100, () => deadlines.delete(b));
    const b = add('b', 100);
    time.advance(200);
    expect(log).toEqual(['a']);
  });

  it('takes new members while it calls others', () => {
    const { time, log, add } = makeDeadlines();
    add('a', 100, () => add('b', 50));
    time.advance(100);
    expect([log, time.timers]).toEqual([['a'], 1]);
    time.advance(50);
    expect(log).toEqual(['a', 'b']);
  });
});
