import type { MemoryMap, PinInfo, PinReport, PinStats } from '../machine/machine.ts';
import type { Ask } from '../machine/protocol.ts';
import { parseSize } from './units.ts';

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

  /**
   * Asks the guest to have so much memory plugged beside what it booted with, of the option `hotplug`: bytes, or `'512M'`; whole blocks
   * of 2 MiB. Resolves when it has been asked. The guest plugs and unplugs in its own time, and what it uses, or a device has pinned,
   * stays plugged. Asking once more makes it try again at once.
   * @throws VmError ERR_STATE without the option, ERR_BAD_SIZE for what is no size, no whole number of blocks, or more than there is.
   */
  async requestHotplug(size: number | string): Promise<void> {
    await this.#ask({ what: 'requestHotplug', bytes: parseSize(size, 'hotplug') });
  }

  /** Bytes that the guest has plugged now. @throws VmError ERR_STATE without the option `hotplug`. */
  async hotplugged(): Promise<number> {
    return await this.#ask({ what: 'hotplugged' });
  }

  /** What the memory looks like: how many pages of each part are pinned, discarded or unplugged. Looks at every page. */
  async map(): Promise<MemoryMap> {
    return await this.#ask({ what: 'memoryMap' });
  }
}
