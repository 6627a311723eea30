import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import type { PinTable } from './pin-table.ts';
import { type DrainOptions, PIN_PAGE } from './pin-types.ts';
import type { Gpa } from './types.ts';

/** Somebody who writes guest memory without pins, and says so before: the engine, for its vCPUs. */
export interface WriteGate {
  /** Calls `beforeWrite` with whole pages, at least once for each, before they change; until the result is disposed. */
  protect(beforeWrite: (base: Gpa, length: number) => void): Disposable;
}

/**
 * Guest memory as it was at one moment, while the guest goes on: pages are shared with it, and copied before the guest, a device or
 * the fork itself writes one (specification of pins, table 4.3, copy-on-write fork and snapshot).
 *
 * The kernel's rule for fork() holds: pages that are pinned at that moment stay the parent's, and the fork has copies from the start,
 * because their holder writes without telling anybody. Pins stay with the parent.
 */
export class MemoryFork implements Disposable {
  readonly #table: PinTable;
  /** Pages that are the fork's own, by number: address / 4096. */
  readonly #own = new Map<number, Uint8Array>();
  #gates: readonly Disposable[] = [];
  #closed = false;

  /** Use {@link forkMemory}. */
  constructor(table: PinTable, gate: WriteGate) {
    this.#table = table;
    // Another thread writes what it has borrowed without this one's knowing.
    if (table.threads > 1) for (const r of table.memory.regions) this.#keep(r.base, r.size);
    else table.pinnedForWriting((base, length) => this.#keep(base, length));
    const keep = (base: Gpa, length: number) => this.#keep(base, length);
    this.#gates = [gate.protect(keep), table.protect(keep)];
  }

  /** Bytes that are the fork's own. */
  get ownBytes(): number {
    return this.#own.size * PIN_PAGE;
  }

  /**
   * Copies [a, a + into.length) as it was, or as the fork has changed it.
   * @throws VmError ERR_GUEST_ADDRESS for what is not wholly in memory, ERR_STATE after close().
   */
  read(a: Gpa, into: Uint8Array): void {
    this.#check(a, into.length);
    eachPage(a, into.length, (page, offset, at, length) => {
      const own = this.#own.get(page);
      const part = into.subarray(at, at + length);
      if (own !== undefined) part.set(own.subarray(offset, offset + length));
      else this.#table.memory.read(page * PIN_PAGE + offset, part);
    });
  }

  /**
   * Changes the fork's memory, not the parent's.
   * @throws as read().
   */
  write(a: Gpa, from: Uint8Array): void {
    this.#check(a, from.length);
    eachPage(a, from.length, (page, offset, at, length) => {
      this.#keep(page * PIN_PAGE, PIN_PAGE);
      this.#own.get(page)!.set(from.subarray(at, at + length), offset);
    });
  }

  /** Gives up the copies; the parent runs on without. Once is enough. */
  close(): void {
    this.#closed = true;
    for (const g of this.#gates) g[Symbol.dispose]();
    this.#gates = [];
    this.#own.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Makes copies of the pages of [base, base + length) that are still shared. */
  #keep(base: Gpa, length: number): void {
    const { memory } = this.#table;
    eachPage(base, length, page => {
      if (this.#own.has(page)) return;
      // The first and the last page of a region may be less than whole. What is no memory at all is nobody's.
      let bytes: Uint8Array | undefined;
      for (const r of memory.regions) {
        const from = Math.max(r.base, page * PIN_PAGE);
        const to = Math.min(r.base + r.size, (page + 1) * PIN_PAGE);
        if (from >= to) continue;
        bytes ??= new Uint8Array(PIN_PAGE);
        bytes.set(r.bytes.subarray(from - r.base, to - r.base), from - page * PIN_PAGE);
      }
      if (bytes !== undefined) this.#own.set(page, bytes);
    });
  }

  #check(a: Gpa, length: number): void {
    if (this.#closed) throw new VmError('ERR_STATE', 'this fork of memory has been closed');
    if (this.#table.memory.contains(a, length)) return;
    throw new VmError('ERR_GUEST_ADDRESS', `no guest memory at ${hex(a)} (${length} bytes)`);
  }
}

/**
 * Forks the memory of a table as soon as no short pin is left; the guest may run meanwhile, and its devices wait with new requests.
 * Pages are shared as long as nobody else is attached to the table; otherwise all of them are copied, at once or when a thread attaches.
 * @throws VmError ERR_PINNED (EBUSY) naming the owners when short pins stay beyond the limit, ERR_PIN_UNSUPPORTED (EOPNOTSUPP) while a
 *   device of the host has long-term pins: nobody can stop it; the signal's reason.
 * @param before is called first, when nobody uses memory any more; with `o.exclusive` it may take time.
 */
export function forkMemory(
  table: PinTable,
  gate: WriteGate,
  o: DrainOptions,
  before?: () => void | Promise<void>,
): Promise<MemoryFork> {
  const owners = table.passthroughOwners();
  if (owners.length > 0) {
    const error = new VmError(
      'ERR_PIN_UNSUPPORTED',
      `memory cannot be forked while ${owners.join(', ')} may write it`,
      {
        hint: 'unplug the devices of the host that the VM was given',
        details: { errno: 'EOPNOTSUPP', owners },
      },
    );
    return Promise.reject(error);
  }
  const { regions } = table.memory;
  const first = regions[0];
  const last = regions.at(-1);
  const fork = (): MemoryFork | Promise<MemoryFork> => {
    const busy = before?.();
    return busy === undefined ? new MemoryFork(table, gate) : busy.then(() => new MemoryFork(table, gate));
  };
  if (first === undefined || last === undefined) return Promise.resolve(fork());
  return table.drained(first.base, last.base + last.size - first.base, o, fork);
}

/** Calls `f` with each page's part of a range: page number, offset in the page, offset in the range, length. */
function eachPage(a: Gpa, length: number, f: (page: number, offset: number, at: number, length: number) => void): void {
  for (let at = 0; at < length; ) {
    const page = Math.floor((a + at) / PIN_PAGE);
    const offset = a + at - page * PIN_PAGE;
    const part = Math.min(PIN_PAGE - offset, length - at);
    f(page, offset, at, part);
    at += part;
  }
}
