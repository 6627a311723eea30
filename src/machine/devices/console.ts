import { Duplex } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';
import { VirtioConsole } from '../../devices/virtio/console/device.ts';
import type { ConsolePort } from '../../devices/virtio/console/port.ts';
import { bridgeToPort, type StreamLink } from '../stream-port.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** Name of the first port, as Linux calls the terminal that it makes of it. */
export const CONSOLE_CHANNEL = 'hvc0';

/** A port of a virtio-console as a stream. What nobody reads stays in the guest. */
class ChannelStream extends Duplex {
  readonly #port: ConsolePort;
  #full = false;
  /** What the guest has no buffers for, or does not want while it has the port closed. */
  #rest: Uint8Array | undefined;
  #written: (() => void) | undefined;

  constructor(port: ConsolePort) {
    super();
    this.#port = port;
  }

  /** Takes bytes of the guest as ConsolePortOptions.output(). */
  output(bytes: Uint8Array): number {
    if (this.#full) return 0;
    this.#full = !this.push(bytes);
    return bytes.length;
  }

  /** The guest takes bytes again. */
  room(): void {
    const rest = this.#rest;
    if (rest === undefined || this.destroyed) return;
    const taken = this.#port.input(rest);
    if (taken < rest.length) {
      this.#rest = rest.subarray(taken);
      return;
    }
    const written = this.#written;
    this.#rest = this.#written = undefined;
    written?.();
  }

  override _read(): void {
    this.#full = false;
    this.#port.outputRoom();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.#rest = chunk;
    this.#written = callback;
    this.room();
  }
}

/** The host's end of one port. */
class Channel {
  readonly name: string;
  /** Set once the device is made. */
  port: ConsolePort | undefined;
  #stream: ChannelStream | undefined;
  #link: StreamLink | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /**
   * Without a stream, data stays in the guest, whose writers wait. Not so on the console: Linux writes to it with a spinlock held
   * (put_chars() of virtio_console.c) and would wait with a CPU that does nothing else.
   */
  output(bytes: Uint8Array): number {
    if (this.#stream !== undefined) return this.#stream.output(bytes);
    return this.name === CONSOLE_CHANNEL ? bytes.length : 0;
  }

  onRoom(): void {
    this.#stream?.room();
  }

  onOpen(open: boolean): void {
    this.#link?.tell({ type: 'open', open });
  }

  /** Connects a port of the user's thread, instead of the one before. */
  attach(to: MessagePort): void {
    this.close();
    const port = this.port!;
    const stream = new ChannelStream(port);
    const link = bridgeToPort(stream, to);
    this.#stream = stream;
    this.#link = link;
    stream.once('close', () => {
      if (this.#stream !== stream) return;
      this.#stream = this.#link = undefined;
      // The console's output goes on without a reader.
      port.outputRoom();
    });
    if (port.open) link.tell({ type: 'open', open: true });
  }

  close(): void {
    this.#stream?.destroy();
  }
}

/** The ports of a virtio-console, for the user's thread. */
export class ConsoleChannels {
  readonly #channels: ReadonlyMap<string, Channel>;

  constructor(channels: readonly Channel[]) {
    this.#channels = new Map(channels.map(c => [c.name, c]));
  }

  get names(): string[] {
    return [...this.#channels.keys()];
  }

  /** Connects `stream`, one end of a channel of messages, to a port; false when there is none of that name. */
  attach(name: string, stream: MessagePort): boolean {
    const channel = this.#channels.get(name);
    channel?.attach(stream);
    return channel !== undefined;
  }

  close(): void {
    for (const c of this.#channels.values()) c.close();
  }
}

/** A virtio-console: a terminal, which the guest need not use, and named ports for programs. */
export const build: Builder<'console'> = async ({ name, channels }, env) => {
  const [terminal, ...named] = [CONSOLE_CHANNEL, ...channels].map(n => new Channel(n));
  const ends = (c: Channel) => ({
    output: (bytes: Uint8Array) => c.output(bytes),
    onRoom: () => c.onRoom(),
    onOpen: (open: boolean) => c.onOpen(open),
  });
  const device = new VirtioConsole({
    console: ends(terminal!),
    ports: named.map(c => ({ name: c.name, ...ends(c) })),
  });
  for (const [i, c] of [terminal!, ...named].entries()) c.port = device.ports[i];
  const all = new ConsoleChannels([terminal!, ...named]);
  return { name, function: virtioFunction(device, name, env), channels: all, close: async () => all.close() };
};
