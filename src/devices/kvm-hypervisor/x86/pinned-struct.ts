import { FOLL_PIN, FOLL_WRITE, PIN_PAGE, type PinHandle, type PinOwner, type Pins } from '../../../memory/pin-types.ts';
import { upper32 } from '../../../util/words.ts';

const END_OF_ADDRESSES = 2n ** 52n;

/** The pinned bytes of one page. */
interface Part {
  readonly handle: PinHandle;
  readonly bytes: Uint8Array;
  /** The same as words, when they begin at a multiple of 4. */
  readonly words: Int32Array | undefined;
}

/**
 * A structure in guest memory, under a short pin for writing until it is disposed; its pages are dirty then (specification of ptp,
 * EMU-X5). It may cross pages, and regions of memory. Aligned words are written in the order of the program, for vCPUs that look on
 * from other threads: a store that releases does not keep plain ones behind it from coming first, so all of them are atomic.
 */
export class PinnedStruct implements Disposable {
  readonly #pins: Pins;
  readonly #parts: readonly Part[];

  /**
   * @param gpa 64 bits, as a guest gives it. @param length bytes.
   * @returns undefined when not all of it is RAM that can be written now; nothing is pinned then.
   */
  static pin(pins: Pins, owner: PinOwner, gpa: bigint, length: number): PinnedStruct | undefined {
    // Where doubles are no longer exact, there is no memory (Gpa).
    if (gpa >= END_OF_ADDRESSES) return undefined;
    const end = Number(gpa) + length;
    const parts: Part[] = [];
    // Pages lie in one region each, so each has a view.
    for (let at = Number(gpa); at < end; ) {
      const next = Math.min(end, (Math.floor(at / PIN_PAGE) + 1) * PIN_PAGE);
      const handle = pins.tryPin(at, next - at, FOLL_PIN | FOLL_WRITE, owner);
      const bytes = pins.view(handle);
      if (bytes === undefined) {
        for (const p of parts) pins.unpin(p.handle);
        if (handle !== 0) pins.unpin(handle);
        return undefined;
      }
      const aligned = bytes.byteOffset % 4 === 0 && bytes.length % 4 === 0;
      const words = aligned ? new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4) : undefined;
      parts.push({ handle, bytes, words });
      at = next;
    }
    return new PinnedStruct(pins, parts);
  }

  private constructor(pins: Pins, parts: readonly Part[]) {
    this.#pins = pins;
    this.#parts = parts;
  }

  /** @param at a multiple of 4, bytes from the structure's begin. */
  u32(at: number): number {
    const [part, offset] = this.#find(at);
    if (part.words !== undefined) return Atomics.load(part.words, offset / 4) >>> 0;
    let value = 0;
    for (let i = 3; i >= 0; i--) value = value * 256 + this.#byte(at + i)[0]!;
    return value;
  }

  /** @param at as for {@link u32}. */
  setU32(at: number, value: number): void {
    const [part, offset] = this.#find(at);
    if (part.words !== undefined) Atomics.store(part.words, offset / 4, value | 0);
    else for (let i = 0; i < 4; i++) this.#byte(at + i)[0] = value >>> (8 * i);
  }

  /** Two words, the lower first. */
  setU64(at: number, value: bigint): void {
    this.setU32(at, Number(BigInt.asUintN(32, value)));
    this.setU32(at + 4, upper32(value));
  }

  [Symbol.dispose](): void {
    for (const p of this.#parts) this.#pins.unpin(p.handle, true);
  }

  /** One byte of a structure that is not aligned: its words may lie in two pages. */
  #byte(at: number): Uint8Array {
    const [{ bytes }, offset] = this.#find(at);
    return bytes.subarray(offset, offset + 1);
  }

  #find(at: number): readonly [part: Part, offset: number] {
    const first = this.#parts[0]!;
    return at < first.bytes.length ? [first, at] : [this.#parts[1]!, at - first.bytes.length];
  }
}
