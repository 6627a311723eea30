/**
 * Byte streams between a device in the machine Worker and the user's thread: a MessagePort for each, with credit both ways, so
 * that neither side keeps more than {@link STREAM_WINDOW} bytes of a stream whose other end is slow, blocked or gone.
 */
import type { Duplex } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';

/** Bytes that one side may have sent and the other has not taken yet. */
export const STREAM_WINDOW = 256 * 1024;
/** What a message counts beside its bytes, so that single bytes cannot fill the receiver's memory by their number. */
const MESSAGE_COST = 256;
/** Taken bytes are told in portions: a message for each would cost as much as the data. */
const CREDIT_STEP = STREAM_WINDOW / 4;
/** The longest message, bytes. */
const LONGEST = 64 * 1024;

/** How a stream failed, in the codes of Node's own sockets. */
export interface StreamFailure {
  readonly code: string;
  readonly message: string;
}

/** What is said over a stream's port; the same both ways unless noted. */
export type StreamMessage =
  | { readonly type: 'data'; readonly bytes: Uint8Array }
  /** So much of what came has been taken: bytes, and the cost of their messages. */
  | { readonly type: 'taken'; readonly cost: number }
  /** No more data from this side. */
  | { readonly type: 'end' }
  /** Worker to user: the guest has accepted the connection. */
  | { readonly type: 'connected'; readonly localPort: number }
  /** Worker to user: whether a program of the guest has the port of a console open. */
  | { readonly type: 'open'; readonly open: boolean }
  /** Worker to user, the last one: the guest's end is gone. The user says the same by closing the port. */
  | { readonly type: 'closed'; readonly failure: StreamFailure | undefined };

/** Worker to user, over the port of a listener: a connection of the guest. The user asks for each with null. */
export interface IncomingStream {
  readonly stream: MessagePort;
  readonly localPort: number;
  readonly remotePort: number;
}

/** What the owner of a {@link StreamLink} gets to know. */
export interface StreamLinkHandlers {
  /** Everything but credit. Bytes of data have to be given back with {@link StreamLink.taken}. */
  received(m: Exclude<StreamMessage, { type: 'taken' }>): void;
  /** There is room again after {@link StreamLink.hasRoom} was false. */
  room(): void;
}

/** One end of a stream's port: counts what was sent and what was taken. */
export class StreamLink {
  readonly #port: MessagePort;
  readonly #handlers: StreamLinkHandlers;
  readonly #wake: () => void;
  #room = STREAM_WINDOW;
  /** Taken and not told yet. */
  #taken = 0;

  /** @param wake is called after each message, where the other side may be asleep. */
  constructor(port: MessagePort, handlers: StreamLinkHandlers, wake: () => void = () => {}) {
    this.#port = port;
    this.#handlers = handlers;
    this.#wake = wake;
    port.on('message', (m: StreamMessage) => this.receive(m));
    // The VM's Worker keeps the process alive, or nothing does.
    port.unref();
  }

  /** Whether the other side wants more. */
  get hasRoom(): boolean {
    return this.#room > 0;
  }

  /** Sends a copy of the first bytes of `bytes`, as many as one message takes; returns how many. */
  send(bytes: Uint8Array): number {
    // A copy, since the clone of a view would have all of its buffer, and a view's buffer may be anybody's.
    const piece = new Uint8Array(bytes.subarray(0, LONGEST));
    this.#room -= costOf(piece);
    const length = piece.length;
    this.#post({ type: 'data', bytes: piece }, [piece.buffer]);
    return length;
  }

  tell(m: Exclude<StreamMessage, { type: 'data' | 'taken' }>): void {
    this.#post(m);
  }

  /** The bytes of a 'data' message have found their reader. */
  taken(bytes: Uint8Array): void {
    this.#taken += costOf(bytes);
    if (this.#taken < CREDIT_STEP) return;
    this.#post({ type: 'taken', cost: this.#taken });
    this.#taken = 0;
  }

  /** Called with each message; also with those that are fetched from a port without waiting. */
  receive(m: StreamMessage): void {
    if (m.type !== 'taken') {
      this.#handlers.received(m);
      return;
    }
    const had = this.hasRoom;
    this.#room += m.cost;
    if (!had && this.hasRoom) this.#handlers.room();
  }

  #post(m: StreamMessage, transfer: readonly ArrayBuffer[] = []): void {
    this.#port.postMessage(m, transfer);
    this.#wake();
  }
}

function costOf(bytes: Uint8Array): number {
  return bytes.length + MESSAGE_COST;
}

/**
 * Connects a stream of a device, in the Worker, to the port of a stream on the user's thread. Data, ends and failures go across;
 * a port that is closed destroys the stream.
 */
export function bridgeToPort(stream: Duplex, port: MessagePort): StreamLink {
  let failure: StreamFailure | undefined;
  const link = new StreamLink(port, {
    room: () => void stream.resume(),
    received: m => {
      if (m.type === 'end') stream.end();
      if (m.type !== 'data') return;
      // What is under way when the guest closes its end is lost, as with any socket.
      if (stream.writable) stream.write(m.bytes, () => link.taken(m.bytes));
    },
  });
  stream.on('data', (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; ) at += link.send(bytes.subarray(at));
    if (!link.hasRoom) stream.pause();
  });
  stream.on('end', () => link.tell({ type: 'end' }));
  stream.on('error', (e: NodeJS.ErrnoException) => {
    failure = { code: e.code ?? 'EIO', message: e.message };
  });
  stream.on('close', () => link.tell({ type: 'closed', failure }));
  port.on('close', () => stream.destroy());
  return link;
}
