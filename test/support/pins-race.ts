// What the threads of the race of pins have in common.
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import { PIN_PAGE } from '../../src/memory/pin-types.ts';
import type { PinTableState } from '../../src/memory/shared-state.ts';

export const BASE = 0x4000_0000;
/** Four blocks of 512 pages: few, so that threads meet. */
export const PAGES = 2048;
export const PINNERS = 4;

/** A range of pages, the end not in it. */
export type Zone = readonly [first: number, end: number];
/** Only short pins, and no balloon: it can be drained, and is still then. */
export const STILL: Zone = [0, 512];
/** In and out of the balloon. */
export const BALLOON: Zone = [512, 1536];
/** Plugged and unplugged. */
export const PLUG: Zone = [1536, 2048];

/** Words of {@link RaceData.control}. */
export const CONTROL = { go: 0, balloonEnds: 1, collectorEnds: 2 } as const;

/** What a thread is started with (`workerData`). */
export interface RaceData {
  readonly role: 'pinner' | 'balloon' | 'collector';
  /** From 0; of pinners. */
  readonly id: number;
  readonly operations: number;
  readonly bytes: SharedArrayBuffer;
  readonly state: PinTableState;
  readonly control: Int32Array;
}

/** What a thread says at its end; the numbers are for the test to add up, and to show that something has happened. */
export interface RaceResult {
  readonly errors: readonly string[];
  readonly counted: Readonly<Record<string, number>>;
}

/** Memory of the race with the table of one thread. */
export function raceTable(bytes: SharedArrayBuffer, state?: PinTableState) {
  const memory = createGuestMemory([{ base: BASE, size: bytes.byteLength, kind: 'ram', bytes: new Uint8Array(bytes) }]);
  return new PinTable({ memory, ...(state === undefined ? {} : { state }) });
}

/** Address of a page. */
export function addressOf(page: number): number {
  return BASE + page * PIN_PAGE;
}

/** Numbers from 0 to n - 1 that look random. */
export function createRandom(seed: number): (n: number) => number {
  let x = (seed * 2_654_435_761) >>> 0 || 1;
  return n => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
}

/** A thread's errors, a few of them, and its numbers. */
export class Report implements RaceResult {
  readonly errors: string[] = [];
  readonly counted: Record<string, number> = {};

  check(holds: boolean, what: () => string): void {
    if (!holds && this.errors.length < 5) this.errors.push(what());
  }

  count(what: string, n = 1): void {
    this.counted[what] = (this.counted[what] ?? 0) + n;
  }
}
