import type { AccessSize } from '../../../bus/types.ts';
import { VmError } from '../../../util/errors.ts';
import { type Chain, VIRTIO_F_VERSION_1, type VirtioDevice, type VirtioHost, type VirtQueue } from '../device.ts';
import { gather, readBytes, Scatter, skipBytes } from '../pieces.ts';
import type { FrameInfo, NetBackend, ReceiveOffloads } from './backend.ts';
import { control } from './control.ts';
import { formatHeader, HEADER_SIZE, isAcceptable, parseHeader, SHORT_HEADER_SIZE } from './header.ts';
import * as R from './regs.ts';

/** What a {@link VirtioNet} is connected to. */
export interface VirtioNetOptions {
  /** The guest's address until its driver sets another one: 6 bytes, no multicast address. */
  readonly mac: Uint8Array;
  readonly backend: NetBackend;
  /** What the link claims to be, in Mbit/s; 10000 unless told. Nothing is limited by it. */
  readonly speed?: number;
}

const QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 64;
/** The smallest MTU that a device may offer (section 5.1.4.1). */
const SMALLEST_MTU = 68;

const NO_OFFLOADS: ReceiveOffloads = { checksum: false, tso4: false };

/**
 * The network device of virtio 1.2 section 5.1, with one pair of queues. Frames are handed over in the pieces that they lie
 * in: from the guest without a copy, to the guest with the one into its buffers.
 */
export class VirtioNet implements VirtioDevice {
  readonly name = 'virtio-net';
  readonly type = 1;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, CONTROL_QUEUE_SIZE];
  readonly features: bigint;
  readonly configSize = R.CONFIG_SIZE;
  readonly #mac: Uint8Array;
  readonly #backend: NetBackend;
  readonly #config = new Uint8Array(R.CONFIG_SIZE);
  #host: VirtioHost | undefined;
  #linkUp = true;

  // What the driver agreed to.
  #header = new Uint8Array(HEADER_SIZE);
  #mergeable = false;
  #sends = NO_OFFLOADS;
  #receives = NO_OFFLOADS;

  /** The backend has a frame and there was no room for it. */
  #waiting = false;
  /** Inside of notify(), where one interrupt at the end stands for all frames that arrived. */
  #batch = false;
  /** Frames have arrived that the driver was not told of. */
  #received = false;

  /** @throws VmError ERR_NETWORK when `mac` is no address of one interface. */
  constructor(options: VirtioNetOptions) {
    const { mac, backend } = options;
    if (mac.length !== 6 || (mac[0]! & 1) !== 0) {
      const text = [...mac].map(b => b.toString(16).padStart(2, '0')).join(':');
      throw new VmError('ERR_NETWORK', `${text} is no address for a network interface`, {
        hint: 'An address has 6 bytes, and its first one is even, e.g. 52:54:00:12:34:56.',
      });
    }
    this.#mac = mac.slice();
    this.#backend = backend;
    this.features = featuresFor(backend);
    const config = new DataView(this.#config.buffer);
    this.#config.set(mac, R.CONFIG_MAC);
    config.setUint16(R.CONFIG_STATUS, R.VIRTIO_NET_S_LINK_UP, true);
    config.setUint16(R.CONFIG_MAX_VIRTQUEUE_PAIRS, 1, true);
    config.setUint16(R.CONFIG_MTU, backend.mtu, true);
    config.setUint32(R.CONFIG_SPEED, options.speed ?? 10_000, true);
    config.setUint8(R.CONFIG_DUPLEX, R.DUPLEX_FULL);
  }

  /** The guest's address, which its driver may have changed; 6 bytes. */
  get mac(): Uint8Array {
    return this.#config.slice(R.CONFIG_MAC, R.CONFIG_MAC + 6);
  }

  /** Plugs the cable in or out. Frames in both directions are lost while it is out. */
  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#config[R.CONFIG_STATUS] = up ? R.VIRTIO_NET_S_LINK_UP : 0;
    if (this.#host?.has(R.VIRTIO_NET_F_STATUS)) this.#host.configChanged();
  }

  readConfig(offset: number, size: AccessSize): number {
    return readBytes(this.#config, offset, size);
  }

  /** The address is set by the control queue; all other fields are read-only (section 5.1.4). */
  writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

  activate(host: VirtioHost): void {
    this.#host = host;
    this.#mergeable = host.has(R.VIRTIO_NET_F_MRG_RXBUF);
    // A legacy driver has num_buffers only where it needs it (section 5.1.6.1).
    const long = this.#mergeable || host.has(VIRTIO_F_VERSION_1);
    this.#header = new Uint8Array(long ? HEADER_SIZE : SHORT_HEADER_SIZE);
    const csum = host.has(R.VIRTIO_NET_F_CSUM);
    this.#sends = { checksum: csum, tso4: csum && host.has(R.VIRTIO_NET_F_HOST_TSO4) };
    // What was agreed upon is switched on until the driver says otherwise (section 5.1.6.5.6.1).
    const guestCsum = host.has(R.VIRTIO_NET_F_GUEST_CSUM);
    this.#receives = { checksum: guestCsum, tso4: guestCsum && host.has(R.VIRTIO_NET_F_GUEST_TSO4) };
    host.queues[R.RECEIVEQ]!.setDriverNotifications(false);
    this.#start();
  }

  reset(): void {
    if (this.#host === undefined) return;
    this.#host = undefined;
    this.#waiting = this.#received = false;
    this.#backend.stop();
    this.#config.set(this.#mac, R.CONFIG_MAC);
  }

  notify(index: number): void {
    const host = this.#host;
    const queue = host?.queues[index];
    if (host === undefined || queue === undefined) return;
    this.#batch = true;
    if (index === R.RECEIVEQ) this.#room(queue);
    else if (index === R.TRANSMITQ) this.#transmit(queue);
    else this.#control(host, queue);
    this.#batch = false;
    this.#tellReceived();
  }

  #start(): void {
    this.#backend.start((frame, info) => this.#receive(frame, info), this.#receives);
  }

  #room(queue: VirtQueue): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    queue.setDriverNotifications(false);
    this.#backend.roomAvailable();
  }

  #transmit(queue: VirtQueue): void {
    let sent = 0;
    // Not more than fit into the queue: a driver on another thread could go on adding, and notifies for what it adds.
    for (; sent < queue.size; sent++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      if (this.#linkUp) this.#send(chain);
      queue.push(chain, 0);
    }
    if (sent > 0) queue.notifyDriver();
  }

  /** Sends a frame; one whose header makes no sense is lost, as on a wire. */
  #send(chain: Chain): void {
    const header = this.#header;
    if (gather(chain.readable, header) < header.length) return;
    const info = parseHeader(header);
    const length = chain.readableLength - header.length;
    if (info === undefined || !isAcceptable(info, length, this.#sends)) return;
    this.#backend.send(skipBytes(chain.readable, header.length), info);
  }

  /** A frame from the backend; false when it has to wait for buffers. */
  #receive(frame: Uint8Array | readonly Uint8Array[], info: FrameInfo): boolean {
    const queue = this.#host?.queues[R.RECEIVEQ];
    const pieces = frame instanceof Uint8Array ? [frame] : frame;
    const length = pieces.reduce((n, p) => n + p.length, 0);
    if (queue === undefined || !this.#linkUp || !isAcceptable(info, length, this.#receives)) return true;
    const chains = this.#buffers(queue, this.#header.length + length);
    this.#waiting ||= chains === undefined;
    if (chains !== undefined && chains.length > 0) this.#fill(queue, chains, pieces, length, info);
    if (!this.#batch) this.#tellReceived();
    return chains !== undefined;
  }

  /**
   * Takes buffers for `needed` bytes: one, or with VIRTIO_NET_F_MRG_RXBUF as many as it takes (section 5.1.6.4). Undefined
   * when there are not enough, none when the frame does not fit into the buffer that is next.
   */
  #buffers(queue: VirtQueue, needed: number): Chain[] | undefined {
    const chains: Chain[] = [];
    for (let room = 0; room < needed; ) {
      const chain = this.#nextBuffer(queue);
      if (chain === undefined) {
        for (const taken of chains.reverse()) queue.unpop(taken);
        return undefined;
      }
      if (chains.length === 0 && chain.writableLength < this.#header.length) {
        // No frame will ever fit in there: the header may not be split over buffers.
        queue.push(chain, 0);
        this.#received = true;
        continue;
      }
      if (!this.#mergeable && chain.writableLength < needed) {
        queue.unpop(chain);
        return [];
      }
      chains.push(chain);
      room += chain.writableLength;
    }
    return chains;
  }

  #nextBuffer(queue: VirtQueue): Chain | undefined {
    const chain = queue.pop();
    if (chain !== undefined) return chain;
    // Asked first, looked again after: a buffer that arrives in between must not go unnoticed (section 2.7.10).
    queue.setDriverNotifications(true);
    return queue.pop();
  }

  #fill(
    queue: VirtQueue,
    chains: readonly Chain[],
    pieces: readonly Uint8Array[],
    length: number,
    info: FrameInfo,
  ): void {
    const out = new Scatter(chains.length === 1 ? chains[0]!.writable : chains.flatMap(c => c.writable));
    formatHeader(this.#header, info, length, chains.length);
    out.write(this.#header);
    for (const piece of pieces) out.write(piece);
    let left = this.#header.length + length;
    for (const chain of chains) {
      const written = Math.min(left, chain.writableLength);
      left -= written;
      queue.push(chain, written);
    }
    this.#received = true;
  }

  #tellReceived(): void {
    if (!this.#received) return;
    this.#received = false;
    this.#host?.queues[R.RECEIVEQ]?.notifyDriver();
  }

  #control(host: VirtioHost, queue: VirtQueue): void {
    const target = {
      has: (feature: number) => host.has(feature),
      setMac: (mac: Uint8Array) => this.#config.set(mac, R.CONFIG_MAC),
      setGuestOffloads: (offloads: bigint) => this.#setGuestOffloads(host, offloads),
    };
    let done = 0;
    for (; done < queue.size; done++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      // A command that cannot be answered is not carried out.
      const ack = new Scatter(chain.writable);
      const answerable = chain.writableLength > 0;
      const ok = answerable && control(chain.readable, chain.readableLength, target);
      queue.push(chain, ack.write(Uint8Array.of(ok ? R.VIRTIO_NET_OK : R.VIRTIO_NET_ERR)));
    }
    if (done > 0) queue.notifyDriver();
  }

  /** VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET (section 5.1.6.5.6). */
  #setGuestOffloads(host: VirtioHost, offloads: bigint): boolean {
    const possible = (1n << BigInt(R.VIRTIO_NET_F_GUEST_CSUM)) | (1n << BigInt(R.VIRTIO_NET_F_GUEST_TSO4));
    if ((offloads & ~(possible & host.features)) !== 0n) return false;
    const has = (feature: number) => ((offloads >> BigInt(feature)) & 1n) !== 0n;
    const checksum = has(R.VIRTIO_NET_F_GUEST_CSUM);
    this.#receives = { checksum, tso4: checksum && has(R.VIRTIO_NET_F_GUEST_TSO4) };
    this.#backend.stop();
    this.#start();
    return true;
  }
}

/** Features that the device has always, and those that need something of the backend. */
function featuresFor({ offloads, mtu }: NetBackend): bigint {
  const features = [
    R.VIRTIO_NET_F_MAC,
    R.VIRTIO_NET_F_STATUS,
    R.VIRTIO_NET_F_MRG_RXBUF,
    R.VIRTIO_NET_F_CTRL_VQ,
    R.VIRTIO_NET_F_CTRL_RX,
    R.VIRTIO_NET_F_CTRL_MAC_ADDR,
    R.VIRTIO_NET_F_SPEED_DUPLEX,
  ];
  if (mtu >= SMALLEST_MTU && mtu <= 0xffff) features.push(R.VIRTIO_NET_F_MTU);
  if (offloads.checksum || offloads.tso) features.push(R.VIRTIO_NET_F_CSUM);
  if (offloads.tso) features.push(R.VIRTIO_NET_F_HOST_TSO4);
  if (offloads.largeReceive) {
    features.push(R.VIRTIO_NET_F_GUEST_CSUM, R.VIRTIO_NET_F_GUEST_TSO4, R.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
  }
  return features.reduce((bits, feature) => bits | (1n << BigInt(feature)), 0n);
}
