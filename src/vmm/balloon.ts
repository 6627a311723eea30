import type { BalloonStatistics } from '../machine/machine.ts';
import type { Ask } from '../machine/protocol.ts';
import { abortable } from './abortable.ts';
import type { WaitOptions } from './console.ts';
import { parseDuration, parseSize } from './units.ts';

/** How long a guest may take to send its statistics unless asked otherwise. */
const STATISTICS_LIMIT = '10s';

/**
 * The memory balloon of the option `balloon`: memory in it is not the guest's to use. All methods reject with VmError ERR_STATE when
 * the VM has none, or has ended.
 */
export class VmBalloon {
  readonly #ask: Ask;

  /** @internal */
  constructor(ask: Ask) {
    this.#ask = ask;
  }

  /**
   * Asks the guest to put so much of its memory into the balloon: bytes, or `'64M'`; whole pages of 4 KiB. Resolves when it has been
   * asked. The guest does so in its own time, as far as it can spare memory, and takes some back when it runs out.
   * @throws VmError ERR_BAD_SIZE for what is no size, no whole number of pages, or more than the guest's memory.
   */
  async set(size: number | string): Promise<void> {
    await this.#ask({ what: 'setBalloon', bytes: parseSize(size, 'balloon') });
  }

  /** Bytes in the balloon now, as the guest says. */
  async actual(): Promise<number> {
    return await this.#ask({ what: 'balloon' });
  }

  /**
   * The guest's statistics about its memory, new ones; a guest gives those that it has.
   * @param options.timeout 10 s by default.
   * @throws VmError ERR_STATE before the guest's driver has started, ERR_TIMEOUT, ERR_USAGE for what is no duration; the signal's
   *   reason.
   */
  async statistics(options: WaitOptions = {}): Promise<BalloonStatistics> {
    const { signal } = options;
    signal?.throwIfAborted();
    const limitMs = parseDuration(options.timeout ?? STATISTICS_LIMIT);
    return await abortable(this.#ask({ what: 'balloonStatistics', limitMs }), signal);
  }
}
