/**
 * Functions that were refused a pin because too much is in flight, and are to try again when something of it has been released
 * (table 4.3, quota exhausted: backpressure).
 */
export class PinWaiters {
  readonly #waiting = new Set<() => void>();
  #scheduled = false;

  /** Calls `again` once after the next {@link released}, when the code that runs now is through. The same function waits once. */
  wait(again: () => void): void {
    this.#waiting.add(again);
  }

  /**
   * Pins have been released for good. Not to be called for those of a request that was given up for want of further pins: two
   * that wait would wake each other without end.
   */
  released(): void {
    if (this.#waiting.size === 0 || this.#scheduled) return;
    this.#scheduled = true;
    // Later, since this is called from deep inside of a device.
    queueMicrotask(() => {
      this.#scheduled = false;
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const again of waiting) again();
    });
  }
}
