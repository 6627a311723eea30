import type { VirtioVsock } from '../../src/devices/virtio/vsock/device.ts';
import * as R from '../../src/devices/virtio/vsock/regs.ts';
import { type Received, VsockPeer } from './vsock-peer.ts';

/** A socket of the guest as a program there sees it. */
export interface GuestSocket {
  readonly port: number;
  readonly hostPort: number;
  /** What the host has sent so far; the program has read it. */
  readonly received: Uint8Array[];
  /** The host has accepted (or asked for) the connection. */
  connected: boolean;
  /** The host sends no more. */
  hostEnded: boolean;
  /** The connection is gone. */
  closed: boolean;
  send(bytes: Uint8Array): void;
  /** shutdown(SHUT_WR), after what was sent. */
  end(): void;
  /** close(). */
  close(): void;
}

interface Socket extends GuestSocket {
  queue: Uint8Array;
  wantsEnd: boolean;
  flags: number;
  sent: number;
  credit: number;
  read: number;
}

/**
 * A guest with programs that listen and connect, for tests of what stands on the device: it obeys credit and takes a
 * packet at a time. It runs on a timer of the host's, so end it with stop().
 */
export class VsockGuest {
  readonly #peer: VsockPeer;
  readonly #sockets: Socket[] = [];
  readonly #listeners = new Map<number, (socket: GuestSocket) => void>();
  readonly #timer: ReturnType<typeof setInterval>;
  /** What a listener's program does with data. */
  onData: (socket: GuestSocket, bytes: Uint8Array) => void = () => {};
  onEnd: (socket: GuestSocket) => void = () => {};
  /** Sockets do not read while this is true, and give the host no new credit. */
  asleep = false;

  constructor(device: VirtioVsock) {
    this.#peer = new VsockPeer(device);
    this.#timer = setInterval(() => this.#run(), 1);
  }

  listen(port: number, accept: (socket: GuestSocket) => void = () => {}): void {
    this.#listeners.set(port, accept);
  }

  connect(port: number, hostPort: number): GuestSocket {
    const socket = this.#socket(port, hostPort);
    this.#peer.send(port, hostPort, R.VIRTIO_VSOCK_OP_REQUEST);
    return socket;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #socket(port: number, hostPort: number): Socket {
    const socket: Socket = {
      port,
      hostPort,
      received: [],
      connected: false,
      hostEnded: false,
      closed: false,
      queue: new Uint8Array(0),
      wantsEnd: false,
      flags: 0,
      sent: 0,
      credit: 0,
      read: 0,
      send: bytes => {
        socket.queue = Buffer.concat([socket.queue, bytes]);
        this.#flush(socket);
      },
      end: () => {
        socket.wantsEnd = true;
        this.#flush(socket);
      },
      close: () => this.#shutdown(socket, R.SHUTDOWN_BOTH),
    };
    this.#sockets.push(socket);
    return socket;
  }

  #run(): void {
    if (this.asleep) return;
    for (const packet of this.#peer.offer(32 - this.#peer.host.queues[R.RX]!.waiting)) this.#receive(packet);
  }

  #receive(packet: Received): void {
    let socket = this.#sockets.find(s => !s.closed && s.port === packet.dst_port && s.hostPort === packet.src_port);
    if (packet.op === R.VIRTIO_VSOCK_OP_REQUEST) {
      const accept = this.#listeners.get(packet.dst_port);
      if (!accept) {
        this.#peer.send(packet.dst_port, packet.src_port, R.VIRTIO_VSOCK_OP_RST);
        return;
      }
      socket = this.#socket(packet.dst_port, packet.src_port);
      this.#peer.send(socket.port, socket.hostPort, R.VIRTIO_VSOCK_OP_RESPONSE);
      socket.connected = true;
      accept(socket);
    }
    if (!socket) return;
    socket.credit = packet.buf_alloc + packet.fwd_cnt;
    if (packet.op === R.VIRTIO_VSOCK_OP_RST) socket.closed = true;
    if (packet.op === R.VIRTIO_VSOCK_OP_RESPONSE) socket.connected = true;
    if (packet.op === R.VIRTIO_VSOCK_OP_RW) {
      socket.received.push(packet.data);
      this.#peer.consume(socket.hostPort, packet.len);
      this.#peer.send(socket.port, socket.hostPort, R.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
      this.onData(socket, packet.data);
    }
    if (packet.op === R.VIRTIO_VSOCK_OP_SHUTDOWN) {
      if (packet.flags & R.VIRTIO_VSOCK_SHUTDOWN_F_SEND && !socket.hostEnded) {
        socket.hostEnded = true;
        this.onEnd(socket);
      }
      if (packet.flags === R.SHUTDOWN_BOTH) {
        socket.closed = true;
        this.#peer.send(socket.port, socket.hostPort, R.VIRTIO_VSOCK_OP_RST);
      }
    }
    this.#flush(socket);
  }

  #flush(socket: Socket): void {
    while (socket.connected && !socket.closed && socket.queue.length > 0 && socket.credit > socket.sent) {
      const n = Math.min(socket.queue.length, socket.credit - socket.sent, 65536);
      const data = socket.queue.subarray(0, n);
      socket.queue = socket.queue.subarray(n);
      socket.sent += n;
      this.#peer.send(socket.port, socket.hostPort, R.VIRTIO_VSOCK_OP_RW, { data });
    }
    if (socket.wantsEnd && socket.connected && socket.queue.length === 0) {
      this.#shutdown(socket, R.VIRTIO_VSOCK_SHUTDOWN_F_SEND);
    }
  }

  #shutdown(socket: Socket, flags: number): void {
    if (socket.closed || socket.flags === flags || socket.flags === R.SHUTDOWN_BOTH) return;
    socket.flags = flags;
    this.#peer.send(socket.port, socket.hostPort, R.VIRTIO_VSOCK_OP_SHUTDOWN, { flags });
  }
}
