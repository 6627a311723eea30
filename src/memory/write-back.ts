import { type DirtyLog, eachDirtyRange } from './dirty-log.ts';
import { forkMemory, type WriteGate } from './memory-fork.ts';
import type { PinTable } from './pin-table.ts';
import { type DrainOptions, PIN_PAGE } from './pin-types.ts';
import type { Gpa, Region } from './types.ts';

/** Takes what is written back: `bytes`, whole pages of what is at `base`, are its until it resolves. */
export type PageSink = (base: Gpa, bytes: Uint8Array) => void | Promise<void>;

/** Bytes at a time. */
const CHUNK = 1 << 20;

/** RAM that is written back, and which pages of it the sink does not have. */
interface Part {
  readonly region: Region;
  /** A bit a page. */
  readonly missing: Uint32Array;
}

/**
 * Writes RAM back to where it is kept: everything at first, then what has been written since (specification of pins, table 4.3,
 * write-back). What the sink gets is stable and of one moment, also of pages that are pinned for writing, whose holder may be at it
 * just then; these stay dirty and are in the next round, too. The guest runs on.
 */
export class WriteBack implements Disposable {
  readonly #table: PinTable;
  readonly #gate: WriteGate;
  readonly #log: DirtyLog;
  readonly #parts: readonly Part[];

  /** @throws VmError ERR_STATE when there can be no more dirty logs. */
  constructor(table: PinTable, gate: WriteGate) {
    this.#table = table;
    this.#gate = gate;
    this.#parts = table.memory.regions
      .filter(r => r.kind === 'ram')
      .map(region => ({ region, missing: new Uint32Array(Math.ceil(region.size / PIN_PAGE / 32)).fill(0xffff_ffff) }));
    this.#log = table.dirty.start();
  }

  /**
   * Gives the sink all that it does not have of this moment. One flush at a time.
   * @returns how many pages that were.
   * @throws as forkMemory(), and what the sink throws; the pages that it has not taken are in the next round then.
   */
  async flush(sink: PageSink, o: DrainOptions): Promise<number> {
    using fork = await forkMemory(this.#table, this.#gate, o, () => this.#collect());
    let pages = 0;
    for (const { region, missing } of this.#parts) {
      const ranges: (readonly [Gpa, number])[] = [];
      eachDirtyRange(missing, region.base, region.size / PIN_PAGE, (base, length) => void ranges.push([base, length]));
      for (const [base, length] of ranges) {
        for (let at = 0; at < length; at += CHUNK) {
          const bytes = new Uint8Array(Math.min(CHUNK, length - at));
          fork.read(base + at, bytes);
          await sink(base + at, bytes);
          forget(missing, (base + at - region.base) / PIN_PAGE, bytes.length / PIN_PAGE);
          pages += bytes.length / PIN_PAGE;
        }
      }
    }
    return pages;
  }

  [Symbol.dispose](): void {
    this.#log.stop();
  }

  /** Before the fork is made: what another thread writes in between is in the fork, and in the next round. */
  #collect(): void {
    for (const { region, missing } of this.#parts) {
      const dirty = new Uint32Array(missing.length);
      this.#log.collect(region.base, region.size, dirty);
      for (const [i, word] of dirty.entries()) missing[i]! |= word;
    }
  }
}

/** Clears `count` bits from bit `first` on. */
function forget(bits: Uint32Array, first: number, count: number): void {
  for (let p = first; p < first + count; p++) bits[p >>> 5]! &= ~(1 << (p & 31));
}
