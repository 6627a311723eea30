import type { Completion } from '../../devices/virtio/blk/disk.ts';

// Most requests are done at once; these helpers keep them free of promises and serve both kinds with one piece of code.

/** `first`, then `next`; `next` is not called when `first` failed. */
export function after(first: Completion, next: () => Completion): Completion {
  return first === undefined ? next() : first.then(next);
}

/** Takes one step after the other until one says 'end'. */
export function repeat(step: () => Completion | 'end'): Completion {
  for (;;) {
    const done = step();
    if (done === 'end') return undefined;
    if (done !== undefined) return repeatLater(done, step);
  }
}

/** A loop rather than a chain of promises, which would grow with the number of steps. */
async function repeatLater(first: Promise<void>, step: () => Completion | 'end'): Promise<void> {
  await first;
  for (let done = step(); done !== 'end'; done = step()) await done;
}

/** Does `action` and tells `finish` whether it went well, before anybody who waits for the result learns it. */
export function settle(action: () => Completion, finish: (ok: boolean) => void): Completion {
  let done: Completion;
  try {
    done = action();
  } catch (error) {
    finish(false);
    throw error;
  }
  if (done === undefined) {
    finish(true);
    return undefined;
  }
  return done.then(
    () => finish(true),
    error => {
      finish(false);
      throw error;
    },
  );
}

/** Counts requests that are not done yet. */
export class InFlight {
  #count = 0;
  readonly #idle: (() => void)[] = [];

  get count(): number {
    return this.#count;
  }

  /** Counts a request until it is done or has failed. */
  track(done: Completion): Completion {
    if (done === undefined) return undefined;
    this.#count++;
    return settle(
      () => done,
      () => {
        this.#count--;
        if (this.#count === 0) for (const resolve of this.#idle.splice(0)) resolve();
      },
    );
  }

  /** Resolves when no request is in flight. */
  async idle(): Promise<void> {
    while (this.#count > 0) await new Promise<void>(resolve => this.#idle.push(resolve));
  }
}
