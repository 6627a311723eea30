import { ReceiveBuffer, SendQueue } from './buffers.ts';
import type { PacketHeader } from './packet.ts';
import * as R from './regs.ts';
import type { VsockCloseReason, VsockConnection, VsockHandlers } from './types.ts';

/** Bytes of a connection's receive buffer (buf_alloc): as much as a guest may send before the host takes it. */
export const BUF_ALLOC = 256 * 1024;
/** Bytes that the host may have written and that did not go yet, before write() returns false. */
const SEND_HIGH = 256 * 1024;
/** drain() comes when fewer bytes than this wait. */
const SEND_LOW = SEND_HIGH / 2;
/**
 * Bytes that the host took and the guest does not know of, at which it is told; half leaves it room to go on meanwhile.
 */
const CREDIT_STEP = BUF_ALLOC / 2;
/** ns that the guest has to accept a connection. */
const CONNECT_TIMEOUT = 10e9;
/** ns that the guest has to confirm a clean disconnect with RST; Linux gives its peer as long. */
const CLOSE_TIMEOUT = 8e9;

/** A packet that a connection wants to send. */
export interface OutgoingPacket {
  readonly op: number;
  readonly flags: number;
  readonly payload: readonly Uint8Array[];
}

/** What a connection needs of its device. */
export interface ConnectionHost {
  /** The connection has something to send: ask its next(). */
  ready(connection: Connection): void;
  /** The guest's socket is gone, or is to go: the address pair is free, after an RST if `reset`. */
  detach(connection: Connection, reset: boolean): void;
  /** The connection is closed, and nothing is left of it. */
  closed(connection: Connection): void;
  /** Calls `f` in `ns`. */
  after(ns: number, f: () => void): Disposable;
}

/**
 * - `offered`: the guest asks for it, and the host has not decided.
 * - `connecting`: the host asks for it, and the guest has not answered.
 * - `draining`: the guest is gone, but data that it sent before it ended are still here.
 */
type State = 'offered' | 'connecting' | 'established' | 'draining' | 'closed';

/**
 * One stream connection: state machine and flow control in both directions (virtio 1.2 sections 5.10.6.3 and 5.10.6.5).
 */
export class Connection implements VsockConnection {
  readonly #host: ConnectionHost;
  #handlers: VsockHandlers | undefined;
  #state: State;
  #reason: VsockCloseReason = 'ended';
  #timer: Disposable | undefined;

  /** Operations that wait to be sent, a bit for each; data and SHUTDOWN follow from the state instead. */
  #pending = 0;

  readonly #sendQueue = new SendQueue();
  /** write() has returned false. */
  #full = false;
  #ending = false;
  /** SHUTDOWN flags that were sent, and those that came. */
  #shutdownSent = 0;
  #peerShutdown = 0;
  // tx_cnt, peer_buf_alloc and peer_fwd_cnt of section 5.10.6.3, modulo 2^32.
  #txCnt = 0;
  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  /** The guest was asked for credit and has sent nothing since. */
  #creditRequested = false;

  readonly #receiveBuffer = new ReceiveBuffer();
  #paused = false;
  #delivering = false;
  /** handlers.ended() was called. */
  #ended = false;
  /** Bytes that the host took, and as many of them as the guest knows of, modulo 2^32. */
  #fwdCnt = 0;
  #fwdCntSent = 0;

  private constructor(
    host: ConnectionHost,
    state: State,
    readonly localPort: number,
    readonly peerPort: number,
  ) {
    this.#host = host;
    this.#state = state;
  }

  /** A connection that the host makes; the device has to ask for its first packet. */
  static connecting(host: ConnectionHost, localPort: number, peerPort: number, handlers: VsockHandlers): Connection {
    const connection = new Connection(host, 'connecting', localPort, peerPort);
    connection.#handlers = handlers;
    connection.#pending = 1 << R.VIRTIO_VSOCK_OP_REQUEST;
    connection.#timer = host.after(CONNECT_TIMEOUT, () => connection.close('timeout', true));
    return connection;
  }

  /** A connection that the guest asks for with `request`; see accept(). */
  static offered(host: ConnectionHost, request: PacketHeader): Connection {
    const connection = new Connection(host, 'offered', request.dst_port, request.src_port);
    connection.#updatePeerCredit(request);
    return connection;
  }

  /** The host accepts what the guest asked for, or learns at once that the guest has given up. */
  accept(handlers: VsockHandlers): void {
    if (this.#state !== 'offered') {
      handlers.closed(this.#reason);
      return;
    }
    this.#handlers = handlers;
    this.#state = 'established';
    this.#want(R.VIRTIO_VSOCK_OP_RESPONSE);
  }

  get writable(): boolean {
    return !this.#isOver() && !this.#ending && (this.#peerShutdown & SHUTDOWN.RECEIVE) === 0;
  }

  write(bytes: Uint8Array): boolean {
    if (!this.writable) return true;
    this.#sendQueue.push(bytes);
    this.#full = this.#sendQueue.length >= SEND_HIGH;
    const room = !this.#full;
    // Sending may make room and call drain(): after false only.
    this.#ready();
    return room;
  }

  end(): void {
    if (this.#isOver() || this.#ending) return;
    this.#ending = true;
    this.#ready();
  }

  destroy(): void {
    this.close('destroyed', true);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#deliver();
  }

  /** Ends the connection now; `reset` tells the guest. Data that the host has not taken is lost. */
  close(reason: VsockCloseReason, reset: boolean): void {
    const before = this.#state;
    if (before === 'closed') return;
    this.#state = 'closed';
    this.#reason = reason;
    this.#receiveBuffer.clear();
    if (before !== 'draining') this.#detach(reset);
    this.#host.closed(this);
    this.#handlers?.closed(reason);
  }

  /** buf_alloc and fwd_cnt of the packet that goes now: the guest knows them from here on. */
  credit(): { buf_alloc: number; fwd_cnt: number } {
    this.#fwdCntSent = this.#fwdCnt;
    this.#pending &= ~(1 << R.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    return { buf_alloc: BUF_ALLOC, fwd_cnt: this.#fwdCnt };
  }

  /**
   * The packet to send next, with at most `room` bytes of payload (at least 1); undefined when there is nothing to say.
   */
  next(room: number): OutgoingPacket | undefined {
    if (this.#take(R.VIRTIO_VSOCK_OP_REQUEST)) return control(R.VIRTIO_VSOCK_OP_REQUEST);
    if (this.#take(R.VIRTIO_VSOCK_OP_RESPONSE)) return control(R.VIRTIO_VSOCK_OP_RESPONSE);
    if (this.#state !== 'established') return undefined;

    const length = Math.min(room, this.#peerFree(), this.#sendQueue.length);
    if (length > 0) return this.#data(length);
    const flags = this.#shutdownFlags();
    if (flags !== this.#shutdownSent) return this.#shutdown(flags);
    if (this.#sendQueue.length > 0 && !this.#creditRequested) {
      this.#creditRequested = true;
      return control(R.VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    }
    return this.#take(R.VIRTIO_VSOCK_OP_CREDIT_UPDATE) ? control(R.VIRTIO_VSOCK_OP_CREDIT_UPDATE) : undefined;
  }

  /** A stream packet for this connection; `payload` has `header.len` bytes and is not kept. */
  receive(header: PacketHeader, payload: Uint8Array): void {
    if (header.op === R.VIRTIO_VSOCK_OP_RST) this.#receiveRst();
    else if (this.#state === 'established') this.#receiveEstablished(header, payload);
    else if (this.#state === 'connecting' && header.op === R.VIRTIO_VSOCK_OP_RESPONSE) {
      this.#stopTimer();
      this.#state = 'established';
      this.#updatePeerCredit(header);
      this.#handlers?.connected?.();
    } else this.close('protocol', true);
  }

  #receiveEstablished(header: PacketHeader, payload: Uint8Array): void {
    this.#updatePeerCredit(header);
    switch (header.op) {
      case R.VIRTIO_VSOCK_OP_RW:
        this.#receiveData(payload);
        break;
      case R.VIRTIO_VSOCK_OP_SHUTDOWN:
        this.#receiveShutdown(header.flags);
        break;
      case R.VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break; // every packet is one
      case R.VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        this.#want(R.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        break;
      default:
        this.close('protocol', true);
    }
  }

  #receiveRst(): void {
    if (this.#state === 'connecting') this.close('refused', false);
    else if (this.#peerShutdown & SHUTDOWN.SEND) {
      // The guest had sent everything and is not there any more; whether that is an end depends on what the host had to
      // say.
      const heard = this.#peerShutdown & SHUTDOWN.RECEIVE || (this.#ending && this.#sendQueue.length === 0);
      this.#leave(heard ? 'ended' : 'reset');
    } else this.close('reset', false);
  }

  #receiveData(payload: Uint8Array): void {
    const unacknowledged = this.#receiveBuffer.length + payload.length;
    if (this.#peerShutdown & SHUTDOWN.SEND || unacknowledged > BUF_ALLOC) {
      this.close('protocol', true);
      return;
    }
    if (payload.length === 0) return;
    if (this.#paused || this.#delivering) this.#receiveBuffer.push(payload);
    else {
      this.#hand(payload.slice());
      this.#deliver();
    }
  }

  #receiveShutdown(flags: number): void {
    // Section 5.10.6.5: a bit that was set stays set.
    this.#peerShutdown |= flags & R.SHUTDOWN_BOTH;
    if (this.#peerShutdown & SHUTDOWN.RECEIVE) {
      this.#sendQueue.clear();
      this.#drained();
    }
    this.#deliver();
  }

  /** Gives the host what the buffer holds, and says when that was all. */
  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    while (!this.#paused && this.#receiveBuffer.length > 0) this.#hand(this.#receiveBuffer.shift());
    this.#delivering = false;
    if (this.#state === 'closed' || this.#receiveBuffer.length > 0) return;
    if (this.#peerShutdown & SHUTDOWN.SEND && !this.#ended) {
      this.#ended = true;
      this.#handlers?.ended?.();
    }
    if (this.#state === 'draining') this.close(this.#reason, false);
    // The guest has closed its socket and waits for RST (section 5.10.6.5); nothing that the host has can reach it.
    else if (this.#ended && this.#peerShutdown === R.SHUTDOWN_BOTH) this.close('ended', true);
    else if (this.#ended) this.#ready(); // SHUTDOWN may have become possible
  }

  #hand(bytes: Uint8Array): void {
    this.#fwdCnt = (this.#fwdCnt + bytes.length) >>> 0;
    if (this.#handlers?.data(bytes) === false) this.#paused = true;
    if ((this.#fwdCnt - this.#fwdCntSent) >>> 0 >= CREDIT_STEP) this.#want(R.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  }

  /** The guest's side is over: what it has sent still reaches the host, then the connection is closed. */
  #leave(reason: VsockCloseReason): void {
    if (this.#receiveBuffer.length === 0) {
      this.close(reason, false);
      return;
    }
    this.#state = 'draining';
    this.#reason = reason;
    this.#detach(false);
  }

  #detach(reset: boolean): void {
    // A REQUEST that has not left needs no RST: the guest does not know the connection.
    const unknown = this.#take(R.VIRTIO_VSOCK_OP_REQUEST);
    this.#stopTimer();
    this.#sendQueue.clear();
    this.#host.detach(this, reset && !unknown);
  }

  #data(length: number): OutgoingPacket {
    this.#txCnt = (this.#txCnt + length) >>> 0;
    const payload = this.#sendQueue.take(length);
    this.#drained();
    return { op: R.VIRTIO_VSOCK_OP_RW, flags: 0, payload };
  }

  #shutdown(flags: number): OutgoingPacket {
    this.#shutdownSent = flags;
    // Both sides have ended: the guest confirms, or is forced (section 5.10.6.5).
    if (flags === R.SHUTDOWN_BOTH) this.#timer = this.#host.after(CLOSE_TIMEOUT, () => this.close('ended', true));
    return { op: R.VIRTIO_VSOCK_OP_SHUTDOWN, flags, payload: [] };
  }

  /**
   * The flags that the guest should have been told: it learns of the host's end after all data, of its own end's
   * receipt then.
   */
  #shutdownFlags(): number {
    if (!this.#ending || this.#sendQueue.length > 0) return 0;
    return this.#ended ? R.SHUTDOWN_BOTH : SHUTDOWN.SEND;
  }

  #drained(): void {
    if (!this.#full || this.#sendQueue.length >= SEND_LOW) return;
    this.#full = false;
    this.#handlers?.drain?.();
  }

  #updatePeerCredit(header: PacketHeader): void {
    this.#peerBufAlloc = header.buf_alloc;
    this.#peerFwdCnt = header.fwd_cnt;
    this.#creditRequested = false;
    if (this.#sendQueue.length > 0 && this.#peerFree() > 0) this.#ready();
  }

  /** Bytes of payload that the guest has room for. */
  #peerFree(): number {
    // Section 5.10.6.3. A guest that claims to have received what was not sent, or shrinks its buffer, gets nothing.
    return Math.max(0, this.#peerBufAlloc - ((this.#txCnt - this.#peerFwdCnt) >>> 0));
  }

  #want(op: number): void {
    this.#pending |= 1 << op;
    this.#ready();
  }

  #ready(): void {
    // A connection that is over must not get back into the device's list: handlers may have closed it meanwhile.
    if (!this.#isOver()) this.#host.ready(this);
  }

  #take(op: number): boolean {
    const there = (this.#pending & (1 << op)) !== 0;
    this.#pending &= ~(1 << op);
    return there;
  }

  #stopTimer(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }

  #isOver(): boolean {
    return this.#state === 'closed' || this.#state === 'draining';
  }
}

const SHUTDOWN = { RECEIVE: R.VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE, SEND: R.VIRTIO_VSOCK_SHUTDOWN_F_SEND } as const;

function control(op: number): OutgoingPacket {
  return { op, flags: 0, payload: [] };
}
