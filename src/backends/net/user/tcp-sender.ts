import { SendQueue } from './send-queue.ts';
import { ACK, FIN, PSH, type Segment, seqAdd, seqDiff } from './tcp-segment.ts';

/** Bytes from the host that one connection holds for the guest; the host's socket is paused beyond. */
const QUEUE_LIMIT = 256 * 1024;
/** Pieces in which they may come: a host that sends single bytes must not cost an array for each of so many. */
const CHUNK_LIMIT = 256;

// Retransmission timeout in ms (RFC 6298). The floor is that of common systems, above the 200 ms for which Linux may delay
// an ACK; the RFC's second would be felt by people.
const RTO_INITIAL = 1_000;
const RTO_MIN = 250;
const RTO_MAX = 60_000;
/** Timeouts in a row after which the guest is gone: some minutes (RFC 9293 section 3.8.3, R2 of at least 100 s). */
const RETRIES = 10;
const DUPLICATES = 3;

/** What becomes a segment to the guest; acknowledgment and window are added by who makes it. */
export interface SegmentOutput {
  /** Sends `length` bytes of `queue` from `offset` on; false when the guest has no room for the frame. */
  emit(flags: number, seq: number, queue: SendQueue, offset: number, length: number): boolean;
  /** Payload bytes that fit one segment or, if larger ones are cut by the guest, one frame. */
  readonly largestSegment: number;
  /** The guest has no room: calls TcpSender.output() when it has. */
  waitForRoom(): void;
  now(): number;
}

/** What an acknowledgment means for the connection. */
export type Acknowledged = 'ok' | 'never sent';

/**
 * The sending half of a connection (RFC 9293 section 3.8) for the time after its SYN was acknowledged. There is no congestion
 * window in normal operation: the cable is a ring in memory that says when it is full, so nothing is lost for want of
 * room on the way, and the guest's window does all the flow control. After a timeout alone it starts slowly (RFC 5681
 * section 3.1), for a guest that has just come back should not get everything at once.
 */
export class TcpSender {
  readonly queue = new SendQueue();
  readonly #out: SegmentOutput;
  /** SND.UNA; the queue starts with this byte. */
  #una: number;
  /** SND.NXT; goes back to SND.UNA by a timeout. */
  #nxt: number;
  /** The highest SND.NXT so far. */
  #max: number;
  /** SND.WND in bytes, and the segment that gave it. */
  #window = 0;
  #wl1 = 0;
  #wl2 = 0;
  readonly #shift: number;
  readonly #mss: number;
  #slowStart = Number.POSITIVE_INFINITY;

  #finQueued = false;
  #finAcked = false;

  /** Moment of the retransmission or window probe; Infinity while nothing is outstanding. */
  timer = Number.POSITIVE_INFINITY;
  #rto = RTO_INITIAL;
  #srtt = 0;
  #rttvar = 0;
  /** End of the segment whose round trip is measured, and when it was sent; one at a time, and none that was sent twice. */
  #timed: { end: number; at: number } | undefined;
  #retries = 0;
  #duplicates = 0;
  /** Until SND.UNA reaches this, one loss is being mended (RFC 6582). */
  #recover: number | undefined;
  /** There was no room for what a hole needs. */
  #resendDue = false;
  /** The byte at SND.UNA was sent into a closed window. */
  #probing = false;

  /** `seq` is the sequence number behind our SYN, `window` in bytes and from the segment `wl1`, `shift` the guest's window scale. */
  constructor(out: SegmentOutput, options: { seq: number; window: number; wl1: number; shift: number; mss: number }) {
    this.#out = out;
    this.#una = this.#nxt = this.#max = options.seq;
    this.#wl1 = options.wl1;
    this.#wl2 = options.seq;
    this.#window = options.window;
    this.#shift = options.shift;
    this.#mss = options.mss;
  }

  /** SND.NXT as the guest may know it: for segments without data. */
  get next(): number {
    return this.#max;
  }

  get unacknowledged(): number {
    return this.#una;
  }

  /** The host's socket must wait. */
  get full(): boolean {
    return this.queue.length >= QUEUE_LIMIT || this.queue.chunks >= CHUNK_LIMIT;
  }

  /** The host's socket may go on. */
  get hasRoom(): boolean {
    return this.queue.length <= QUEUE_LIMIT / 2 && this.queue.chunks <= CHUNK_LIMIT / 2;
  }

  get finQueued(): boolean {
    return this.#finQueued;
  }

  get finAcked(): boolean {
    return this.#finAcked;
  }

  /** Too many timeouts in a row. */
  get dead(): boolean {
    return this.#retries > RETRIES;
  }

  /** Bytes from the host, which must not change any more. */
  push(bytes: Uint8Array): void {
    this.queue.push(bytes);
  }

  /** A FIN follows the last byte. */
  finish(): void {
    this.#finQueued = true;
  }

  /** Sends what window and room allow. */
  output(): void {
    if (this.#resendDue) this.#resend();
    while (!this.#finAcked) {
      const flight = seqDiff(this.#nxt, this.#una);
      // -1 when the FIN, behind all bytes, is sent too.
      const unsent = this.queue.length - flight;
      const usable = Math.min(this.#window, this.#slowStart) - flight;
      let length = Math.max(0, Math.min(unsent, usable, this.#out.largestSegment));
      // Only the last one of those that the guest cuts out of a large segment may be short.
      if (length > this.#mss && length < unsent) length -= length % this.#mss;
      const fin = this.#finQueued && unsent === length;
      if (length === 0 && !fin) {
        if (unsent > 0 && flight === 0) this.#arm(); // the window is closed: ask for it from time to time
        return;
      }
      // Silly window (section 3.8.6.2.1): no small segment only because the window is small for now.
      if (length < this.#mss && length < unsent && flight > 0) return;
      if (!this.#send(length, fin) || fin) return;
    }
  }

  /** Takes the acknowledgment and window of an acceptable segment. */
  acknowledge(segment: Segment): Acknowledged {
    const { ack } = segment;
    const advance = seqDiff(ack, this.#una);
    if (seqDiff(ack, this.#max) > 0) return 'never sent';
    if (advance < 0) return 'ok';
    const window = segment.window << this.#shift;
    if (advance > 0) this.#advance(ack, advance);
    else this.#duplicate(segment, window);
    const newer = seqDiff(segment.seq, this.#wl1);
    if (newer > 0 || (newer === 0 && seqDiff(ack, this.#wl2) >= 0) || advance > 0) {
      this.#wl1 = segment.seq;
      this.#wl2 = ack;
      this.#window = window;
      // Whoever answers is there, however long the window stays closed (section 3.8.6.1).
      if (window === 0) this.#retries = 0;
      else if (this.#probing) {
        this.#probing = false;
        this.#nxt = this.#una;
        this.#rto = this.#computedRto();
      }
    }
    return 'ok';
  }

  /** The timer has run out: what is outstanding is sent again. */
  timeout(): void {
    this.timer = Number.POSITIVE_INFINITY;
    this.#timed = undefined;
    this.#retries++;
    this.#rto = Math.min(RTO_MAX, this.#rto * 2);
    this.#duplicates = 0;
    this.#recover = undefined;
    this.#resendDue = false;
    if (this.#window === 0 && this.queue.length > 0) {
      this.#probe();
      return;
    }
    this.#nxt = this.#una;
    this.#slowStart = this.#mss;
    this.output();
  }

  /** The timer has run out while the guest had no room for frames: its silence says nothing. */
  postpone(): void {
    this.timer = this.#out.now() + this.#rto;
    this.output();
  }

  /** Sends one segment from SND.NXT on and moves it. */
  #send(length: number, fin: boolean): boolean {
    const offset = seqDiff(this.#nxt, this.#una);
    const push = length > 0 && offset + length === this.queue.length;
    const flags = ACK | (push ? PSH : 0) | (fin ? FIN : 0);
    if (!this.#out.emit(flags, this.#nxt, this.queue, offset, length)) {
      this.#out.waitForRoom();
      this.#arm();
      return false;
    }
    const end = seqAdd(this.#nxt, length + (fin ? 1 : 0));
    const isNew = this.#nxt === this.#max;
    this.#nxt = end;
    if (seqDiff(end, this.#max) > 0) this.#max = end;
    if (isNew && !this.#timed) this.#timed = { end, at: this.#out.now() };
    this.#arm();
    return true;
  }

  #arm(): void {
    if (this.timer === Number.POSITIVE_INFINITY) this.timer = this.#out.now() + this.#rto;
  }

  /** One byte into the closed window: its answer says how large the window is now. */
  #probe(): void {
    this.#probing = true;
    this.#out.emit(ACK, this.#una, this.queue, 0, 1);
    this.#nxt = seqAdd(this.#una, 1);
    if (seqDiff(this.#nxt, this.#max) > 0) this.#max = this.#nxt;
    this.#arm();
  }

  #advance(ack: number, advance: number): void {
    if (advance > this.queue.length) this.#finAcked = this.#finQueued;
    this.queue.shift(advance);
    this.#una = ack;
    if (seqDiff(this.#nxt, ack) < 0) this.#nxt = ack;
    const backedOff = this.#retries > 0;
    this.#resendDue = false;
    this.#retries = 0;
    this.#duplicates = 0;
    this.#slowStart = this.#slowStart > QUEUE_LIMIT ? Number.POSITIVE_INFINITY : this.#slowStart + advance;
    if (this.#timed && seqDiff(ack, this.#timed.end) >= 0) {
      this.#sample(this.#out.now() - this.#timed.at);
      this.#timed = undefined;
    }
    // RFC 6298 section 5 would keep it backed off until the next measurement. But it was backed off for a guest that did not
    // listen, not for a path that is slow, and now it listens.
    if (backedOff) this.#rto = this.#computedRto();
    const outstanding = seqDiff(this.#max, ack) > 0;
    this.timer = outstanding ? this.#out.now() + this.#rto : Number.POSITIVE_INFINITY;
    if (this.#recover === undefined) return;
    // An acknowledgment of a part shows the next hole (RFC 6582 section 3.2).
    if (seqDiff(ack, this.#recover) < 0) this.#resend();
    else this.#recover = undefined;
  }

  #duplicate(segment: Segment, window: number): void {
    const outstanding = seqDiff(this.#nxt, this.#una) > 0;
    // RFC 5681 section 2: no data, no FIN, nothing new about the window.
    if (!outstanding || segment.length > 0 || segment.has(FIN) || window !== this.#window || window === 0) return;
    this.#duplicates++;
    if (this.#duplicates !== DUPLICATES || this.#recover !== undefined) return;
    this.#recover = this.#max;
    this.#resend();
  }

  /** Sends the segment at SND.UNA again, without moving SND.NXT. */
  #resend(): void {
    this.#timed = undefined;
    this.#resendDue = false;
    const length = Math.min(this.queue.length, this.#out.largestSegment, Math.max(1, this.#window));
    const fin = this.#finQueued && length === this.queue.length;
    if (!this.#out.emit(ACK | (fin ? FIN : 0), this.#una, this.queue, 0, length)) {
      this.#resendDue = true;
      this.#out.waitForRoom();
    }
    this.timer = this.#out.now() + this.#rto;
  }

  /** RFC 6298 section 2. */
  #sample(rtt: number): void {
    if (this.#srtt === 0) {
      this.#srtt = rtt;
      this.#rttvar = rtt / 2;
    } else {
      this.#rttvar = 0.75 * this.#rttvar + 0.25 * Math.abs(this.#srtt - rtt);
      this.#srtt = 0.875 * this.#srtt + 0.125 * rtt;
    }
    this.#rto = this.#computedRto();
  }

  #computedRto(): number {
    if (this.#srtt === 0) return RTO_INITIAL;
    return Math.min(RTO_MAX, Math.max(RTO_MIN, this.#srtt + 4 * this.#rttvar));
  }
}
