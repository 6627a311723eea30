import { once } from 'node:events';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { IncomingStream, StreamMessage } from '../machine/stream-port.ts';
import { PortStream, type StreamHost } from './port-stream.ts';

/**
 * A connection between the host and a port of the guest, as a Node stream with back pressure both ways: end() ends one direction
 * only, destroy() breaks the connection off. Errors have the codes of Node's sockets: ECONNRESET when the guest breaks it off
 * or the VM ends, EPIPE when the guest closes its socket while a write waits, EPROTO when its driver breaks the rules.
 */
export class VmVsockStream extends PortStream {
  /** The guest's port. */
  readonly remotePort: number;
  #localPort: number;

  /** @internal */
  constructor(host: StreamHost, port: MessagePort, remotePort: number, localPort = 0) {
    const about = `vsock port ${remotePort} of the guest`;
    super(host, port, {
      lost: { code: 'ECONNRESET', message: `${about}: the VM has ended` },
      cut: { code: 'EPIPE', message: `${about}: the guest has closed the connection` },
    });
    this.remotePort = remotePort;
    this.#localPort = localPort;
  }

  /** The host's port. */
  get localPort(): number {
    return this.#localPort;
  }

  /** @internal */
  protected override received(m: Exclude<StreamMessage, { type: 'taken' }>): void {
    super.received(m);
    if (m.type !== 'connected') return;
    this.#localPort = m.localPort;
    this.emit('connect');
  }
}

/**
 * The guest's connections to one port of the host: `for await (const stream of vm.vsock.listen(1024))`. Up to 128 connections
 * that nobody has taken wait, accepted; more are refused. Leaving the loop stops listening, and so do close() and `using`;
 * connections that were taken stay. Ends with the VM.
 */
export class VmVsockListener implements AsyncIterableIterator<VmVsockStream>, Disposable {
  readonly #host: StreamHost;
  readonly #control: MessagePort;
  readonly #waiting: {
    resolve(result: IteratorResult<VmVsockStream, undefined>): void;
    reject(e: unknown): void;
  }[] = [];
  #closed = false;
  /** Why the machine does not listen; for the first next() that asks. */
  #failure: { readonly error: unknown } | undefined;

  /** @internal */
  constructor(host: StreamHost, port: number) {
    this.#host = host;
    const { port1, port2 } = new MessageChannel();
    this.#control = port1;
    port1.on('message', (m: IncomingStream) => {
      const stream = new VmVsockStream(host, m.stream, m.remotePort, m.localPort);
      this.#waiting.shift()!.resolve({ value: stream, done: false });
    });
    port1.on('close', () => this.close());
    port1.unref();
    host.live.add(this);
    host.ask({ what: 'vsockListen', port, control: port2 }, [port2]).catch(error => {
      this.#failure = { error };
      const [first] = this.#waiting;
      if (first !== undefined) this.#fail(this.#waiting.shift()!);
      this.close();
    });
  }

  /**
   * The next connection. Rejects with VmError ERR_STATE when the VM has no socket device, ERR_NETWORK when somebody listens on the
   * port already, ERR_USAGE when it is no port.
   */
  next(): Promise<IteratorResult<VmVsockStream, undefined>> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) this.#fail({ reject });
      else if (this.#closed) resolve({ value: undefined, done: true });
      else {
        this.#waiting.push({ resolve, reject });
        this.#control.postMessage(null);
        this.#host.wake();
      }
    });
  }

  /** Stops listening; connections that nobody took are broken off. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.live.delete(this);
    this.#control.close();
    this.#host.wake();
    for (const { resolve } of this.#waiting.splice(0)) resolve({ value: undefined, done: true });
  }

  return(): Promise<IteratorResult<VmVsockStream, undefined>> {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  finish(): void {
    this.close();
  }

  #fail({ reject }: { reject(e: unknown): void }): void {
    reject(this.#failure!.error);
    this.#failure = undefined;
  }
}

/** Sockets between the host and the guest, by the device of the option `vsock`. The host is context id 2 to the guest. */
export class VmVsock {
  readonly #host: StreamHost;

  /** @internal */
  constructor(host: StreamHost) {
    this.#host = host;
  }

  /**
   * Connects to a port of the guest; resolves when a program there has accepted. The signal counts until then.
   * @throws StreamError ECONNREFUSED when nobody listens, ETIMEDOUT when the guest does not answer for 10 s of its time, ECONNRESET
   *   when the VM ends; VmError ERR_STATE without a socket device, or before the guest's driver has started; ERR_USAGE for what
   *   is no port; ERR_NETWORK beyond 1024 connections; the signal's reason.
   */
  async connect(port: number, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<VmVsockStream> {
    const { signal } = options;
    signal?.throwIfAborted();
    const { port1, port2 } = new MessageChannel();
    const stream = new VmVsockStream(this.#host, port1, port);
    const abort = () => stream.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const asked = this.#host.ask({ what: 'vsockConnect', port, stream: port2 }, [port2]);
      await Promise.all([asked, once(stream, 'connect')]);
      return stream;
    } catch (e) {
      stream.on('error', () => {});
      stream.destroy();
      throw e;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * Takes the guest's connections to a port of the host, from what the guest does next on.
   * @throws VmError ERR_STATE when the VM has ended. What else can be wrong rejects {@link VmVsockListener.next}.
   */
  listen(port: number): VmVsockListener {
    return new VmVsockListener(this.#host, port);
  }
}
