import { Duplex } from 'node:stream';
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Ask } from '../machine/protocol.ts';
import { type StreamFailure, StreamLink, type StreamMessage } from '../machine/stream-port.ts';

/** What streams into the guest need of their Vm. */
export interface StreamHost {
  readonly ask: Ask;
  /** Ends a short sleep of the Worker: a message is waiting for it. */
  wake(): void;
  /** Everything that has to end with the VM. */
  readonly live: Set<{ finish(): void }>;
}

/** An error of a stream into the guest; `code` is as those of Node's sockets: ECONNREFUSED, ECONNRESET, ETIMEDOUT, EPIPE. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly code: string;

  constructor({ code, message }: StreamFailure) {
    super(message);
    this.code = code;
  }
}

/** What ends of the other side mean to a stream; undefined: an ordinary end. */
export interface StreamEnds {
  /** The VM has ended. */
  readonly lost: StreamFailure | undefined;
  /** The guest's end is gone while a write waits for room. */
  readonly cut: StreamFailure | undefined;
}

/**
 * The user's end of a stream into the guest, over a MessagePort whose other end is bridgeToPort() in the Worker. At most
 * STREAM_WINDOW bytes are under way in each direction, those that wait here to be read among them.
 */
export class PortStream extends Duplex {
  readonly #port: MessagePort;
  readonly #link: StreamLink;
  readonly #host: StreamHost;
  readonly #ends: StreamEnds;
  /** What was pushed and has not found its reader. */
  readonly #unread: Uint8Array[] = [];
  /** What is left of a write that waits for room, and its callback. */
  #unsent: Uint8Array | undefined;
  #written: ((error?: Error) => void) | undefined;
  /** The guest sends no more. */
  #ended = false;
  /** The port is closed, or about to be. */
  #over = false;

  /** @internal */
  constructor(host: StreamHost, port: MessagePort, ends: StreamEnds) {
    super();
    this.#host = host;
    this.#port = port;
    this.#ends = ends;
    this.#link = new StreamLink(port, { room: () => this.#send(), received: m => this.received(m) }, () => host.wake());
    // The Worker closes no port before it has said 'closed', unless it ends.
    port.on('close', () => this.finish());
    host.live.add(this);
  }

  /** Called with all that the Worker sends. @internal */
  protected received(m: Exclude<StreamMessage, { type: 'taken' }>): void {
    if (this.#over) return;
    if (m.type === 'data') this.#data(m.bytes);
    else if (m.type === 'end') this.#end();
    else if (m.type === 'closed') this.#close(m.failure);
  }

  /** The VM has ended: what it has sent still arrives. @internal */
  finish(): void {
    for (let m = this.#fetch(); m !== undefined; m = this.#fetch()) this.#link.receive(m);
    this.#close(this.#ends.lost);
  }

  override _read(): void {
    this.#taken();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#unsent = chunk;
    this.#written = callback;
    this.#send();
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (!this.#over) this.#link.tell({ type: 'end' });
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    // After both ends the Worker still sends on what it has, and then says that the stream is closed.
    if (error || !this.writableFinished || !this.readableEnded) this.#leave();
    this.#wrote(error ?? new StreamError({ code: 'ECANCELED', message: 'the stream was destroyed' }));
    callback(error);
  }

  #data(bytes: Uint8Array): void {
    if (this.destroyed) return;
    this.#unread.push(bytes);
    if (this.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))) this.#taken();
  }

  #taken(): void {
    for (const bytes of this.#unread.splice(0)) this.#link.taken(bytes);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (!this.destroyed) this.push(null);
  }

  #close(failure: StreamFailure | undefined): void {
    if (this.#over) return;
    this.#leave();
    if (this.destroyed) return;
    const { cut } = this.#ends;
    if (failure !== undefined) this.destroy(new StreamError(failure));
    else {
      this.#end();
      this.#wrote(cut && new StreamError(cut));
      if (!this.destroyed) this.end();
    }
  }

  #leave(): void {
    this.#over = true;
    this.#host.live.delete(this);
    this.#port.close();
    this.#host.wake();
  }

  #send(): void {
    while (this.#unsent !== undefined && this.#link.hasRoom) {
      const sent = this.#link.send(this.#unsent);
      this.#unsent = sent < this.#unsent.length ? this.#unsent.subarray(sent) : undefined;
    }
    if (this.#unsent === undefined) this.#wrote();
  }

  #wrote(error?: Error): void {
    const callback = this.#written;
    this.#written = this.#unsent = undefined;
    callback?.(error);
  }

  #fetch(): StreamMessage | undefined {
    return this.#over ? undefined : (receiveMessageOnPort(this.#port)?.message as StreamMessage | undefined);
  }
}
