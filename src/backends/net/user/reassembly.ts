import type { GuestFrame } from './frame.ts';
import type { Deadlines, Expiring } from './timers.ts';

/** Datagrams that are put together at a time; the oldest gives way. */
const DATAGRAMS = 8;
/** Fragments of one datagram: 64 KiB in pieces of 576-byte packets. */
const FRAGMENTS = 128;
/** How long the rest of a datagram may take (RFC 1122 section 3.3.2: 60 to 120 s; ours comes over a queue in memory). */
const TIMEOUT_MS = 15_000;
const LONGEST_PAYLOAD = 65535 - 20;

interface Fragment {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** One datagram in pieces. */
class Partial implements Expiring {
  deadline: number;
  readonly key: string;
  readonly fragments: Fragment[] = [];
  /** Bytes of the whole, once the last fragment is here. */
  total = Number.POSITIVE_INFINITY;
  received = 0;
  readonly #drop: (p: Partial) => void;

  constructor(key: string, deadline: number, drop: (p: Partial) => void) {
    this.key = key;
    this.deadline = deadline;
    this.#drop = drop;
  }

  expire(): void {
    this.#drop(this);
  }
}

/** Puts fragments of IPv4 packets from the guest together (RFC 791 section 3.2), as many as fit a fixed bound. */
export class Reassembly {
  readonly #partials = new Map<string, Partial>();
  readonly #deadlines: Deadlines;

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines;
  }

  get size(): number {
    return this.#partials.size;
  }

  /**
   * Takes a parsed fragment. True when it was the last missing one: the frame is then the whole packet. Fragments that overlap
   * others end their datagram (RFC 5722 section 4 has the reasons, for IPv6): no honest sender makes them.
   */
  add(frame: GuestFrame, now: number): boolean {
    const start = frame.fragmentOffset;
    const length = frame.payloadEnd - frame.payloadStart;
    const key = `${frame.source} ${frame.destination} ${frame.protocol} ${frame.identification}`;
    let partial = this.#partials.get(key);
    // All but the last are multiples of 8 bytes.
    if (length === 0 || start + length > LONGEST_PAYLOAD || (frame.moreFragments && length & 7)) return false;
    if (!partial) {
      partial = new Partial(key, now + TIMEOUT_MS, p => this.#drop(p));
      if (this.#partials.size >= DATAGRAMS)
        for (const oldest of this.#partials.values()) {
          this.#drop(oldest);
          break;
        }
      this.#partials.set(key, partial);
      this.#deadlines.add(partial);
    }
    if (!insert(partial, frame, start, length)) {
      this.#drop(partial);
      return false;
    }
    if (partial.received < partial.total) return false;
    const whole = new Uint8Array(partial.total);
    for (const f of partial.fragments) whole.set(f.bytes, f.start);
    this.#drop(partial);
    frame.replacePayload(whole);
    return true;
  }

  #drop(partial: Partial): void {
    this.#partials.delete(partial.key);
    this.#deadlines.delete(partial);
  }
}

/** False if the fragment cannot belong to the datagram. A repeated one is not an error. */
function insert(partial: Partial, frame: GuestFrame, start: number, length: number): boolean {
  const end = start + length;
  for (const f of partial.fragments) {
    if (f.start === start && f.bytes.length === length) return true;
    if (start < f.start + f.bytes.length && f.start < end) return false;
  }
  if (end > partial.total || partial.fragments.length >= FRAGMENTS) return false;
  if (!frame.moreFragments) {
    if (partial.fragments.some(f => f.start >= end)) return false;
    partial.total = end;
  }
  const bytes = new Uint8Array(length);
  frame.copy(frame.payloadStart, frame.payloadEnd, bytes, 0);
  partial.fragments.push({ start, bytes });
  partial.received += length;
  return true;
}
