interface Timer {
  readonly deadline: number;
  /** Order of creation: equal deadlines run in it. */
  readonly order: number;
  readonly run: () => void;
  /** Index in the heap; -1 when not in it. */
  index: number;
  cancelled: boolean;
}

/** Pending timers of a clock: a binary heap by deadline, then by order of creation, that can also lose one in its middle. */
export class TimerQueue {
  readonly #heap: Timer[] = [];
  #created = 0;
  /** Deadline of the timer that runs now; -Infinity outside of runDue. */
  #running = Number.NEGATIVE_INFINITY;
  /** Timers created by a running timer for a time that is not after its own; see runDue. */
  #late: Timer[] = [];

  /** Calls `f` once when the time reaches `ns`; disposing the result cancels it (in O(log n), so that none pile up). */
  at(ns: number, f: () => void): Disposable {
    const timer: Timer = { deadline: ns, order: this.#created++, run: f, index: -1, cancelled: false };
    if (this.#running >= ns) this.#late.push(timer);
    else this.#insert(timer);
    return {
      [Symbol.dispose]: () => {
        timer.cancelled = true;
        if (timer.index >= 0) this.#remove(timer.index);
      },
    };
  }

  /** Time of the next timer; Infinity without one. */
  nextDeadline(): number {
    return this.#heap[0]?.deadline ?? Number.POSITIVE_INFINITY;
  }

  /**
   * Runs every timer up to and including `now` in time order, also those that a running timer creates for a later time
   * up to `now`. What it creates for its own time or before waits for the next call: a timer that always starts anew
   * at once, as a guest may ask for, cannot hold the machine up.
   */
  runDue(now: number): void {
    if (this.#running !== Number.NEGATIVE_INFINITY) return; // a timer that drives the clock: the outer call goes on
    try {
      for (let first = this.#heap[0]; first && first.deadline <= now; first = this.#heap[0]) {
        this.#remove(0);
        this.#running = first.deadline;
        first.run();
      }
    } finally {
      this.#running = Number.NEGATIVE_INFINITY;
      for (const timer of this.#late.splice(0)) if (!timer.cancelled) this.#insert(timer);
    }
  }

  #insert(timer: Timer): void {
    this.#heap.push(timer);
    this.#up(timer, this.#heap.length - 1);
  }

  #remove(index: number): void {
    const gone = this.#heap[index]!;
    gone.index = -1;
    const last = this.#heap.pop()!;
    if (last === gone) return;
    // The last one takes the hole; it may belong above or below it.
    this.#up(last, index);
    this.#down(last, last.index);
  }

  #up(timer: Timer, from: number): void {
    let i = from;
    while (i > 0) {
      const parent = this.#heap[(i - 1) >> 1]!;
      if (!before(timer, parent)) break;
      this.#put(parent, i);
      i = (i - 1) >> 1;
    }
    this.#put(timer, i);
  }

  #down(timer: Timer, from: number): void {
    let i = from;
    for (;;) {
      const left = this.#heap[2 * i + 1];
      const right = this.#heap[2 * i + 2];
      const child = left && right && before(right, left) ? right : left;
      if (!child || !before(child, timer)) break;
      const at = child.index;
      this.#put(child, i);
      i = at;
    }
    this.#put(timer, i);
  }

  #put(timer: Timer, index: number): void {
    this.#heap[index] = timer;
    timer.index = index;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
}
