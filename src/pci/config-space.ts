import type { AccessSize } from '../bus/types.ts';

/** Told of a write that touched a register, after the bytes have changed; `before` gives a register as it was. */
export type ConfigEffect = (before: DataView) => void;

interface Effect {
  readonly offset: number;
  readonly end: number;
  readonly apply: ConfigEffect;
}

/** Registers that are not bytes of the space, such as a window into a BAR. Offsets are from the window's start. */
export interface ConfigWindow {
  read(offset: number, size: AccessSize): number;
  write(offset: number, size: AccessSize, value: number): void;
}

interface Placed {
  readonly offset: number;
  readonly end: number;
  readonly window: ConfigWindow;
}

/** Bytes of a configuration space with PCI Express; conventional PCI has the first 256 (spec EXP, ECAM-1). */
export const CONFIG_SIZE = 4096;

/**
 * A function's configuration space: bytes, a mask of the bits that a guest may write and one of the bits that a written 1
 * clears. Writes of any width are merged byte by byte, then told to the effects of the registers that they touch
 * (PCI Local Bus 3.0 section 6.1; CFG-4). The bytes are the only state of BARs and decoding.
 */
export class ConfigSpace {
  readonly bytes = new Uint8Array(CONFIG_SIZE);
  readonly view = new DataView(this.bytes.buffer);
  readonly #writable = new Uint8Array(CONFIG_SIZE);
  readonly #clearable = new Uint8Array(CONFIG_SIZE);
  readonly #effects: Effect[] = [];
  readonly #windows: Placed[] = [];
  readonly #before = new Uint8Array(CONFIG_SIZE);
  readonly #beforeView = new DataView(this.#before.buffer);
  #initial: Uint8Array | undefined;

  /**
   * Defines a little-endian register of 1, 2 or 4 bytes.
   * @param writable bits that a guest's write changes.
   * @param clearable bits that a guest clears by writing 1 (W1C).
   */
  define(offset: number, size: AccessSize, value: number, writable = 0, clearable = 0): void {
    for (let i = 0; i < size; i++) {
      this.bytes[offset + i] = value >>> (8 * i);
      this.#writable[offset + i] = writable >>> (8 * i);
      this.#clearable[offset + i] = clearable >>> (8 * i);
    }
  }

  /** Calls `apply` after every guest write that touched [offset, offset + length), changed or not. */
  effect(offset: number, length: number, apply: ConfigEffect): void {
    this.#effects.push({ offset, end: offset + length, apply });
  }

  /** Gives [offset, offset + length) to a window; accesses there do not touch the bytes. */
  window(offset: number, length: number, window: ConfigWindow): void {
    this.#windows.push({ offset, end: offset + length, window });
  }

  /** A guest's read; the caller has checked that the access lies inside one aligned dword (CFG-3). */
  read(offset: number, size: AccessSize): number {
    if (this.#windows.length > 0) {
      const w = this.#windowAt(offset);
      if (w !== undefined) return w.window.read(offset - w.offset, size) >>> 0;
    }
    if (size === 4) return this.view.getUint32(offset, true);
    return size === 2 ? this.view.getUint16(offset, true) : this.bytes[offset]!;
  }

  /** A guest's write, inside one aligned dword. Returns whether a byte changed. */
  write(offset: number, size: AccessSize, value: number): boolean {
    const w = this.#windows.length > 0 ? this.#windowAt(offset) : undefined;
    if (w !== undefined) {
      w.window.write(offset - w.offset, size, value);
      return false;
    }
    const touched = this.#effects.filter(e => offset < e.end && offset + size > e.offset);
    if (touched.length > 0) this.#before.set(this.bytes);
    let changed = false;
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const old = this.bytes[at]!;
      const written = (value >>> (8 * i)) & 0xff;
      const mask = this.#writable[at]!;
      const merged = ((old & ~mask) | (written & mask)) & ~(written & this.#clearable[at]!);
      this.bytes[at] = merged;
      changed ||= merged !== old;
    }
    for (const e of touched) e.apply(this.#beforeView);
    return changed;
  }

  /** Marks the registers as they are now, or the byte at `offset` alone, as what reset() goes back to. */
  seal(offset?: number): void {
    if (offset === undefined || this.#initial === undefined) this.#initial = this.bytes.slice();
    else this.#initial[offset] = this.bytes[offset]!;
  }

  /** Puts every byte back to what it was at seal(). No effect is applied: what follows from a reset is the caller's. */
  reset(): void {
    if (this.#initial !== undefined) this.bytes.set(this.#initial);
  }

  #windowAt(offset: number): Placed | undefined {
    return this.#windows.find(w => offset >= w.offset && offset < w.end);
  }
}
