import type { GuestFrame } from './frame.ts';
import { FIN, type Segment, seqAdd, seqDiff } from './tcp-segment.ts';

/** Segments behind a hole that one connection keeps; their bytes are bounded by the window. */
const HELD_SEGMENTS = 512;

/** Takes the bytes of a connection in order. */
export interface ByteSink {
  /** Takes `[start, end)` of a frame, or of other bytes. */
  deliver(from: GuestFrame | Uint8Array, start: number, end: number): void;
  /** Bytes taken that have not left for the host's network. */
  readonly buffered: number;
}

/** The receiving half of a connection (RFC 9293 section 3.8.6) for the time after the guest's SYN. */
export class TcpReceiver {
  /** RCV.NXT */
  next: number;
  /** The guest has sent its FIN and all before it. */
  finReceived = false;
  readonly #sink: ByteSink;
  readonly #capacity: number;
  readonly #shift: number;
  readonly #mss: number;
  /** The right edge of the window, RCV.NXT + RCV.WND; never goes back (section 3.8.6). */
  #edge: number;
  /** Segments behind a hole, by sequence number. */
  readonly #held: { readonly seq: number; readonly bytes: Uint8Array }[] = [];
  #heldBytes = 0;
  #finSeq: number | undefined;

  /**
   * `seq` is the sequence number behind the guest's SYN, `capacity` the largest window in bytes, `shift` our window scale, `mss`
   * what the guest was told.
   */
  constructor(sink: ByteSink, options: { seq: number; capacity: number; shift: number; mss: number }) {
    this.#sink = sink;
    this.next = options.seq;
    this.#capacity = Math.min(options.capacity, 0xffff << options.shift);
    this.#shift = options.shift;
    this.#mss = options.mss;
    // The window of a SYN is never scaled (RFC 7323 section 2.2).
    this.#edge = seqAdd(options.seq, Math.min(this.#capacity, 0xffff));
  }

  /** Bytes that are kept behind holes. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The window field of a SYN. */
  get synWindow(): number {
    return Math.min(this.#capacity, 0xffff);
  }

  /** The window field of the next segment: what the host has taken makes room. */
  advertise(): number {
    const edge = this.#possibleEdge();
    // Silly window (section 3.8.6.2.2): it opens in useful steps.
    if (seqDiff(edge, this.#edge) >= Math.min(this.#capacity / 2, this.#mss)) this.#edge = edge;
    return seqDiff(this.#edge, this.next) >>> this.#shift;
  }

  /** The host has taken so much that the guest, which may be waiting for it, should know. */
  get updateDue(): boolean {
    return (
      seqDiff(this.#edge, this.next) < this.#capacity / 2 &&
      seqDiff(this.#possibleEdge(), this.#edge) >= Math.min(this.#capacity / 2, this.#mss)
    );
  }

  /** Whether a segment has a part in the window (section 3.10.7.4, first check). */
  accepts(segment: Segment): boolean {
    const window = seqDiff(this.#edge, this.next);
    const offset = seqDiff(segment.seq, this.next);
    const length = segment.length + (segment.has(FIN) ? 1 : 0);
    // A closed window still lets acknowledgments and the FIN pass.
    if (offset === 0 && (window === 0 || segment.length === 0)) return true;
    if (length === 0) return offset >= 0 && offset < window;
    return offset < window && offset + length > 0;
  }

  /** Takes the payload and FIN of an acceptable segment; false if the guest should hear at once where a hole is. */
  receive(segment: Segment): boolean {
    if (this.finReceived) return false;
    let { start, end } = segment;
    let offset = seqDiff(segment.seq, this.next);
    if (offset < 0) {
      start -= offset;
      offset = 0;
      // All of it was here before, and a FIN in it would have been seen.
      if (start > end) return false;
    }
    const room = seqDiff(this.#edge, this.next) - offset;
    const cut = end - start > room;
    if (cut) end = start + Math.max(0, room);
    const length = end - start;
    if (segment.has(FIN) && !cut) this.#finSeq = seqAdd(this.next, offset + length);
    if (offset > 0) {
      if (length > 0) this.#hold(seqAdd(this.next, offset), segment, start, end);
      return false;
    }
    if (length > 0) {
      this.#sink.deliver(segment.frame, start, end);
      this.next = seqAdd(this.next, length);
    }
    const filled = this.#held.length === 0;
    if (!filled) this.#release();
    if (this.#finSeq === this.next) {
      this.next = seqAdd(this.next, 1);
      // So that the byte of the FIN is none of the window's.
      if (seqDiff(this.#edge, this.next) < 0) this.#edge = this.next;
      this.finReceived = true;
      this.#held.length = this.#heldBytes = 0;
    }
    return filled && !cut;
  }

  #possibleEdge(): number {
    return seqAdd(this.next, Math.max(0, this.#capacity - this.#sink.buffered));
  }

  #hold(seq: number, segment: Segment, start: number, end: number): void {
    const length = end - start;
    if (this.#held.length >= HELD_SEGMENTS || this.#heldBytes + length > this.#capacity) return;
    let at = this.#held.length;
    while (at > 0 && seqDiff(this.#held[at - 1]!.seq, seq) > 0) at--;
    const before = this.#held[at - 1];
    // A repetition: what is there already has at least as much.
    if (before && seqDiff(seqAdd(before.seq, before.bytes.length), seqAdd(seq, length)) >= 0) return;
    const bytes = new Uint8Array(length);
    segment.frame.copy(start, end, bytes, 0);
    this.#held.splice(at, 0, { seq, bytes });
    this.#heldBytes += length;
  }

  /** Delivers what the hole kept back. */
  #release(): void {
    let count = 0;
    for (const { seq, bytes } of this.#held) {
      const known = seqDiff(this.next, seq);
      if (known < 0) break;
      count++;
      this.#heldBytes -= bytes.length;
      if (known >= bytes.length) continue;
      this.#sink.deliver(bytes, known, bytes.length);
      this.next = seqAdd(this.next, bytes.length - known);
    }
    this.#held.splice(0, count);
  }
}
