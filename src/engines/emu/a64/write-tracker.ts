import type { DirtySink } from '../../../memory/pin-types.ts';
import type { Gpa } from '../../../memory/types.ts';
import type { WriteTracker } from '../../engine.ts';
import { PAGE_BITS_SIZE, PROTECTED, TRACKING, WRITTEN } from './core/layout.ts';
import type { Core, CoreExports } from './core-instance.ts';

const PAGE = 4096;

/** What the tracker needs of the core. */
export type TrackedCore = Pick<Core, 'memory' | 'view' | 'ram'> & {
  readonly exports: Pick<CoreExports, 'withholdWrites'>;
};

/** Somebody who wants to know before a page of RAM changes. */
interface Protector {
  readonly beforeWrite: (base: Gpa, length: number) => void;
  /** Bit n: page n of RAM may still be written without its knowing. */
  readonly pages: Uint8Array;
}

/**
 * Which pages of RAM the vCPUs write. The core notes them where a store misses the TLB, and while anybody tracks, every
 * page's first store does (core/mmu.ts). For the machine's thread only.
 */
export class CoreWriteTracker implements WriteTracker {
  readonly #core: TrackedCore;
  readonly #ramBase: Gpa;
  /** A bit for each page of RAM, which is a multiple of 64 KiB: no byte has any left over. */
  readonly #written: Uint8Array;
  readonly #protected: Uint8Array;
  readonly #protectors = new Set<Protector>();
  #logging = false;

  constructor(core: TrackedCore, ramBase: Gpa) {
    this.#core = core;
    this.#ramBase = ramBase;
    this.#written = new Uint8Array(core.memory.buffer, WRITTEN, core.ram.length / PAGE / 8);
    this.#protected = new Uint8Array(core.memory.buffer, PROTECTED, PAGE_BITS_SIZE);
  }

  start(): void {
    if (this.#logging) return;
    this.#logging = true;
    this.#written.fill(0);
    this.#track();
  }

  stop(): void {
    this.#logging = false;
    this.#track();
  }

  collectCpu(sink: DirtySink): void {
    if (!this.#logging) return;
    this.#core.exports.withholdWrites();
    const pages = takeRuns(this.#written, 0, 8 * this.#written.length);
    for (const [first, count] of pages) sink.markDirty(this.#ramBase + first * PAGE, count * PAGE);
  }

  protect(beforeWrite: (base: Gpa, length: number) => void): Disposable {
    const protector = { beforeWrite, pages: new Uint8Array(this.#written.length).fill(0xff) };
    this.#protectors.add(protector);
    // Pages that others know of already get their bit again, too; #tell() knows who has been told what.
    this.#protected.fill(0xff);
    this.#track();
    return {
      [Symbol.dispose]: () => {
        this.#protectors.delete(protector);
        if (this.#protectors.size === 0) this.#protected.fill(0);
        this.#track();
      },
    };
  }

  /** The core's firstWrite(): a vCPU is about to write a page, of RAM or of a device's memory behind it. */
  firstWrite(page: number): void {
    if (page < 8 * this.#written.length) this.#tell(page, 1);
  }

  /** [offset, offset + length) of RAM, whole pages, is about to change without a vCPU: as a vCPU's write. */
  beforeHostWrite(offset: number, length: number): void {
    const first = offset / PAGE;
    const count = length / PAGE;
    this.#tell(first, count);
    if (!this.#logging) return;
    for (let p = first; p < first + count; p++) this.#written[p >>> 3]! |= 1 << (p & 7);
  }

  #tell(first: number, count: number): void {
    for (const { beforeWrite, pages } of this.#protectors) {
      for (const [p, n] of takeRuns(pages, first, count)) beforeWrite(this.#ramBase + p * PAGE, n * PAGE);
    }
  }

  #track(): void {
    const wanted = this.#logging || this.#protectors.size > 0;
    this.#core.view.setUint32(TRACKING, wanted ? 1 : 0, true);
    if (wanted) this.#core.exports.withholdWrites();
  }
}

/** Clears the bits of [first, first + count) and gives the runs of those that were set, as [first, count]. */
function* takeRuns(bits: Uint8Array, first: number, count: number): Generator<readonly [number, number]> {
  const end = first + count;
  let start = -1;
  for (let p = first; p < end; p++) {
    const byte = bits[p >>> 3]!;
    const set = (byte & (1 << (p & 7))) !== 0;
    if (set) {
      bits[p >>> 3] = byte & ~(1 << (p & 7));
      if (start < 0) start = p;
      continue;
    }
    if (start >= 0) yield [start, p - start];
    start = -1;
    // Most of RAM has not been written: eight pages at once.
    if (byte === 0) p |= 7;
  }
  if (start >= 0) yield [start, end - start];
}
