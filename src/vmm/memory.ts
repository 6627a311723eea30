import type { MemoryMap, PinInfo, PinReport, PinStats } from '../machine/machine.ts';
import type { Ask } from '../machine/protocol.ts';

/**
 * The memory of a {@link Vm}: which device holds what of it, and for how long. All methods reject with VmError ERR_STATE when the VM
 * has ended.
 */
export class VmMemory {
  readonly #ask: Ask;

  /** @internal */
  constructor(ask: Ask) {
    this.#ask = ask;
  }

  /**
   * Every pin of guest memory at this moment, by address: whose it is, whether it is short or long-term, for reading or writing,
   * since when. Times are ns of the guest's clock, as `info().timeNs` is.
   */
  async pins(): Promise<readonly PinInfo[]> {
    return (await this.report()).pins;
  }

  /** Sums over all pins so far, in pages of 4 KiB. */
  async stats(): Promise<PinStats> {
    return (await this.report()).stats;
  }

  /** Pins and sums of one moment, with the time of that moment. */
  async report(): Promise<PinReport> {
    return await this.#ask({ what: 'pins' });
  }

  /** What the memory looks like: how many pages of each part are pinned, discarded or unplugged. Looks at every page. */
  async map(): Promise<MemoryMap> {
    return await this.#ask({ what: 'memoryMap' });
  }
}
