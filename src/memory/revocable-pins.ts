import { VmError } from '../util/errors.ts';
import type { PageCounts } from './page-counts.ts';
import type { PinSlots } from './pin-slots.ts';
import type { PinHandle } from './pin-types.ts';

/** What {@link RevocablePins} needs of the table of pins. */
export interface RevocablePinsOptions {
  readonly slots: PinSlots;
  readonly counts: PageCounts;
  ownerName(handle: PinHandle): string;
  /** Counts a pin that has been revoked. */
  revoked(): void;
}

/**
 * The long-term pins of a thread that do not keep memory from going: revocable ones, whose holders let go when asked, and coordinated
 * ones, whose holders hear of unplugs as plug listeners and let go then, but for no other operation (table 4.3).
 */
export class RevocablePins {
  readonly #o: RevocablePinsOptions;
  /** The callback of each; undefined for a coordinated one. */
  readonly #revokes = new Map<PinHandle, (() => void) | undefined>();

  constructor(o: RevocablePinsOptions) {
    this.#o = o;
  }

  get size(): number {
    return this.#revokes.size;
  }

  add(handle: PinHandle, revoke: (() => void) | undefined): void {
    this.#revokes.set(handle, revoke);
  }

  delete(handle: PinHandle): void {
    this.#revokes.delete(handle);
  }

  isRevocable(handle: PinHandle): boolean {
    return this.#revokes.get(handle) !== undefined;
  }

  /** Whether a pin ends with an unplug of pages [first, end): one that reaches beyond them stays, since it is not asked in part. */
  isCoordinated(handle: PinHandle, first: number, end: number): boolean {
    if (!this.#revokes.has(handle) || this.isRevocable(handle)) return false;
    const { slots } = this.#o;
    const at = slots.at(handle);
    return slots.first[at]! >= first && slots.end[at]! <= end;
  }

  /**
   * Asks the revocable pins of pages [first, end) to go, unless others hold pages of them for long.
   * @param unplug coordinated pins will go too: they are no reason not to ask.
   * @throws VmError ERR_INTERNAL for a holder that does not let go; what its callback throws.
   */
  revoke(first: number, end: number, unplug: boolean): void {
    const { slots, counts } = this.#o;
    const asked: [PinHandle, () => void][] = [];
    let staying = 0;
    for (const [h, revoke] of this.#revokes) {
      const at = slots.at(h);
      const pages = Math.min(end, slots.end[at]!) - Math.max(first, slots.first[at]!);
      if (pages <= 0) continue;
      if (revoke !== undefined) asked.push([h, revoke]);
      if (revoke !== undefined || (unplug && this.isCoordinated(h, first, end))) staying -= pages;
    }
    if (asked.length === 0) return;
    for (let p = first; p < end; p++) staying += counts.long(p);
    if (staying > 0) return;
    for (const [h, revoke] of asked) {
      if (slots.at(h) < 0) continue; // gone with one that was asked before
      revoke();
      if (slots.at(h) >= 0) {
        throw new VmError('ERR_INTERNAL', `${this.#o.ownerName(h)} was asked to release a revocable pin and has not`, {
          hint: 'its revoke callback has to unpin before it returns',
        });
      }
      this.#o.revoked();
    }
  }

  /** First page of [first, end) that is pinned by others than coordinated pins that end with it; -1 when there is none. */
  firstStaying(first: number, end: number): number {
    const { slots, counts } = this.#o;
    const coordinated = this.#coordinated(first, end);
    if (coordinated.length === 0) return counts.firstPinned(first, end);
    const going = new Uint16Array(end - first);
    for (const h of coordinated) {
      const at = slots.at(h);
      for (let p = slots.first[at]!; p < slots.end[at]!; p++) going[p - first]! += 1;
    }
    for (let p = counts.firstPinned(first, end); p >= 0; p = counts.firstPinned(p + 1, end)) {
      if (counts.short(p) + counts.long(p) > going[p - first]!) return p;
    }
    return -1;
  }

  /**
   * Sees that the plug listeners have released their coordinated pins of pages [first, end).
   * @throws VmError ERR_INTERNAL when one is left: a device would go on using memory that is another's.
   */
  checkReleased(first: number, end: number): void {
    const [left] = this.#coordinated(first, end);
    if (left === undefined) return;
    throw new VmError('ERR_INTERNAL', `${this.#o.ownerName(left)} was told of an unplug and still pins the memory`, {
      hint: 'the holder of a coordinated pin has to listen for unplugs (addPlugListener) and to unpin then',
    });
  }

  #coordinated(first: number, end: number): PinHandle[] {
    return [...this.#revokes.keys()].filter(h => this.isCoordinated(h, first, end));
  }
}
