import { GuestFrame } from './frame.ts';
import type { StreamSocket } from './host-sockets.ts';

const SIZE = 128 * 1024;
/** With less room than this left, a new buffer is better than a write of that size. */
const SMALLEST_REST = 8 * 1024;

/**
 * Collects what goes to the host's sockets. Each call of a socket is one of the system: the payloads of a burst of segments go
 * together. The memory is one buffer for all connections, for sockets nearly always take everything at once.
 */
export class HostWriter {
  #buffer: Uint8Array = Buffer.allocUnsafeSlow(SIZE);
  #socket: StreamSocket | undefined;
  /** What is collected for the socket. */
  #start = 0;
  #end = 0;
  /** A socket still uses a part of the buffer. */
  #inUse = false;

  /** Bytes that wait here for a socket. */
  pending(socket: StreamSocket): number {
    return socket === this.#socket ? this.#end - this.#start : 0;
  }

  /** Copies `[start, end)`. */
  append(socket: StreamSocket, from: GuestFrame | Uint8Array, start: number, end: number): void {
    if (socket !== this.#socket) {
      this.flush();
      this.#socket = socket;
    }
    let at = start;
    while (at < end) {
      if (this.#end === SIZE) this.flush();
      const stop = Math.min(end, at + SIZE - this.#end);
      if (from instanceof GuestFrame) from.copy(at, stop, this.#buffer, this.#end);
      else this.#buffer.set(from.subarray(at, stop), this.#end);
      this.#end += stop - at;
      at = stop;
    }
  }

  /** Writes what is collected. */
  flush(): void {
    if (this.#end === this.#start || !this.#socket) return;
    const done = this.#socket.write(this.#buffer.subarray(this.#start, this.#end));
    if (!done) this.#inUse = true;
    this.#start = this.#end;
    if (!this.#inUse) this.#start = this.#end = 0;
    else if (SIZE - this.#end < SMALLEST_REST) {
      this.#buffer = Buffer.allocUnsafeSlow(SIZE);
      this.#start = this.#end = 0;
      this.#inUse = false;
    }
  }

  /** Drops what is collected for a socket, which is gone. */
  forget(socket: StreamSocket): void {
    if (socket !== this.#socket) return;
    this.#end = this.#start;
    this.#socket = undefined;
  }
}
