import type {
  DatagramHandler,
  DatagramSocketLike,
  Endpoint,
  HostSockets,
  StreamHandler,
  StreamSocket,
} from '../../../src/backends/net/user/host-sockets.ts';
import type { Scheduler } from '../../../src/backends/net/user/timers.ts';
import type { Completion, Disk } from '../../../src/devices/virtio/blk/disk.ts';
import {
  type FrameInfo,
  type FrameReceiver,
  type NetBackend,
  PLAIN_FRAME,
  type ReceiveOffloads,
} from '../../../src/devices/virtio/net/backend.ts';
import type { VirtualClock } from '../../../src/time/types.ts';
import type { Random } from './random.ts';

// The host's side of the devices: it answers late, in any order, and fails now and then.

/** An error that a host end makes on purpose. */
export class InjectedError extends Error {}

/** Bytes in memory as a disk that completes at once, or when {@link step} says so. */
export class FuzzDisk implements Disk {
  readonly granularity = 512;
  readonly bytes: Uint8Array;
  readonly #pending: (() => void)[] = [];

  constructor(
    readonly random: Random,
    readonly mode: 'sync' | 'async' | 'both',
    readonly size: number = 256 << 10,
    readonly readOnly = false,
    readonly faults = true,
  ) {
    this.bytes = random.bytes(size);
  }

  get inFlight(): number {
    return this.#pending.length;
  }

  /** Completes some requests. */
  step(all = false): void {
    for (let n = all ? this.#pending.length : this.random.below(8); n > 0 && this.#pending.length > 0; n--) {
      const [done] = this.#pending.splice(this.random.below(this.#pending.length), 1);
      done!();
    }
  }

  read(offset: number, into: readonly Uint8Array[]): Completion {
    return this.#do(offset, into, () => {
      let at = offset;
      for (const part of into) {
        part.set(this.bytes.subarray(at, at + part.length));
        at += part.length;
      }
    });
  }

  write(offset: number, from: readonly Uint8Array[]): Completion {
    if (this.readOnly) throw new Error('a write to a disk that is read-only');
    return this.#do(offset, from, () => {
      let at = offset;
      for (const part of from) {
        this.bytes.set(part, at);
        at += part.length;
      }
    });
  }

  flush(): Completion {
    return this.#do(0, [], () => undefined);
  }

  discard(offset: number, length: number): Completion {
    return this.writeZeroes(offset, length);
  }

  writeZeroes(offset: number, length: number): Completion {
    this.#check(offset, length);
    return this.#do(0, [], () => this.bytes.fill(0, offset, offset + length));
  }

  async close(): Promise<void> {
    this.step(true);
  }

  #check(offset: number, length: number): void {
    if (offset % 512 !== 0 || length % 512 !== 0 || offset < 0 || offset + length > this.size)
      throw new Error(`a request for ${length} bytes at ${offset} of ${this.size}`);
  }

  #do(offset: number, parts: readonly Uint8Array[], work: () => void): Completion {
    this.#check(
      offset,
      parts.reduce((sum, p) => sum + p.length, 0),
    );
    const fails = this.faults && this.random.oneIn(64);
    if (this.mode === 'sync' || (this.mode === 'both' && this.random.oneIn(2))) {
      if (fails) throw new InjectedError('a disk that fails at once');
      work();
      return undefined;
    }
    return new Promise((resolve, reject) => {
      this.#pending.push(() => {
        if (fails) {
          reject(new InjectedError('a disk that fails later'));
          return;
        }
        work();
        resolve();
      });
    });
  }
}

/** A cable from a network device to itself. */
export class Loopback implements NetBackend {
  readonly offloads = { checksum: true, tso: true, largeReceive: true };
  readonly mtu = 1500;
  readonly active = false;
  #receive: FrameReceiver | undefined;
  #accepts: ReceiveOffloads = { checksum: false, tso4: false };
  #kept: Uint8Array[] = [];

  send(frame: readonly Uint8Array[], info: FrameInfo): void {
    if (this.#receive === undefined) return;
    const fits = !info.needsChecksum || this.#accepts.checksum;
    if (this.#receive(frame, fits ? info : PLAIN_FRAME) || this.#kept.length >= 16) return;
    this.#kept.push(new Uint8Array(Buffer.concat(frame)));
  }

  start(receive: FrameReceiver, accepts: ReceiveOffloads): void {
    this.#receive = receive;
    this.#accepts = accepts;
    this.roomAvailable();
  }

  stop(): void {
    this.#receive = undefined;
  }

  roomAvailable(): void {
    while (this.#kept.length > 0 && this.#receive?.(this.#kept[0]!, PLAIN_FRAME)) this.#kept.shift();
  }

  async close(): Promise<void> {
    this.stop();
  }
}

/** The machine's clock for the user-mode network. */
export class ClockScheduler implements Scheduler {
  #soon: (() => void)[] = [];

  constructor(readonly clock: VirtualClock) {}

  now(): number {
    return this.clock.nowNs() / 1e6;
  }

  setTimeout(f: () => void, ms: number): () => void {
    const timer = this.clock.at(this.clock.nowNs() + ms * 1e6, f);
    return () => timer[Symbol.dispose]();
  }

  soon(f: () => void): void {
    this.#soon.push(f);
  }

  settle(): void {
    const due = this.#soon;
    this.#soon = [];
    for (const f of due) f();
  }
}

/** A TCP connection of the host that swallows what it gets. */
class FuzzStream implements StreamSocket {
  buffered = 0;
  over = false;
  ended = false;
  #paused = true;

  constructor(
    readonly random: Random,
    readonly handler: StreamHandler,
    /** Whether the connection is made. */
    public open: boolean,
  ) {}

  write(bytes: Uint8Array): boolean {
    if (this.random.oneIn(4)) this.buffered += bytes.length;
    return this.buffered === 0;
  }

  end(): void {}

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  reset(): void {
    this.over = true;
  }

  /** Does one of the things that a socket may do now. */
  step(): void {
    const { handler, random } = this;
    const event = random.below(6);
    if (event === 0) {
      this.over = true;
      handler.closed(random.oneIn(2) && this.open ? undefined : 'ECONNRESET');
    } else if (!this.open) {
      this.open = true;
      handler.connected();
    } else if (event === 1 && this.buffered > 0) {
      this.buffered = 0;
      handler.drained();
    } else if (!this.#paused && !this.ended) {
      if (event === 2) {
        this.ended = true;
        handler.end();
      } else handler.data(random.bytes(random.between(1, 4000)));
    }
  }
}

/** Sockets of the host that answer with noise. */
export class FuzzSockets implements HostSockets {
  readonly #streams: FuzzStream[] = [];
  readonly #datagrams: { handler: DatagramHandler; to: Endpoint }[] = [];
  #accept: ((socket: StreamSocket, from: Endpoint) => StreamHandler | undefined) | undefined;

  constructor(readonly random: Random) {}

  /** Something happens at some of them. */
  step(): void {
    const { random } = this;
    for (let n = random.below(4); n > 0; n--) {
      if (random.oneIn(8)) this.#arrive();
      const i = random.below(this.#streams.length);
      const stream = this.#streams[i];
      if (stream !== undefined && !stream.over) stream.step();
      if (stream?.over) this.#streams.splice(this.#streams.indexOf(stream), 1);
      if (this.#datagrams.length === 0) continue;
      const d = random.pick(this.#datagrams);
      if (random.oneIn(8)) d.handler.error('ECONNREFUSED');
      else d.handler.message(random.bytes(random.below(2000)), d.to);
    }
  }

  connectStream(_to: Endpoint, handler: StreamHandler): StreamSocket {
    const stream = new FuzzStream(this.random, handler, false);
    this.#streams.push(stream);
    return stream;
  }

  async listenStream(
    at: Endpoint,
    accept: (socket: StreamSocket, from: Endpoint) => StreamHandler | undefined,
  ): Promise<{ port: number; close(): Promise<void> }> {
    this.#accept = accept;
    return { port: at.port, close: async () => undefined };
  }

  connectDatagram(to: Endpoint, handler: DatagramHandler): DatagramSocketLike {
    const entry = { handler, to };
    this.#datagrams.push(entry);
    return { send: () => undefined, close: () => void this.#datagrams.splice(this.#datagrams.indexOf(entry), 1) };
  }

  async bindDatagram(at: Endpoint, handler: DatagramHandler) {
    const entry = { handler, to: { address: '127.0.0.1', port: 5 } };
    this.#datagrams.push(entry);
    return { port: at.port, send: () => undefined, close: async () => undefined };
  }

  resolvers(): readonly Endpoint[] {
    return [{ address: '192.0.2.53', port: 53 }];
  }

  #arrive(): void {
    let handler: StreamHandler | undefined;
    // Nothing is called before accept() has returned.
    const stream = new FuzzStream(
      this.random,
      {
        connected: () => handler?.connected(),
        data: b => handler?.data(b),
        end: () => handler?.end(),
        drained: () => handler?.drained(),
        closed: e => handler?.closed(e),
      },
      true,
    );
    handler = this.#accept?.(stream, { address: '127.0.0.1', port: this.random.between(1, 65535) });
    if (handler !== undefined) this.#streams.push(stream);
  }
}
