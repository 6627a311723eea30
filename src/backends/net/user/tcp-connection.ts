import type { GuestFrame } from './frame.ts';
import type { Endpoint, StreamHandler, StreamSocket } from './host-sockets.ts';
import type { Waiting } from './link.ts';
import type { SendQueue } from './send-queue.ts';
import type { TcpStack } from './tcp.ts';
import { TcpPacket } from './tcp-packet.ts';
import { type ByteSink, TcpReceiver } from './tcp-receiver.ts';
import { ACK, FIN, RST, type Segment, SYN, seqAdd, seqDiff } from './tcp-segment.ts';
import { type SegmentOutput, TcpSender } from './tcp-sender.ts';
import type { Expiring } from './timers.ts';

/** Our window scale: windows up to 512 KiB in steps of 8 bytes. */
const WINDOW_SHIFT = 3;

/** The host's connection takes as long as the host's system tries, but no longer than this (ms). */
const CONNECT_MS = 75_000;
/** First repetition of a SYN (RFC 6298 section 2.1), doubled each time; in all about 2 minutes. */
const SYN_MS = 1_000;
const SYN_RETRIES = 6;
/** Twice the time that a segment can live on a cable that is a queue in memory. RFC 9293 has 4 minutes, for the Internet. */
const TIME_WAIT_MS = 2_000;
/** How long the host's socket may take for its last bytes after both sides have ended (ms). */
const LINGER_MS = 60_000;
/** Idle connections are asked whether the guest still knows them (RFC 9293 section 3.8.4); the interval of probes. */
const KEEPALIVE_MS = 7_200_000;
const KEEPALIVE_PROBE_MS = 75_000;
const KEEPALIVE_PROBES = 9;

/** Addresses and ports of the two ends. */
export interface ConnectionEnds {
  readonly guestAddress: number;
  readonly guestPort: number;
  readonly remoteAddress: number;
  readonly remotePort: number;
}

/**
 * States of RFC 9293 section 3.3.2. `connecting` is before SYN-RECEIVED, while the host connects; `open` is all from ESTABLISHED to
 * LAST-ACK, told apart by who has sent a FIN and whose is acknowledged.
 */
type State = 'connecting' | 'syn-received' | 'syn-sent' | 'open' | 'time-wait' | 'closed';

/**
 * One TCP connection: we are the guest's peer on one side and an application of the host on the other. Bytes are
 * acknowledged to the guest when they are handed to the host's socket, and flow control goes through: the window is what
 * the socket has room for, and the socket is read as fast as the guest acknowledges.
 */
export class TcpConnection implements StreamHandler, SegmentOutput, ByteSink, Expiring, Waiting {
  readonly ends: ConnectionEnds;
  deadline = Number.POSITIVE_INFINITY;
  /** Is in the stack's list of those that have something to do soon. */
  dirty = false;
  #state: State;
  readonly #stack: TcpStack;
  #socket: StreamSocket | undefined;
  #paused = true;
  #packet: TcpPacket;
  #sender: TcpSender | undefined;
  #receiver: TcpReceiver | undefined;
  /** Initial send sequence number. */
  readonly #iss: number;
  #mss: number;
  #scaling = true;
  /** The guest's window scale. */
  #guestShift = 0;
  /** Where the host has not tried to connect to. */
  #targets: Endpoint[] = [];
  #ackDue = false;
  /** RCV.NXT of the last acknowledgment. */
  #acked = 0;
  #retries = 0;
  /** Our FIN was sent before the guest's came: it is us who waits at the end. */
  #closedFirst = false;
  readonly #capacity: number;

  constructor(stack: TcpStack, ends: ConnectionEnds, state: 'connecting' | 'syn-sent', capacity: number) {
    this.#stack = stack;
    this.ends = ends;
    this.#state = state;
    this.#capacity = capacity;
    this.#iss = stack.context.random();
    this.#mss = stack.mss;
    this.#packet = this.#makePacket();
  }

  get state(): State {
    return this.#state;
  }

  /** Bytes that the connection holds, for both directions. */
  get heldBytes(): number {
    return (this.#sender?.queue.length ?? 0) + (this.#receiver?.heldBytes ?? 0);
  }

  // From the guest, before there is a connection.

  /** The guest's SYN: the host connects to the first of `targets`, of which there is one at least, that answers. */
  open(syn: Segment, targets: readonly Endpoint[]): void {
    this.#takeOptions(syn);
    this.#makeReceiver(syn);
    this.#targets = [...targets];
    this.#connect();
  }

  /** A connection from the host: asks the guest. */
  offer(socket: StreamSocket): void {
    this.#socket = socket;
    this.#sendSyn();
  }

  // From the host (StreamHandler).

  connected(): void {
    if (this.#state !== 'connecting') return;
    this.#state = 'syn-received';
    this.#sendSyn();
  }

  data(bytes: Uint8Array): void {
    const sender = this.#sender;
    if (!sender || this.#state !== 'open') return;
    sender.push(bytes);
    sender.output();
    if (sender.full && !this.#paused) {
      this.#paused = true;
      this.#socket?.pause();
    }
    this.#updateTimer();
  }

  end(): void {
    const sender = this.#sender;
    if (!sender || this.#state !== 'open') return;
    if (sender.finQueued) return;
    this.#closedFirst = !this.#receiver?.finReceived;
    sender.finish();
    sender.output();
    this.#updateTimer();
  }

  drained(): void {
    if (this.#state === 'open' && this.#receiver?.updateDue) this.#acknowledge();
  }

  closed(error: string | undefined): void {
    this.#dropSocket();
    switch (this.#state) {
      case 'closed':
        return;
      case 'connecting':
        if (this.#targets.length > 0) this.#connect();
        else this.#refused(error ?? 'ECONNREFUSED');
        return;
      case 'time-wait':
        if (!this.#closedFirst) this.#remove();
        return;
      case 'open':
        if (error === undefined) this.end();
        else this.abort();
        return;
      default:
        this.abort();
    }
  }

  // From the guest.

  /** A segment of the guest's for this connection (RFC 9293 section 3.10.7). */
  segment(segment: Segment): void {
    switch (this.#state) {
      case 'connecting':
        // There is nothing yet that could be acknowledged; the guest may only give up.
        if (segment.has(RST) && segment.seq === this.#receiver?.next) this.#destroy();
        return;
      case 'syn-sent':
        this.#synSent(segment);
        return;
      case 'syn-received':
      case 'open':
      case 'time-wait':
        this.#synchronized(segment);
        return;
      case 'closed':
        return;
    }
  }

  /** Whether a new SYN may take the place of this connection (RFC 9293 section 3.10.7.4, TIME-WAIT). */
  mayBeReplaced(syn: Segment): boolean {
    return this.#state === 'time-wait' && seqDiff(syn.seq, this.#receiver?.next ?? 0) >= 0;
  }

  #synSent(segment: Segment): void {
    const acceptable = segment.has(ACK) && segment.ack === seqAdd(this.#iss, 1);
    if (segment.has(ACK) && !acceptable) {
      this.#stack.reset(segment);
      return;
    }
    if (segment.has(RST)) {
      // The port is closed in the guest, and who connected sees that.
      if (acceptable) this.#destroy();
      return;
    }
    if (!segment.has(SYN) || !acceptable) return;
    this.#takeOptions(segment);
    this.#makeReceiver(segment);
    this.#established(segment, segment.window);
    this.#acknowledge();
  }

  #synchronized(segment: Segment): void {
    const receiver = this.#receiver!;
    if (this.#state === 'syn-received' && segment.has(SYN) && !segment.has(ACK)) {
      // The guest's SYN again: our answer was lost.
      if (seqAdd(segment.seq, 1) === receiver.next) this.#emitSyn();
      return;
    }
    if (!receiver.accepts(segment)) {
      if (segment.has(RST)) return;
      if (this.#state === 'time-wait' && this.#closedFirst) this.#startTimer(TIME_WAIT_MS);
      this.#acknowledge();
      return;
    }
    if (segment.has(RST)) {
      // Only the exact number ends it; others are asked for confirmation (RFC 5961 section 3.2).
      if (segment.seq === receiver.next) this.#destroy();
      else this.#acknowledge();
      return;
    }
    if (segment.has(SYN)) {
      this.#acknowledge(); // RFC 5961 section 4.2
      return;
    }
    if (!segment.has(ACK)) return;
    if (this.#state === 'syn-received') {
      if (segment.ack !== seqAdd(this.#iss, 1)) {
        this.#stack.reset(segment);
        return;
      }
      this.#established(segment, segment.window << this.#guestShift);
    }
    if (this.#state === 'open') this.#process(segment, this.#sender!, receiver);
  }

  #process(segment: Segment, sender: TcpSender, receiver: TcpReceiver): void {
    this.#retries = 0;
    if (sender.acknowledge(segment) === 'never sent') {
      this.#acknowledge();
      return;
    }
    if (segment.length > 0 || segment.has(FIN)) {
      if (segment.length > 0 && !this.#socket) {
        // Nobody is left who could read it (section 3.6.1).
        this.abort();
        return;
      }
      const hadFin = receiver.finReceived;
      const inOrder = receiver.receive(segment);
      if (receiver.finReceived && !hadFin) {
        this.#flush();
        this.#socket?.end();
      }
      this.#ackDue = true;
      if (!inOrder || seqDiff(receiver.next, this.#acked) >= this.#capacity / 2) {
        this.#flush();
        this.#acknowledge();
      } else this.#stack.soon(this);
    }
    sender.output();
    if (this.#paused && this.#socket && sender.hasRoom) {
      this.#paused = false;
      this.#socket.resume();
    }
    if (sender.finAcked && receiver.finReceived) this.#finished();
    else this.#updateTimer();
  }

  /**
   * Both sides have ended and our FIN is acknowledged. Who closed second need not wait for the guest (LAST-ACK), but stays as long
   * as the host's socket has bytes to send: a socket that nobody counts would be one too many.
   */
  #finished(): void {
    if (this.#ackDue) this.#acknowledge();
    this.#state = 'time-wait';
    this.#sender?.queue.clear();
    if (this.#closedFirst) this.#startTimer(TIME_WAIT_MS);
    else if (this.#socket) this.#startTimer(LINGER_MS);
    else this.#remove();
  }

  /** Ends a connection in time-wait before its time. */
  discard(): void {
    const socket = this.#socket;
    this.#dropSocket();
    if (socket && socket.buffered > 0) socket.reset();
    this.#remove();
  }

  /** What was left for the end of a burst: bytes to the host, an acknowledgment to the guest. */
  runSoon(): void {
    if (this.#state === 'closed') return;
    this.#flush();
    if (this.#ackDue) this.#acknowledge();
  }

  // Time (Expiring) and room (Waiting).

  expire(now: number): void {
    switch (this.#state) {
      case 'connecting':
        this.#socket?.reset();
        this.closed('ETIMEDOUT');
        return;
      case 'syn-sent':
      case 'syn-received':
        if (++this.#retries > SYN_RETRIES) this.abort();
        else this.#sendSyn();
        return;
      case 'open':
        this.#expireOpen(now);
        return;
      default:
        this.#expireTimeWait();
    }
  }

  #expireTimeWait(): void {
    if (this.#closedFirst && this.#socket) {
      this.#closedFirst = false;
      this.#startTimer(LINGER_MS);
    } else this.discard();
  }

  #expireOpen(now: number): void {
    const sender = this.#sender!;
    if (sender.timer <= now) {
      // A full ring says that the guest does not look, not that something was lost.
      if (this.#stack.context.link.blocked) {
        this.#stack.context.link.unblock();
        sender.postpone();
      } else sender.timeout();
    } else if (sender.timer === Number.POSITIVE_INFINITY) {
      this.#keepAlive();
      return;
    }
    if (sender.dead) this.abort();
    else this.#updateTimer();
  }

  #keepAlive(): void {
    if (++this.#retries > KEEPALIVE_PROBES) {
      this.abort();
      return;
    }
    // A number before the window makes the guest answer.
    const seq = seqAdd(this.#sender!.next, -1);
    this.#packet.send({ seq, ack: this.#receiver!.next, flags: ACK, window: this.#receiver!.advertise() }, 0);
    this.#startTimer(KEEPALIVE_PROBE_MS);
  }

  roomAvailable(): void {
    if (this.#state !== 'open') return;
    if (this.#ackDue) this.#acknowledge();
    this.#sender?.output();
    this.#updateTimer();
  }

  // For the sender (SegmentOutput).

  get largestSegment(): number {
    if (!this.#stack.context.link.accepts.tso4) return this.#mss;
    return this.#stack.largestPayload - (this.#stack.largestPayload % this.#mss);
  }

  now(): number {
    return this.#stack.context.scheduler.now();
  }

  emit(flags: number, seq: number, queue: SendQueue, offset: number, length: number): boolean {
    const receiver = this.#receiver!;
    if (length > 0) queue.slices(offset, length, this.#packet.payload);
    const sent = this.#packet.send({ seq, ack: receiver.next, flags, window: receiver.advertise() }, length);
    if (sent) this.#acknowledged();
    return sent;
  }

  waitForRoom(): void {
    this.#stack.context.link.wait(this);
  }

  // For the receiver (ByteSink).

  get buffered(): number {
    const socket = this.#socket;
    return socket ? socket.buffered + this.#stack.writer.pending(socket) : 0;
  }

  deliver(from: GuestFrame | Uint8Array, start: number, end: number): void {
    if (this.#socket) this.#stack.writer.append(this.#socket, from, start, end);
  }

  // Ends.

  /** Ends the connection on both sides at once. */
  abort(): void {
    const ack = this.#receiver?.next;
    const seq = this.#sender?.next ?? (this.#state === 'connecting' ? 0 : seqAdd(this.#iss, 1));
    const flags = ack === undefined ? RST : RST | ACK;
    this.#packet.send({ seq, ack: ack ?? 0, flags, window: 0 }, 0);
    this.#destroy();
  }

  /** Ends the host's side at once and forgets the connection; the guest is told nothing. */
  #destroy(): void {
    const socket = this.#socket;
    if (socket && this.#receiver) this.#stack.writer.flush();
    this.#dropSocket();
    socket?.reset();
    this.#remove();
  }

  #dropSocket(): void {
    if (this.#socket) this.#stack.writer.forget(this.#socket);
    this.#socket = undefined;
  }

  #remove(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#sender?.queue.clear();
    this.#stack.remove(this);
  }

  // Parts.

  #connect(): void {
    const target = this.#targets.shift();
    if (!target) return;
    this.#startTimer(CONNECT_MS);
    this.#socket = this.#stack.context.sockets.connectStream(target, this);
  }

  /** The guest has sent nothing but its SYN, which the answer acknowledges. */
  #refused(error: string): void {
    this.#remove();
    this.#stack.refuse(this, this.#receiver!.next, error);
  }

  #takeOptions(syn: Segment): void {
    const { mss, shift } = syn.options();
    this.#mss = Math.min(mss, this.#stack.mss);
    this.#scaling = shift !== undefined;
    this.#guestShift = shift ?? 0;
    this.#packet = this.#makePacket();
  }

  #makePacket(): TcpPacket {
    const { guestAddress, guestPort, remoteAddress, remotePort } = this.ends;
    const { link } = this.#stack.context;
    return new TcpPacket(link, [remoteAddress, remotePort], [guestAddress, guestPort], this.#mss);
  }

  #makeReceiver(syn: Segment): void {
    const shift = this.#scaling ? WINDOW_SHIFT : 0;
    const seq = seqAdd(syn.seq, 1);
    this.#acked = seq;
    this.#receiver = new TcpReceiver(this, { seq, capacity: this.#capacity, shift, mss: this.#stack.mss });
  }

  /** `window` in bytes. */
  #established(segment: Segment, window: number): void {
    this.#state = 'open';
    this.#retries = 0;
    this.#sender = new TcpSender(this, {
      seq: seqAdd(this.#iss, 1),
      window,
      wl1: segment.seq,
      shift: this.#guestShift,
      mss: this.#mss,
    });
    this.#paused = false;
    this.#updateTimer();
    this.#socket?.resume();
  }

  #sendSyn(): void {
    this.#emitSyn();
    this.#startTimer(SYN_MS << this.#retries);
  }

  #emitSyn(): void {
    const receiver = this.#receiver;
    const { link } = this.#stack.context;
    if (!link.knows(this.ends.guestAddress)) this.#stack.whoHas(this.ends.guestAddress);
    const syn = { mss: this.#stack.mss, shift: this.#scaling ? WINDOW_SHIFT : undefined };
    const flags = receiver ? SYN | ACK : SYN;
    const window = receiver?.synWindow ?? Math.min(this.#capacity, 0xffff);
    this.#packet.send({ seq: this.#iss, ack: receiver?.next ?? 0, flags, window, syn }, 0);
  }

  #acknowledge(): void {
    const receiver = this.#receiver!;
    const seq = this.#sender?.next ?? seqAdd(this.#iss, 1);
    const sent = this.#packet.send({ seq, ack: receiver.next, flags: ACK, window: receiver.advertise() }, 0);
    if (sent) this.#acknowledged();
    else {
      this.#ackDue = true;
      this.waitForRoom();
    }
  }

  #acknowledged(): void {
    this.#ackDue = false;
    this.#acked = this.#receiver!.next;
  }

  #flush(): void {
    if (this.#socket && this.#stack.writer.pending(this.#socket) > 0) this.#stack.writer.flush();
  }

  #updateTimer(): void {
    if (this.#state !== 'open') return;
    const timer = this.#sender!.timer;
    if (timer !== Number.POSITIVE_INFINITY) this.#setDeadline(timer);
    else this.#startTimer(KEEPALIVE_MS);
  }

  #startTimer(ms: number): void {
    this.#setDeadline(this.now() + ms);
  }

  #setDeadline(deadline: number): void {
    const earlier = deadline < this.deadline;
    this.deadline = deadline;
    if (earlier) this.#stack.context.deadlines.update(this);
  }
}
