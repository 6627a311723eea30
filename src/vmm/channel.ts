import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { StreamMessage } from '../machine/stream-port.ts';
import { PortStream, type StreamHost } from './port-stream.ts';

/**
 * A named port of the guest's virtio-console as a Node stream, with back pressure both ways. What is written waits until a program
 * of the guest has the port open; what nobody reads waits in the guest. Emits 'open' and 'shut' when a program opens and closes
 * the port. The readable side ends with the guest; ending the writable side means nothing to it.
 */
export class VmChannel extends PortStream {
  #open = false;

  /** @internal */
  constructor(host: StreamHost, port: MessagePort) {
    super(host, port, { lost: undefined, cut: undefined });
  }

  /** Whether a program of the guest has the port open. */
  get open(): boolean {
    return this.#open;
  }

  /** @internal */
  protected override received(m: Exclude<StreamMessage, { type: 'taken' }>): void {
    super.received(m);
    if (m.type !== 'open' || m.open === this.#open) return;
    this.#open = m.open;
    this.emit(m.open ? 'open' : 'shut');
  }
}

/** The streams of a Vm's channels, one for each name at a time. */
export class VmChannels {
  readonly #host: StreamHost;
  readonly #streams = new Map<string, VmChannel>();

  constructor(host: StreamHost) {
    this.#host = host;
  }

  /** The stream of a channel; another one once that was destroyed. A name that no console has destroys it with ERR_STATE. */
  get(name: string): VmChannel {
    const there = this.#streams.get(name);
    if (there !== undefined && !there.destroyed) return there;
    const { port1, port2 } = new MessageChannel();
    const asked = this.#host.ask({ what: 'channel', name, stream: port2 }, [port2]);
    const stream = new VmChannel(this.#host, port1);
    this.#streams.set(name, stream);
    asked.catch((e: Error) => stream.destroy(e));
    return stream;
  }
}
