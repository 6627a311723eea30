/** Time as the user-mode network sees it; tests put their own in its place. */
export interface Scheduler {
  /** Milliseconds since any moment; never goes back. */
  now(): number;
  /** Calls `f` once after `ms` milliseconds; the function that is returned prevents it. */
  setTimeout(f: () => void, ms: number): () => void;
  /** Calls `f` when the current work is done, before the host's events are looked at. */
  soon(f: () => void): void;
}

/** The host's time. */
export const hostScheduler: Scheduler = {
  now: () => performance.now(),
  setTimeout: (f, ms) => {
    const timer = setTimeout(f, ms);
    return () => clearTimeout(timer);
  },
  soon: f => queueMicrotask(f),
};

/** Something that ends or has work to do at a moment. */
export interface Expiring {
  /** Milliseconds as of {@link Scheduler.now}; Infinity for never. After making it earlier, call {@link Deadlines.update}. */
  deadline: number;
  /** The moment has come. Sets a new deadline, or takes itself out by {@link Deadlines.delete}. */
  expire(now: number): void;
}

/** Deadlines are looked at no more often than this (ms): it bounds what many short ones cost. */
const GRAIN = 5;

/**
 * Many deadlines on one timer of the host. Deadlines of connections move with each packet, nearly always to later: that costs
 * a store here, and only the timer's own expiry looks at all of them.
 */
export class Deadlines {
  readonly #scheduler: Scheduler;
  readonly #members = new Set<Expiring>();
  readonly #run = (): void => this.#expire();
  #cancel: (() => void) | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  add(member: Expiring): void {
    this.#members.add(member);
    this.update(member);
  }

  delete(member: Expiring): void {
    this.#members.delete(member);
    if (this.#members.size === 0) this.#stop();
  }

  /** The deadline of a member is earlier than before. */
  update(member: Expiring): void {
    if (member.deadline < this.#timerAt && this.#members.has(member)) this.#start(member.deadline);
  }

  /** Forgets all members. */
  clear(): void {
    this.#members.clear();
    this.#stop();
  }

  #start(at: number): void {
    this.#stop();
    this.#timerAt = at;
    this.#cancel = this.#scheduler.setTimeout(this.#run, Math.max(GRAIN, at - this.#scheduler.now()));
  }

  #stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
  }

  #expire(): void {
    this.#cancel = undefined;
    // Members that are added or moved meanwhile must not start timers of their own.
    this.#timerAt = Number.NEGATIVE_INFINITY;
    const now = this.#scheduler.now();
    let next = Number.POSITIVE_INFINITY;
    for (const m of [...this.#members]) {
      // expire() of one may have deleted another.
      if (m.deadline <= now && this.#members.has(m)) m.expire(now);
    }
    for (const m of this.#members) if (m.deadline < next) next = m.deadline;
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (next < Number.POSITIVE_INFINITY) this.#start(next);
  }
}
