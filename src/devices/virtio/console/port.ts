import type { Chain, VirtQueue } from '../device.ts';
import { Scatter } from '../pieces.ts';

/** The host's end of a port. */
export interface ConsolePortOptions {
  /** What the guest finds in /sys/class/virtio-ports/.../name; port 0, the console, needs none. */
  readonly name?: string;
  /**
   * Takes bytes from the guest, at most 4 KiB in one call, and returns how many it took; the array is the callee's to keep.
   * When that is less than all, the rest stays in the guest until {@link ConsolePort.outputRoom}. A host that takes everything
   * has to keep everything: how much a guest may send at once is bounded by the size of its memory only.
   */
  output(bytes: Uint8Array): number;
  /** Called after {@link ConsolePort.input} took less than it was given, as soon as there is room again. */
  onRoom?(): void;
  /** A program of the guest has opened or closed the port, or its driver went away. */
  onOpen?(open: boolean): void;
}

/** Bytes that the host is offered in one piece. */
const LONGEST_OUTPUT = 4096;

/**
 * A port of a virtio-console (virtio 1.2 section 5.3): a stream of bytes in each direction. Nothing is buffered here. What
 * either side does not take stays where it is, in the driver's buffers or with the host.
 */
export class ConsolePort {
  readonly name: string | undefined;
  readonly #options: ConsolePortOptions;
  #receiveq: VirtQueue | undefined;
  #transmitq: VirtQueue | undefined;
  #open = false;
  /** input() left bytes behind. */
  #waiting = false;

  /** Output that the host has taken in part: its place is #piece and #offset. */
  #chain: Chain | undefined;
  #piece = 0;
  #offset = 0;
  #sending = false;

  constructor(options: ConsolePortOptions) {
    this.#options = options;
    this.name = options.name;
  }

  /** True while the guest reads what the host sends. */
  get open(): boolean {
    return this.#open;
  }

  /**
   * Gives bytes to the guest and returns how many it has buffers for. When that is less than all, onRoom says when to offer
   * the rest. None are taken while the port is not open.
   */
  input(bytes: Uint8Array): number {
    const queue = this.#receiveq;
    let taken = 0;
    let pushed = 0;
    if (queue !== undefined && this.#open) {
      while (taken < bytes.length) {
        const chain = this.#nextBuffer(queue);
        if (chain === undefined) break;
        const n = new Scatter(chain.writable).write(bytes.subarray(taken));
        queue.push(chain, n);
        taken += n;
        pushed++;
      }
      if (pushed > 0) queue.notifyDriver();
    }
    this.#waiting = taken < bytes.length;
    return taken;
  }

  /** The host takes bytes again after `output` had taken less than all. */
  outputRoom(): void {
    this.transmit();
  }

  /** The driver is there, with the port's queues. */
  connect(receiveq: VirtQueue, transmitq: VirtQueue): void {
    this.#receiveq = receiveq;
    this.#transmitq = transmitq;
    receiveq.setDriverNotifications(this.#waiting);
  }

  /** The driver is gone. Output that it has not got back is not sent again. */
  disconnect(): void {
    this.#receiveq = this.#transmitq = this.#chain = undefined;
    this.setOpen(false);
  }

  /** VIRTIO_CONSOLE_PORT_OPEN of the driver (section 5.3.6.2). */
  setOpen(open: boolean): void {
    if (open === this.#open) return;
    this.#open = open;
    this.#options.onOpen?.(open);
    // The driver may have provided its buffers before it opened the port.
    if (open) this.room();
  }

  /** The driver has added buffers to the receive queue. */
  room(): void {
    if (!this.#waiting || !this.#open) return;
    this.#waiting = false;
    this.#receiveq?.setDriverNotifications(false);
    this.#options.onRoom?.();
  }

  /** Hands the host what the driver has put into the transmit queue, as far as the host takes it. */
  transmit(): void {
    const queue = this.#transmitq;
    // A host may say from inside of output() that it has room.
    if (queue === undefined || this.#sending) return;
    this.#sending = true;
    let sent = 0;
    for (; sent < queue.size; sent++) {
      const chain = this.#chain ?? this.#begin(queue);
      if (chain === undefined || !this.#send(chain)) break;
      this.#chain = undefined;
      queue.push(chain, 0);
    }
    if (sent > 0) queue.notifyDriver();
    this.#sending = false;
  }

  /** One byte that came by the configuration instead of a queue; lost when the host takes none. */
  emergency(byte: number): void {
    this.#options.output(Uint8Array.of(byte));
  }

  #nextBuffer(queue: VirtQueue): Chain | undefined {
    const chain = queue.pop();
    if (chain !== undefined) return chain;
    // Asked first, looked again after: a buffer that arrives in between must not go unnoticed (section 2.7.10).
    queue.setDriverNotifications(true);
    return queue.pop();
  }

  #begin(queue: VirtQueue): Chain | undefined {
    this.#piece = this.#offset = 0;
    this.#chain = queue.pop();
    return this.#chain;
  }

  /** Sends what is left of a chain; false when the host has not taken all of it. */
  #send(chain: Chain): boolean {
    for (; this.#piece < chain.readable.length; this.#piece++, this.#offset = 0) {
      const piece = chain.readable[this.#piece]!;
      while (this.#offset < piece.length) {
        // slice() copies out of guest RAM into memory that is the host's alone.
        const bytes = piece.slice(this.#offset, this.#offset + LONGEST_OUTPUT);
        const taken = this.#options.output(bytes);
        this.#offset += taken;
        if (taken < bytes.length) return false;
      }
    }
    return true;
  }
}
