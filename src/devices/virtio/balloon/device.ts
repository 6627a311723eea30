import type { AccessSize } from '../../../bus/types.ts';
import type { DiscardResult } from '../../../memory/pin-types.ts';
import type { Gpa } from '../../../memory/types.ts';
import type { Clock } from '../../../time/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { Chain, VirtioDevice, VirtioHost, VirtQueue } from '../device.ts';
import { readBytes } from '../pieces.ts';
import { type PageRange, pageRanges } from './pages.ts';
import * as R from './regs.ts';
import { type BalloonStatistics, parseStatistics } from './statistics.ts';

/**
 * What the machine does with pages that the guest does not need. What is pinned stays, so a discard may do less than it is asked
 * for (table 4.3); nothing of it throws.
 */
export interface PageDiscarder {
  /**
   * [base, base + length), whole 4 KiB pages of RAM, has gone into the balloon: its contents are undefined from here on, until
   * {@link deflate}. What short pins hold goes when they are released.
   */
  discard(base: Gpa, length: number): DiscardResult;
  /** The same for pages that the guest uses at any time after the call, without a word: none, or at once. */
  report(bytes: Uint8Array): DiscardResult;
  /** Pages leave the balloon, those of the range that are in it. */
  deflate(base: Gpa, length: number): void;
}

/** Options of a {@link VirtioBalloon}. */
export interface VirtioBalloonOptions {
  /** Where the guest's RAM is; page numbers outside are ignored. */
  readonly ram: readonly PageRange[];
  readonly discarder: PageDiscarder;
  readonly clock: Clock;
  /** Bytes that the balloon shall hold from the start, a multiple of 4 KiB; 0 by default. */
  readonly target?: number;
  /** ns between two requests for statistics; 0, the default, asks only in requestStatistics(). */
  readonly statisticsPeriod?: number;
  /** The guest may take pages back when it runs out of memory (VIRTIO_BALLOON_F_DEFLATE_ON_OOM); true by default. */
  readonly deflateOnOom?: boolean;
  /** The driver has changed {@link VirtioBalloon.actual}. */
  onActual?(bytes: number): void;
  /** The driver has sent statistics, asked or not. */
  onStatistics?(statistics: BalloonStatistics): void;
}

/** What a queue is for. */
type Role = 'inflate' | 'deflate' | 'stats' | 'reporting';

const QUEUE_SIZE = 128;

/**
 * The traditional memory balloon device (virtio 1.2 section 5.5) with statistics, page poison and free page reporting;
 * free page hinting, which serves migration, is not offered.
 */
export class VirtioBalloon implements VirtioDevice {
  readonly name = 'virtio-balloon';
  readonly type = R.VIRTIO_ID_BALLOON;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly features: bigint;
  readonly configSize = R.CONFIG_SIZE;

  readonly #options: VirtioBalloonOptions;
  readonly #config = new Uint8Array(R.CONFIG_SIZE);
  #host: VirtioHost | undefined;
  #roles: readonly Role[] = [];

  /** The buffer of the stats queue that waits for the next request (section 5.5.6.3). */
  #statsBuffer: Chain | undefined;
  #statistics: BalloonStatistics | undefined;
  /** Whoever waits for the statistics that the driver has been asked for, or will be once it gave a buffer. */
  #waiting:
    | { promise: Promise<BalloonStatistics>; resolve(s: BalloonStatistics): void; reject(e: Error): void }
    | undefined;
  #period: number;
  #timer: Disposable | undefined;
  readonly #discards = { discarded: 0, queued: 0, skippedPinned: 0 };

  constructor(options: VirtioBalloonOptions) {
    this.#options = options;
    let features =
      (1n << BigInt(R.VIRTIO_BALLOON_F_MUST_TELL_HOST)) |
      (1n << BigInt(R.VIRTIO_BALLOON_F_STATS_VQ)) |
      (1n << BigInt(R.VIRTIO_BALLOON_F_PAGE_POISON)) |
      (1n << BigInt(R.VIRTIO_BALLOON_F_PAGE_REPORTING));
    if (options.deflateOnOom ?? true) features |= 1n << BigInt(R.VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
    this.features = features;
    this.target = options.target ?? 0;
    this.#period = checkedPeriod(options.statisticsPeriod ?? 0);
  }

  /** Bytes that the balloon shall hold (num_pages). */
  get target(): number {
    return readBytes(this.#config, R.NUM_PAGES, 4) * R.BALLOON_PAGE;
  }

  /**
   * Asks the driver to make the balloon larger or smaller; it does so in its own time.
   * @throws VmError ERR_BAD_SIZE when `bytes` is no multiple of 4 KiB, negative, or more than the guest has.
   */
  set target(bytes: number) {
    const most = this.#options.ram.reduce((sum, r) => sum + r.size, 0);
    if (!Number.isInteger(bytes / R.BALLOON_PAGE) || bytes < 0 || bytes > most) {
      throw new VmError('ERR_BAD_SIZE', `A balloon cannot have ${bytes} bytes.`, {
        hint: `Give a multiple of ${R.BALLOON_PAGE} from 0 to ${most} bytes, the guest's memory.`,
        details: { target: bytes, memory: most },
      });
    }
    this.#setWord(R.NUM_PAGES, bytes / R.BALLOON_PAGE);
    this.#host?.configChanged();
  }

  /** Bytes in the balloon, as the driver says. */
  get actual(): number {
    return readBytes(this.#config, R.ACTUAL, 4) * R.BALLOON_PAGE;
  }

  /** The statistics that came last; undefined before the first, and after a reset. */
  get statistics(): BalloonStatistics | undefined {
    return this.#statistics;
  }

  /** What has become of the pages that the driver gave up or reported, in 4 KiB pages; never set back. */
  get discards(): DiscardResult {
    return { ...this.#discards };
  }

  /** ns between two requests for statistics; 0: none without requestStatistics(). */
  get statisticsPeriod(): number {
    return this.#period;
  }

  /** @throws VmError ERR_USAGE when `ns` is negative or no number. */
  set statisticsPeriod(ns: number) {
    this.#period = checkedPeriod(ns);
    this.#schedule();
  }

  /**
   * Asks the driver for new statistics. It answers when it runs, so give up after a time of your own.
   * Rejects with VmError ERR_STATE when there is no driver that has statistics, or when it goes before it answers.
   */
  requestStatistics(): Promise<BalloonStatistics> {
    if (!this.#roles.includes('stats')) return Promise.reject(noStatistics());
    if (this.#waiting) return this.#waiting.promise;
    let resolve!: (s: BalloonStatistics) => void;
    let reject!: (e: Error) => void;
    const promise = new Promise<BalloonStatistics>((yes, no) => {
      resolve = yes;
      reject = no;
    });
    this.#waiting = { promise, resolve, reject };
    this.#ask();
    return promise;
  }

  readConfig(offset: number, size: AccessSize): number {
    return readBytes(this.#config, offset, size);
  }

  writeConfig(offset: number, size: AccessSize, value: number): void {
    // num_pages and free_page_hint_cmd_id are the device's (section 5.5.4). poison_val comes before DRIVER_OK.
    for (let i = 0; i < size; i++) {
      const field = (offset + i) & ~3;
      if (field === R.ACTUAL || field === R.POISON_VAL) this.#config[offset + i] = value >>> (8 * i);
    }
    if ((offset & ~3) === R.ACTUAL) this.#options.onActual?.(this.actual);
  }

  activate(host: VirtioHost): void {
    this.#host = host;
    // The queues of features that were not negotiated do not exist (section 5.5.2). Linux gives the others consecutive
    // indices then, and so does QEMU's device with those that it does not offer.
    const roles: Role[] = ['inflate', 'deflate'];
    if (host.has(R.VIRTIO_BALLOON_F_STATS_VQ)) roles.push('stats');
    if (host.has(R.VIRTIO_BALLOON_F_PAGE_REPORTING)) roles.push('reporting');
    this.#roles = roles;
    this.#schedule();
  }

  notify(index: number): void {
    const queue = this.#host?.queues[index];
    const role = this.#roles[index];
    if (!queue || !role) return;
    let served = false;
    // Not more than were waiting: a driver on another thread could go on adding.
    for (let n = 0; n < queue.size; n++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      if (role === 'stats') this.#receiveStatistics(queue, chain);
      else {
        if (role === 'reporting') this.#report(queue, chain);
        else this.#move(chain, role);
        queue.push(chain, 0);
        served = true;
      }
    }
    if (served) queue.notifyDriver();
  }

  /** The configuration; which pages are in the balloon is the memory's to know. */
  save(): Uint8Array {
    return this.#config.slice();
  }

  restore(state: unknown): void {
    this.#config.set(state as Uint8Array);
  }

  reset(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#host = this.#statsBuffer = this.#statistics = undefined;
    this.#roles = [];
    this.#setWord(R.POISON_VAL, 0);
    // A driver that starts anew has nothing in the balloon.
    for (const r of this.#options.ram) this.#options.discarder.deflate(r.base, r.size);
    const had = this.actual;
    this.#setWord(R.ACTUAL, 0);
    if (had > 0) this.#options.onActual?.(0);
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(noStatistics());
  }

  /** Pages that go into the balloon, or come out of it, before the driver hears that they have. */
  #move(chain: Chain, role: 'inflate' | 'deflate'): void {
    const { ram, discarder } = this.#options;
    for (const { base, size } of pageRanges(chain.readable, ram)) {
      if (role === 'inflate') this.#count(discarder.discard(base, size));
      else discarder.deflate(base, size);
    }
  }

  #report(queue: VirtQueue, chain: Chain): void {
    // Section 5.5.6.7: reported pages must keep the value of page poison, and a discarded one reads as zeros.
    const poison = readBytes(this.#config, R.POISON_VAL, 4);
    if (poison !== 0 && this.#host?.has(R.VIRTIO_BALLOON_F_PAGE_POISON)) return;
    // The buffers are the pages: our own pins would keep them from being discarded.
    queue.unpin(chain);
    for (const bytes of chain.writable) this.#count(this.#options.discarder.report(bytes));
  }

  #count(result: DiscardResult): void {
    this.#discards.discarded += result.discarded;
    this.#discards.queued += result.queued;
    this.#discards.skippedPinned += result.skippedPinned;
  }

  #receiveStatistics(queue: VirtQueue, chain: Chain): void {
    const extra = this.#statsBuffer;
    this.#statsBuffer = chain;
    // At most one buffer may be there at any time; a driver that adds another one gets the older back.
    if (extra) {
      queue.push(extra, 0);
      queue.notifyDriver();
    }
    const statistics = parseStatistics(chain.readable);
    // It stays here until somebody asks, perhaps for ever, and has nothing more to say.
    queue.unpin(chain);
    this.#statistics = statistics;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(statistics);
    this.#options.onStatistics?.(statistics);
  }

  /** Returns the buffer to the driver, which is the request for another one with new statistics (section 5.5.6.3). */
  #ask(): void {
    const index = this.#roles.indexOf('stats');
    const queue = this.#host?.queues[index];
    const buffer = this.#statsBuffer;
    // Without a buffer the driver is at work already, and what it sends will be new.
    if (!queue || !buffer) return;
    this.#statsBuffer = undefined;
    queue.push(buffer, 0);
    queue.notifyDriver();
  }

  #schedule(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    if (this.#period === 0 || !this.#roles.includes('stats')) return;
    const { clock } = this.#options;
    this.#timer = clock.at(clock.nowNs() + this.#period, () => {
      this.#ask();
      this.#schedule();
    });
  }

  #setWord(offset: number, value: number): void {
    new DataView(this.#config.buffer).setUint32(offset, value, true);
  }
}

function checkedPeriod(ns: number): number {
  if (Number.isFinite(ns) && ns >= 0) return ns;
  throw new VmError('ERR_USAGE', `The period of balloon statistics cannot be ${ns} ns.`, {
    hint: 'Give 0 for none, or a positive number.',
  });
}

function noStatistics(): VmError {
  return new VmError('ERR_STATE', 'The guest has no balloon driver that gives statistics.', {
    hint: 'Wait until the guest has started its virtio_balloon driver.',
  });
}
