import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { VsockListener, VsockStream } from '../../backends/vsock/streams.ts';
import { VirtioVsock } from '../../devices/virtio/vsock/device.ts';
import { bridgeToPort, type IncomingStream } from '../stream-port.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** The host's side of a socket device, for the user's thread. */
export class VsockPorts {
  readonly #device: VirtioVsock;
  readonly #listeners = new Set<VsockListener>();

  constructor(device: VirtioVsock) {
    this.#device = device;
  }

  /**
   * Connects `stream`, one end of a channel of messages, to a port of the guest.
   * @throws VmError as {@link VirtioVsock.connect}; what the guest says to it comes over the stream.
   */
  connect(port: number, stream: MessagePort): void {
    const connection = VsockStream.connect(this.#device, port);
    const link = bridgeToPort(connection, stream);
    connection.once('connect', () => link.tell({ type: 'connected', localPort: connection.localPort }));
  }

  /**
   * Listens on a port of the host until `control` is closed. The guest's connections are accepted here, whatever the user's thread
   * is doing, and wait in the listener's backlog until `control` asks for one; see {@link IncomingStream}.
   * @throws VmError as {@link VirtioVsock.listen}.
   */
  listen(port: number, control: MessagePort): void {
    const listener = new VsockListener(this.#device, port);
    this.#listeners.add(listener);
    control.on('message', () => void this.#sendNext(listener, control));
    control.on('close', () => {
      this.#listeners.delete(listener);
      listener.close();
    });
    control.unref();
  }

  /** Ends all listeners; connections end with the device. */
  close(): void {
    for (const listener of this.#listeners) listener.close();
  }

  async #sendNext(listener: VsockListener, control: MessagePort): Promise<void> {
    const { value } = await listener.next();
    if (value === undefined) {
      control.close();
      return;
    }
    const { port1, port2 } = new MessageChannel();
    bridgeToPort(value, port1);
    const m: IncomingStream = { stream: port2, localPort: value.localPort, remotePort: value.remotePort };
    control.postMessage(m, [port2]);
  }
}

/** A socket device. The machine reaches its host side through {@link BuiltDevice.vsock}. */
export const build: Builder<'vsock'> = async ({ name, cid }, env) => {
  const device = new VirtioVsock({ guestCid: cid, clock: env.clock });
  const vsock = new VsockPorts(device);
  return { name, function: virtioFunction(device, name, env), vsock, close: async () => vsock.close() };
};
