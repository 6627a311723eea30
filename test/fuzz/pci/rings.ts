import { RAM } from './guest-ram.ts';
import type { Random } from './random.ts';

/** A buffer of a request as a descriptor says it; address and length may be any. */
export interface Piece {
  readonly address: bigint;
  readonly length: number;
  readonly write: boolean;
}

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

/** Where a ring and its tables are in RAM: guest-physical addresses inside of {@link RAM}. */
export interface RingPlace {
  readonly size: number;
  readonly desc: number;
  readonly driver: number;
  readonly device: number;
  /** Indirect tables of {@link SMALL_TABLE} descriptors, as many as there is room for, used in turn; and one for all larger ones. */
  readonly tables: number;
  readonly tableBytes: number;
  readonly largeTable: number;
}

const SMALL_TABLE = 8;

/** A driver's side of a virtqueue that works, until something in it is spoilt. */
export interface DriverRing {
  readonly place: RingPlace;
  /** Descriptors that the device does not have. */
  readonly free: number;
  /** Makes a request available; false: no room. */
  offer(pieces: readonly Piece[], indirect: boolean): boolean;
  /** Takes back what the device has returned, and returns how much; -1 when the ring makes no sense. */
  collect(): number;
  /** Writes something wrong into the ring. */
  spoil(random: Random): void;
}

/** What both formats share: words in RAM. */
abstract class RamRing {
  constructor(
    readonly ram: DataView,
    readonly place: RingPlace,
  ) {}

  protected u16(a: number): number {
    return this.ram.getUint16(a - RAM, true);
  }

  protected setU16(a: number, value: number): void {
    this.ram.setUint16(a - RAM, value, true);
  }

  protected descriptor(at: number, p: Piece, third: number, fourth: number): void {
    const i = at - RAM;
    this.ram.setBigUint64(i, BigInt.asUintN(64, p.address), true);
    this.ram.setUint32(i + 8, p.length, true);
    this.ram.setUint16(i + 12, third, true);
    this.ram.setUint16(i + 14, fourth, true);
  }

  /** Writes an indirect table and returns the piece that refers to it. */
  protected table(n: number, pieces: readonly Piece[], flags: (i: number) => number): Piece {
    const { tables, tableBytes, largeTable } = this.place;
    const slot = n % Math.floor(tableBytes / (16 * SMALL_TABLE));
    const at = pieces.length <= SMALL_TABLE ? tables + 16 * SMALL_TABLE * slot : largeTable;
    for (const [i, p] of pieces.entries()) this.descriptor(at + 16 * i, p, flags(i), i + 1);
    return { address: BigInt(at), length: 16 * pieces.length, write: false };
  }

  protected spoilWord(random: Random, areas: readonly (readonly [number, number])[]): void {
    const [base, length] = random.pick(areas);
    const at = base + (random.below(length) & ~1);
    if (at + 4 > RAM + this.ram.byteLength) return;
    if (random.oneIn(2)) this.setU16(at, random.word());
    else this.ram.setUint32(at - RAM, random.word(), true);
  }
}

export class SplitDriver extends RamRing implements DriverRing {
  readonly #free: number[];
  readonly #chains = new Map<number, number[]>();
  #available = 0;
  #used = 0;
  #tables = 0;

  constructor(ram: DataView, place: RingPlace) {
    super(ram, place);
    this.#free = Array.from({ length: place.size }, (_, i) => place.size - 1 - i);
  }

  get free(): number {
    return this.#free.length;
  }

  offer(pieces: readonly Piece[], indirect: boolean): boolean {
    const { size, desc, driver } = this.place;
    if (this.#free.length < (indirect ? 1 : pieces.length) || pieces.length === 0) return false;
    const flagsOf = (i: number) => (i < pieces.length - 1 ? NEXT : 0) | (pieces[i]!.write ? WRITE : 0);
    const chain = (indirect ? [0] : pieces).map(() => this.#free.pop()!);
    if (indirect) this.descriptor(desc + 16 * chain[0]!, this.table(this.#tables++, pieces, flagsOf), INDIRECT, 0);
    else
      for (const [i, p] of pieces.entries()) this.descriptor(desc + 16 * chain[i]!, p, flagsOf(i), chain[i + 1] ?? 0);
    this.#chains.set(chain[0]!, chain);
    this.setU16(driver + 4 + 2 * (this.#available % size), chain[0]!);
    this.#available = (this.#available + 1) & 0xffff;
    this.setU16(driver + 2, this.#available);
    return true;
  }

  collect(): number {
    const { size, device } = this.place;
    const waiting = (this.u16(device + 2) - this.#used) & 0xffff;
    if (waiting > size) return -1;
    for (let n = 0; n < waiting; n++, this.#used = (this.#used + 1) & 0xffff) {
      const id = this.ram.getUint32(device + 4 + 8 * (this.#used % size) - RAM, true);
      const chain = this.#chains.get(id);
      if (chain === undefined) return -1;
      this.#chains.delete(id);
      this.#free.push(...chain);
    }
    return waiting;
  }

  spoil(random: Random): void {
    const { size, desc, driver, device } = this.place;
    switch (random.below(6)) {
      case 0:
        this.setU16(driver + 2, random.oneIn(2) ? this.#available + random.between(-2, size + 2) : random.word());
        return;
      case 1:
        // All heads alike: the same chain again and again.
        for (let i = 0; i < size; i++) this.setU16(driver + 4 + 2 * i, 0);
        this.setU16(driver + 2, this.#available + size);
        return;
      case 2: {
        // A loop.
        const i = random.below(size);
        this.setU16(desc + 16 * i + 12, NEXT | (random.oneIn(2) ? WRITE : 0));
        this.setU16(desc + 16 * i + 14, random.oneIn(2) ? i : random.below(size));
        return;
      }
      default:
        this.spoilWord(random, [
          [desc, 16 * size],
          [driver, 6 + 2 * size],
          [device, 6 + 8 * size],
          [this.place.tables, this.place.tableBytes],
        ]);
    }
  }
}

export class PackedDriver extends RamRing implements DriverRing {
  readonly #ids: number[];
  readonly #counts = new Map<number, number>();
  #next = 0;
  #wrap = 1;
  #used = 0;
  #usedWrap = 1;
  #tables = 0;
  free: number;

  constructor(ram: DataView, place: RingPlace) {
    super(ram, place);
    this.#ids = Array.from({ length: place.size }, (_, i) => i);
    this.free = place.size;
  }

  offer(pieces: readonly Piece[], indirect: boolean): boolean {
    const { desc, size } = this.place;
    const list = indirect ? [this.table(this.#tables++, pieces, i => (pieces[i]!.write ? WRITE : 0))] : pieces;
    if (this.free < list.length || list.length === 0) return false;
    const id = this.#ids.shift()!;
    let first: (() => void) | undefined;
    for (const [i, p] of list.entries()) {
      const flags =
        (p.write ? WRITE : 0) |
        (i < list.length - 1 ? NEXT : 0) |
        (indirect ? INDIRECT : 0) |
        (this.#wrap === 1 ? 1 << 7 : 1 << 15);
      const at = desc + 16 * this.#next;
      this.descriptor(at, p, id, i === 0 ? this.u16(at + 14) : flags);
      if (i === 0) first = () => this.setU16(at + 14, flags);
      if (++this.#next === size) {
        this.#next = 0;
        this.#wrap ^= 1;
      }
    }
    first!();
    this.#counts.set(id, list.length);
    this.free -= list.length;
    return true;
  }

  collect(): number {
    const { desc, size } = this.place;
    for (let done = 0; ; done++) {
      const at = desc + 16 * this.#used;
      const flags = this.u16(at + 14);
      if (((flags >> 7) & 1) !== this.#usedWrap || flags >> 15 !== this.#usedWrap) return done;
      const id = this.u16(at + 12);
      const count = this.#counts.get(id);
      if (count === undefined) return -1;
      this.#counts.delete(id);
      this.#ids.push(id);
      this.free += count;
      this.#used += count;
      if (this.#used >= size) {
        this.#used -= size;
        this.#usedWrap ^= 1;
      }
    }
  }

  spoil(random: Random): void {
    const { size, desc, driver, device } = this.place;
    if (random.oneIn(4)) {
      // Everything is available, in a chain that does not end.
      const flags = NEXT | (this.#wrap === 1 ? 1 << 7 : 1 << 15);
      for (let i = 0; i < size; i++) this.setU16(desc + 16 * i + 14, flags);
      return;
    }
    this.spoilWord(random, [
      [desc, 16 * size],
      [desc, 16 * size],
      [driver, 4],
      [device, 4],
      [this.place.tables, this.place.tableBytes],
    ]);
  }
}
