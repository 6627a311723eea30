import { once } from 'node:events';
import { Duplex } from 'node:stream';
import type { VirtioVsock } from '../../devices/virtio/vsock/device.ts';
import type { VsockCloseReason, VsockConnection, VsockHandlers } from '../../devices/virtio/vsock/types.ts';

/** What streams need of a socket device. */
export type VsockDevice = Pick<VirtioVsock, 'connect' | 'listen'>;

/** How a stream fails, in the codes of Node's own sockets. */
const FAILURES: Readonly<Partial<Record<VsockCloseReason, readonly [code: string, what: string]>>> = {
  refused: ['ECONNREFUSED', 'nobody listens'],
  reset: ['ECONNRESET', 'the guest broke the connection off'],
  timeout: ['ETIMEDOUT', 'the guest does not answer'],
  protocol: ['EPROTO', 'the guest broke the rules of the device'],
};

/** An error of a {@link VsockStream}, with a code as Node's sockets have. */
export class VsockError extends Error {
  override readonly name = 'VsockError';
  readonly code: string;

  constructor(code: string, what: string, port: number) {
    super(`vsock port ${port} of the guest: ${what}`);
    this.code = code;
  }
}

/**
 * A connection to a port of the guest as a Node stream, with back pressure both ways; half-open as net.Socket with
 * allowHalfOpen. Emits 'connect' when the guest has accepted. A chunk must not be changed once it was written.
 */
export class VsockStream extends Duplex {
  readonly #connection: VsockConnection;
  /** The callback of a write that waits for room. */
  #written: ((error?: Error) => void) | undefined;

  /** @param open makes the connection with the handlers that it is given, or gives one that gets them later. */
  constructor(open: (handlers: VsockHandlers) => VsockConnection) {
    super();
    const push = (bytes: Uint8Array | null) => this.destroyed || this.push(bytes);
    this.#connection = open({
      connected: () => void this.emit('connect'),
      data: bytes => push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)),
      drain: () => this.#drained(),
      ended: () => void push(null),
      closed: reason => this.#closed(reason),
    });
  }

  /** Connects to a port of the guest. @throws VmError as {@link VirtioVsock.connect}. */
  static connect(device: VsockDevice, port: number): VsockStream {
    return new VsockStream(handlers => device.connect(port, handlers));
  }

  /** The host's port. */
  get localPort(): number {
    return this.#connection.localPort;
  }

  /** The guest's port. */
  get remotePort(): number {
    return this.#connection.peerPort;
  }

  override _read(): void {
    this.#connection.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error) => void): void {
    // drain() may come before write() returns.
    this.#written = callback;
    if (this.#connection.write(chunk)) this.#drained();
  }

  override _final(callback: (error?: Error) => void): void {
    this.#connection.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    // After both ends the connection still sends what it has and says goodbye by itself.
    if (error || !this.writableFinished || !this.readableEnded) this.#connection.destroy();
    callback(error);
  }

  /** All that was written has gone, or will never. */
  #drained(): void {
    if (this.#connection.writable) this.#wrote();
    else this.#wrote(new VsockError('EPIPE', 'the guest has closed the connection', this.remotePort));
  }

  #wrote(error?: Error): void {
    const callback = this.#written;
    this.#written = undefined;
    callback?.(error);
  }

  #closed(reason: VsockCloseReason): void {
    if (this.destroyed) return;
    const failure = FAILURES[reason];
    if (failure) this.destroy(new VsockError(...failure, this.remotePort));
    // The guest has closed its socket: what waits cannot go, the rest is an orderly end.
    else if (this.#written)
      this.#wrote(new VsockError('EPIPE', 'the guest has closed the connection', this.remotePort));
    else this.end();
  }
}

/**
 * Connects to a port of the guest and resolves when it has accepted; rejects with {@link VsockError}, VmError or the
 * signal's reason.
 */
export async function connectVsock(
  device: VsockDevice,
  port: number,
  options: { readonly signal?: AbortSignal } = {},
): Promise<VsockStream> {
  const { signal } = options;
  signal?.throwIfAborted();
  const stream = VsockStream.connect(device, port);
  const abort = () => stream.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await once(stream, 'connect');
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  return stream;
}

/** The guest's connections to one port of the host, as an async iterator: `for await (const stream of listener)`. */
export class VsockListener implements AsyncIterableIterator<VsockStream>, Disposable {
  readonly #registration: Disposable;
  readonly #backlog: VsockStream[] = [];
  readonly #waiting: ((result: IteratorResult<VsockStream, undefined>) => void)[] = [];
  #closed = false;

  /**
   * @param options.backlog connections that may wait for next(); 128 by default, more are refused.
   * @throws VmError as {@link VirtioVsock.listen}.
   */
  constructor(device: VsockDevice, port: number, options: { readonly backlog?: number } = {}) {
    const limit = options.backlog ?? 128;
    this.#registration = device.listen(port, connection => {
      if (this.#waiting.length === 0 && this.#backlog.length >= limit) return undefined;
      const { stream, handlers } = wrap(connection);
      const next = this.#waiting.shift();
      if (next) next({ value: stream, done: false });
      else {
        this.#backlog.push(stream);
        // One that the guest gives up before anybody took it does not count.
        stream.once('error', () => {});
        stream.once('close', () => this.#forget(stream));
      }
      return handlers;
    });
  }

  next(): Promise<IteratorResult<VsockStream, undefined>> {
    const stream = this.#backlog.shift();
    if (stream) return Promise.resolve({ value: stream, done: false });
    if (this.#closed) return Promise.resolve({ value: undefined, done: true });
    return new Promise(resolve => void this.#waiting.push(resolve));
  }

  /** Stops listening; connections that nobody took are broken off. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#registration[Symbol.dispose]();
    for (const stream of this.#backlog.splice(0)) stream.destroy();
    for (const resolve of this.#waiting.splice(0)) resolve({ value: undefined, done: true });
  }

  return(): Promise<IteratorResult<VsockStream, undefined>> {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #forget(stream: VsockStream): void {
    const index = this.#backlog.indexOf(stream);
    if (index >= 0) this.#backlog.splice(index, 1);
  }
}

/** A connection that the guest asks for as a stream, and the handlers that accept it. */
export function wrap(connection: VsockConnection): { stream: VsockStream; handlers: VsockHandlers } {
  let handlers!: VsockHandlers;
  const stream = new VsockStream(h => {
    handlers = h;
    return connection;
  });
  return { stream, handlers };
}
