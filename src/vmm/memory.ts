import type { MemoryMap, PinInfo, PinReport, PinStats } from '../machine/machine.ts';
import type { Ask } from '../machine/protocol.ts';
import { abortable } from './abortable.ts';
import type { WaitOptions } from './console.ts';
import { MemoryFile } from './memory-file.ts';
import { MemoryImage } from './memory-image.ts';
import { parseDuration, parseSize } from './units.ts';

/**
 * The memory of a {@link Vm}: which device holds what of it, and for how long. All methods reject with VmError ERR_STATE when the VM
 * has ended.
 */
export class VmMemory {
  readonly #ask: Ask;
  readonly #ownPins: () => readonly PinInfo[];

  /** @internal @param ownPins of devices of closures, whose table is this thread's. */
  constructor(ask: Ask, ownPins: () => readonly PinInfo[]) {
    this.#ask = ask;
    this.#ownPins = ownPins;
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
    const report = await this.#ask({ what: 'pins' });
    const own = this.#ownPins();
    if (own.length === 0) return report;
    return { ...report, pins: [...report.pins, ...own].sort((a, b) => a.base - b.base || a.sinceNs - b.sinceNs) };
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

  /**
   * The memory as it is at one moment, while the VM runs on: for a look at it, or to keep it (`image.save('ram.bin')`). It waits until
   * devices have no request under way; new ones wait for it meanwhile. Only memory is forked, not CPUs and devices.
   * @param options.timeout how long devices may take: ms, or `'10s'`, the default.
   * @throws VmError ERR_PINNED with `details.owners` when they take longer, ERR_PIN_UNSUPPORTED while a device of the host holds
   *   memory; the signal's reason.
   */
  async fork(options: WaitOptions = {}): Promise<MemoryImage> {
    const { timeout = '10s', signal } = options;
    signal?.throwIfAborted();
    const limitMs = parseDuration(timeout, 'timeout');
    const image = this.#ask({ what: 'forkMemory', limitMs }).then(
      fork => new MemoryImage(call => this.#ask({ what: 'forked', fork, call })),
    );
    try {
      return await abortable(image, signal);
    } catch (e) {
      // It may come when nobody waits for it any more.
      if (signal?.aborted) image.then(late => late.close()).catch(() => undefined);
      throw e;
    }
  }

  /**
   * Keeps a copy of RAM in a file, which is made or emptied: `flush()` of the result brings it up to date. Changes are tracked from
   * here on, which costs the guest little. At most four such files at a time.
   * @throws VmError ERR_DISK_FULL, ERR_FILE_UNREADABLE, ERR_STATE when there are too many.
   */
  async writeBack(path: string): Promise<MemoryFile> {
    const file = await this.#ask({ what: 'writeBackMemory', path });
    return new MemoryFile({
      flush: limitMs => this.#ask({ what: 'flushMemory', file, limitMs }),
      close: () => this.#ask({ what: 'closeMemory', file }),
    });
  }

  /** What the memory looks like: how many pages of each part are pinned, discarded or unplugged. Looks at every page. */
  async map(): Promise<MemoryMap> {
    return await this.#ask({ what: 'memoryMap' });
  }
}
