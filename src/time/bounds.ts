/**
 * What is known of a quantity that stands, or drifts slowly: an interval that holds it. Every observation is one more such interval,
 * and what is known then is their intersection.
 */
export class Bounds {
  #low = Number.NEGATIVE_INFINITY;
  #high = Number.POSITIVE_INFINITY;

  get low(): number {
    return this.#low;
  }

  get high(): number {
    return this.#high;
  }

  /** Half of the interval's width: how far its middle may be from the truth. Infinity before the first observation. */
  get halfWidth(): number {
    return (this.#high - this.#low) / 2;
  }

  /** The best guess: the middle. NaN before the first observation. */
  get middle(): number {
    return (this.#low + this.#high) / 2;
  }

  /** The quantity may have drifted by `by`, up or down. */
  widen(by: number): void {
    this.#low -= by;
    this.#high += by;
  }

  /**
   * An observation: the quantity lies in [low, high].
   * @returns false when that contradicts all that was known: the quantity has jumped, and the observation alone counts now.
   */
  narrow(low: number, high: number): boolean {
    const agrees = low <= this.#high && high >= this.#low;
    this.#low = agrees ? Math.max(this.#low, low) : low;
    this.#high = agrees ? Math.min(this.#high, high) : high;
    return agrees;
  }
}
