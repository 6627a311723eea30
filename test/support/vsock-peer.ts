import { gather } from '../../src/devices/virtio/pieces.ts';
import type { VirtioVsock } from '../../src/devices/virtio/vsock/device.ts';
import { decodeHeader, encodeHeader, HEADER_SIZE, type PacketHeader } from '../../src/devices/virtio/vsock/packet.ts';
import * as R from '../../src/devices/virtio/vsock/regs.ts';
import { type FakeHost, fakeHost } from './fake-virtio.ts';

/** A packet that the device has sent to the guest. */
export interface Received extends PacketHeader {
  readonly data: Uint8Array;
}

/** A guest's vsock driver and sockets, as far as a test tells it to act: packets in, packets out, credit checked. */
export class VsockPeer {
  readonly host: FakeHost;
  readonly received: Received[] = [];
  /** Receive buffer that the guest says it has, for each socket. */
  bufAlloc = 65536;
  /** fwd_cnt for the host's port. */
  readonly fwdCnt = new Map<number, number>();

  constructor(
    readonly device: VirtioVsock,
    readonly cid: number = device.guestCid,
  ) {
    this.host = fakeHost(device);
  }

  /** Gives the device `count` buffers of `size` bytes and takes what it has sent. */
  offer(count: number, size = 4096): Received[] {
    for (let i = 0; i < count; i++) this.host.queues[R.RX]!.offer([], [HEADER_SIZE, size - HEADER_SIZE]);
    this.device.notify(R.RX);
    return this.take();
  }

  /** Takes what the device has sent since the last time. */
  take(): Received[] {
    const packets = this.host.queues[R.RX]!.pushed.splice(0)
      .filter(p => p.written > 0)
      .map(({ chain, written }) => {
        const bytes = new Uint8Array(written);
        gather(chain.writable, bytes);
        const header = decodeHeader(new DataView(bytes.buffer, 0, HEADER_SIZE));
        return { ...header, data: bytes.subarray(HEADER_SIZE) };
      });
    this.received.push(...packets);
    return packets;
  }

  /** Sends a packet from `port` of the guest to `hostPort`; fields of `over` replace those of a well-formed one. */
  send(
    port: number,
    hostPort: number,
    op: number,
    over: Partial<PacketHeader> & { data?: Uint8Array; cut?: number } = {},
  ): void {
    const data = over.data ?? new Uint8Array(0);
    const bytes = new Uint8Array(HEADER_SIZE + data.length);
    encodeHeader(new DataView(bytes.buffer), {
      src_cid: BigInt(this.cid),
      dst_cid: BigInt(R.HOST_CID),
      src_port: port,
      dst_port: hostPort,
      len: data.length,
      type: R.VIRTIO_VSOCK_TYPE_STREAM,
      op,
      flags: 0,
      buf_alloc: this.bufAlloc,
      fwd_cnt: this.fwdCnt.get(hostPort) ?? 0,
      ...over,
    });
    bytes.set(data, HEADER_SIZE);
    // Linux sends header and data in two descriptors; `cut` puts the border elsewhere.
    const cut = over.cut ?? HEADER_SIZE;
    this.host.queues[R.TX]!.offer([bytes.subarray(0, cut), bytes.subarray(cut)]);
    this.device.notify(R.TX);
  }

  /** The guest's program has read `bytes` of what came from `hostPort`. */
  consume(hostPort: number, bytes: number): void {
    this.fwdCnt.set(hostPort, ((this.fwdCnt.get(hostPort) ?? 0) + bytes) >>> 0);
  }
}

/** The operations of packets, for comparisons. */
export function ops(packets: readonly PacketHeader[]): number[] {
  return packets.map(p => p.op);
}
