import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TimerQueue } from './timer-queue.ts';

describe('TimerQueue', () => {
  it('runs what is due in time order, equal times in order of creation, each once', () => {
    const q = new TimerQueue();
    const ran: string[] = [];
    for (const [name, at] of Object.entries({ c: 30, a1: 10, b: 20, a2: 10, late: 31 })) {
      q.at(at, () => ran.push(name));
    }
    expect(q.nextDeadline()).toBe(10);
    q.runDue(9.9);
    expect(ran).toEqual([]);
    q.runDue(30);
    expect(ran).toEqual(['a1', 'a2', 'b', 'c']);
    q.runDue(30);
    expect(ran.length).toBe(4);
    expect(q.nextDeadline()).toBe(31);
    q.runDue(1e300);
    expect([ran[4], q.nextDeadline()]).toEqual(['late', Number.POSITIVE_INFINITY]);
  });

  it('cancels by dispose, also from inside another timer and after the run', () => {
    const q = new TimerQueue();
    const ran: number[] = [];
    const second = q.at(2, () => ran.push(2));
    const first = q.at(1, () => {
      ran.push(1);
      second[Symbol.dispose]();
    });
    q.runDue(5);
    first[Symbol.dispose]();
    second[Symbol.dispose]();
    expect([ran, q.nextDeadline()]).toEqual([[1], Number.POSITIVE_INFINITY]);
  });

  it('runs timers created by timers in time order', () => {
    const q = new TimerQueue();
    const ran: number[] = [];
    q.at(1, () => q.at(3, () => ran.push(3)));
    q.at(2, () => ran.push(2));
    q.at(4, () => ran.push(4));
    q.runDue(4);
    expect(ran).toEqual([2, 3, 4]);
  });

  it('lets a timer that always starts anew run once a call', () => {
    const q = new TimerQueue();
    let runs = 0;
    const again = () => {
      runs++;
      q.at(0, again);
      q.at(5, () => {})[Symbol.dispose](); // a late one that is cancelled at once never comes back
    };
    q.at(5, again);
    q.runDue(10);
    expect([runs, q.nextDeadline()]).toEqual([1, 0]);
    q.runDue(10);
    expect(runs).toBe(2);
  });

  it('keeps the others when a timer throws', () => {
    const q = new TimerQueue();
    let ran = 0;
    q.at(1, () => {
      q.at(1, () => ran++);
      throw new Error('bad timer');
    });
    q.at(2, () => ran++);
    expect(() => q.runDue(9)).toThrow('bad timer');
    q.runDue(9);
    expect(ran).toBe(2);
  });

  it('equals a sorted list under any sequence of creations, cancellations and runs', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('at' as const), t: fc.nat(30) }),
      fc.record({ do: fc.constant('cancel' as const), t: fc.nat(40) }),
      fc.record({ do: fc.constant('run' as const), t: fc.nat(30) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const q = new TimerQueue();
        const handles: Disposable[] = [];
        let model: { t: number; id: number }[] = [];
        const ran: number[] = [];
        for (const s of steps) {
          if (s.do === 'at') {
            const id = handles.length;
            handles.push(q.at(s.t, () => ran.push(id)));
            model.push({ t: s.t, id });
          } else if (s.do === 'cancel') {
            handles[s.t]?.[Symbol.dispose]();
            model = model.filter(m => m.id !== s.t);
          } else {
            const due = model.filter(m => m.t <= s.t).sort((a, b) => a.t - b.t || a.id - b.id);
            model = model.filter(m => m.t > s.t);
            ran.length = 0;
            q.runDue(s.t);
            expect(ran).toEqual(due.map(m => m.id));
          }
          expect(q.nextDeadline()).toBe(Math.min(...model.map(m => m.t)));
        }
      }),
    );
  });
});
