import type { PinTable } from '../memory/pin-table.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE, PIN_PAGE } from '../memory/pin-types.ts';
import type { Gpa } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';

/**
 * What is measured, named as in the kernel's gup_test. GET is a borrow, PIN a short pin, PIN_LONGTERM a long-term one; BASIC ones also
 * check each page: whether maybePinned() says so of a pinned one, and not of a borrowed one.
 */
export const PIN_BENCH_MODES = ['GET_FAST', 'PIN_FAST', 'PIN_LONGTERM', 'GET_BASIC', 'PIN_BASIC'] as const;
export type PinBenchMode = (typeof PIN_BENCH_MODES)[number];

/** How memory is gone through. */
export interface PassOptions {
  readonly mode: PinBenchMode;
  /** Of the memory, which begins at address 0. */
  readonly pages: number;
  readonly pagesPerCall: number;
  /** With FOLL_WRITE. */
  readonly write: boolean;
}

/** What one pass over the memory took. */
export interface PassTimes {
  /** All borrows or pins, ns. */
  readonly getNs: number;
  /** All releases, ns; 0 for borrows, which need none. */
  readonly putNs: number;
}

/**
 * Gets all of the memory, some pages a call, and then puts all of it.
 * @param handles room for a handle of each call, so that the pass allocates nothing.
 * @param nowNs the clock.
 * @throws VmError ERR_INTERNAL when a check of a BASIC mode fails; what the table throws.
 */
export function pass(table: PinTable, o: PassOptions, handles: Float64Array, nowNs: () => number): PassTimes {
  const { mode, pages, pagesPerCall, write } = o;
  const bytes = pages * PIN_PAGE;
  const step = pagesPerCall * PIN_PAGE;
  if (mode === 'GET_FAST' || mode === 'GET_BASIC') {
    const start = nowNs();
    borrowAll(table, bytes, step, write);
    const getNs = nowNs() - start;
    if (mode === 'GET_BASIC') check(table, pages, false);
    return { getNs, putNs: 0 };
  }
  const flags = FOLL_PIN | (write ? FOLL_WRITE : 0) | (mode === 'PIN_LONGTERM' ? FOLL_LONGTERM : 0);
  const owner = table.owner('bench');
  const start = nowNs();
  for (let at = 0, call = 0; at < bytes; at += step, call++) {
    handles[call] = table.pin(at, Math.min(step, bytes - at), flags, owner);
  }
  const got = nowNs();
  if (mode === 'PIN_BASIC') check(table, pages, true);
  const put = nowNs();
  for (let at = 0, call = 0; at < bytes; at += step, call++) table.unpin(handles[call]!);
  return { getNs: got - start, putNs: nowNs() - put };
}

function borrowAll(table: PinTable, bytes: number, step: number, write: boolean): void {
  const access = write ? 'w' : 'r';
  for (let at = 0; at < bytes; at += step) {
    if (table.borrow(at, Math.min(step, bytes - at), access) === undefined) throw wrong(at, 'cannot be borrowed');
  }
}

/** Looks at each page by itself. */
function check(table: PinTable, pages: number, pinned: boolean): void {
  for (let p = 0; p < pages; p++) {
    if (table.maybePinned(p * PIN_PAGE, PIN_PAGE) !== pinned) {
      throw wrong(
        p * PIN_PAGE,
        pinned ? 'is pinned, and maybePinned() denies it' : 'is not pinned, but maybePinned() says so',
      );
    }
  }
}

function wrong(page: Gpa, what: string): VmError {
  return new VmError('ERR_INTERNAL', `bench pin: the page at 0x${page.toString(16)} ${what}`, {
    hint: 'this is a defect of tsvisor: please report it with your command',
    details: { page },
  });
}
