import type { Chain, VirtioDevice, VirtioHost, VirtQueue } from '../../src/devices/virtio/device.ts';

/** A request as the device returned it. */
export interface Pushed {
  readonly chain: Chain;
  readonly written: number;
}

/** A virtqueue without a ring: tests offer requests as arrays and see what the device returns. */
export class FakeQueue implements VirtQueue {
  readonly #available: Chain[] = [];
  /** Returned requests in the order of their return. */
  readonly pushed: Pushed[] = [];
  /** Requests whose memory the device has let go of before it returned them. */
  readonly unpinned: Chain[] = [];
  /** How often the device interrupted the driver. */
  interrupts = 0;
  driverNotifications = true;

  constructor(
    readonly index: number,
    public size = 128,
  ) {}

  /** Makes a request available: bytes that the device reads, and lengths of buffers that it writes. */
  offer(readable: readonly Uint8Array[], writable: readonly number[] = []): Chain {
    const chain = fakeChain(readable, writable);
    this.#available.push(chain);
    return chain;
  }

  pop(): Chain | undefined {
    return this.#available.shift();
  }

  unpin(chain: Chain): void {
    this.unpinned.push(chain);
  }

  unpop(chain: Chain): void {
    this.#available.unshift(chain);
  }

  push(chain: Chain, written: number): void {
    if (written > chain.writableLength) throw new Error(`${written} bytes written of ${chain.writableLength}`);
    this.pushed.push({ chain, written });
  }

  notifyDriver(): void {
    this.interrupts++;
  }

  setDriverNotifications(wanted: boolean): void {
    this.driverNotifications = wanted;
  }

  /** Requests that the device has not taken. */
  get waiting(): number {
    return this.#available.length;
  }
}

/** A chain over shared memory, as guest RAM is. */
export function fakeChain(readable: readonly Uint8Array[], writable: readonly number[]): Chain {
  const shared = (n: number) => new Uint8Array(new SharedArrayBuffer(n));
  const read = readable.map(r => {
    const copy = shared(r.length);
    copy.set(r);
    return copy;
  });
  const write = writable.map(shared);
  const sum = (parts: readonly Uint8Array[]) => parts.reduce((n, p) => n + p.length, 0);
  return { readable: read, writable: write, readableLength: sum(read), writableLength: sum(write) };
}

/** All bytes of some parts, as one plain array. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap(p => [...p]));
}

/** A transport that has seen DRIVER_OK. */
export interface FakeHost extends VirtioHost {
  readonly queues: readonly FakeQueue[];
  configChanges: number;
  readonly failures: string[];
}

/** Activates `device` with all the features that it offers, or with `features`. */
export function fakeHost(device: VirtioDevice, features: bigint = device.features | (1n << 32n)): FakeHost {
  const host: FakeHost = {
    queues: device.queueSizes.map((size, i) => new FakeQueue(i, size)),
    features,
    has: f => ((features >> BigInt(f)) & 1n) === 1n,
    configChanges: 0,
    configChanged: () => {
      host.configChanges++;
    },
    failures: [],
    fail: why => {
      host.failures.push(why);
    },
  };
  device.activate(host);
  return host;
}
