/** A call in place that takes longer than this, in milliseconds, stops the guest for too long. */
const SLOW = 2;
/**
 * Requests that go to the thread pool after a slow call, before the next one in place finds out whether that is over.
 */
const FIRST_BACKOFF = 32;
const MAX_BACKOFF = 1024;

/**
 * Decides whether the next small request may be done in place, blocking the thread. A disk that answers from the page
 * cache never leaves that mode; one that is slow for long is tried ever less often.
 */
export class Pace {
  #elsewhere = 0;
  #backoff = FIRST_BACKOFF;

  /** Asked once for each request. */
  mayBlock(): boolean {
    if (this.#elsewhere === 0) return true;
    this.#elsewhere--;
    return false;
  }

  /** A request was done in place and took so many milliseconds. */
  took(milliseconds: number): void {
    if (milliseconds <= SLOW) {
      this.#backoff = FIRST_BACKOFF;
      return;
    }
    this.#elsewhere = this.#backoff;
    this.#backoff = Math.min(this.#backoff * 2, MAX_BACKOFF);
  }
}
