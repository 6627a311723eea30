import type { AccessSize } from '../../../bus/types.ts';
import type { Clock } from '../../../time/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { Chain, VirtioDevice, VirtioHost } from '../device.ts';
import { gather, readBytes, Scatter, skipBytes } from '../pieces.ts';
import { BUF_ALLOC, Connection, type ConnectionHost } from './connection.ts';
import { decodeHeader, encodeHeader, HEADER_SIZE, type PacketHeader } from './packet.ts';
import * as R from './regs.ts';
import type { VsockAcceptor, VsockConnection, VsockHandlers } from './types.ts';

/** Options of a {@link VirtioVsock}. */
export interface VirtioVsockOptions {
  /** The guest's context ID, from 3 to 0xfffffffe. */
  readonly guestCid: number;
  readonly clock: Clock;
  /** Connections at a time; 1024 by default. Each may have 256 KiB of the guest's data. */
  readonly maxConnections?: number;
}

const QUEUE_SIZE = 256;
/** RST replies that wait for receive buffers; with more, no packets are taken from the guest (section 5.10.6.1). */
const MAX_RESETS = 256;
/** The host's ports for connections that it makes: from here up, as Linux leaves the lower ones to listeners. */
const FIRST_LOCAL_PORT = 0x4000_0000;
const MAX_PORT = 0xffff_fffe;

/**
 * The socket device (virtio 1.2 section 5.10) with stream sockets: connections between the guest's ports and the
 * host's, which is context ID 2. Sequenced packets are not offered. What the guest sends is never dropped for want of
 * room, since it has to wait for credit; what breaks the rules is answered with RST.
 */
export class VirtioVsock implements VirtioDevice {
  readonly name = 'virtio-vsock';
  readonly type = R.VIRTIO_ID_VSOCK;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly features = 1n << BigInt(R.VIRTIO_VSOCK_F_STREAM);
  readonly configSize = R.CONFIG_SIZE;

  readonly #clock: Clock;
  readonly #maxConnections: number;
  readonly #config = new Uint8Array(R.CONFIG_SIZE);
  #guestCid = 0n;
  #host: VirtioHost | undefined;

  readonly #listeners = new Map<number, VsockAcceptor>();
  /** Connections that the guest knows, by address pair. */
  readonly #addresses = new Map<string, Connection>();
  /** All connections that are not closed: also those whose data the host has not taken yet. */
  readonly #connections = new Set<Connection>();
  /** Connections that have something to send, in the order of their turns. */
  readonly #ready = new Set<Connection>();
  /** RST packets to send, which come before anything else. */
  readonly #resets: PacketHeader[] = [];
  /** A transport reset event waits for a buffer. */
  #eventPending = false;
  #nextPort = FIRST_LOCAL_PORT;
  /** Queues are being served; what is to be sent meanwhile goes at the end of it. */
  #busy = false;

  readonly #header = new DataView(new ArrayBuffer(HEADER_SIZE));
  readonly #connectionHost: ConnectionHost;

  /** @throws VmError ERR_USAGE for a reserved context ID. */
  constructor(options: VirtioVsockOptions) {
    this.#clock = options.clock;
    this.#maxConnections = options.maxConnections ?? 1024;
    this.#setGuestCid(options.guestCid);
    this.#connectionHost = {
      ready: connection => {
        this.#ready.add(connection);
        this.#serve();
      },
      detach: (connection, reset) => this.#detach(connection, reset),
      closed: connection => this.#connections.delete(connection),
      after: (ns, f) => this.#clock.at(this.#clock.nowNs() + ns, f),
    };
  }

  /** The guest's context ID. */
  get guestCid(): number {
    return Number(this.#guestCid);
  }

  /** Connections that are not closed. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** The guest has a driver that is ready, so connect() may be called. */
  get active(): boolean {
    return this.#host !== undefined;
  }

  /**
   * Connects to a port of the guest. handlers.connected() or closed() says how that went; writes may come before.
   * @throws VmError ERR_STATE when the guest has no driver (yet), ERR_NETWORK when there are too many connections.
   */
  connect(port: number, handlers: VsockHandlers): VsockConnection {
    checkPort(port);
    if (!this.#host) {
      throw new VmError('ERR_STATE', `The guest has no vsock driver to connect to port ${port}.`, {
        hint: 'Wait until the guest has started its virtio_vsock driver.',
        details: { port },
      });
    }
    if (this.#connections.size >= this.#maxConnections) {
      throw new VmError('ERR_NETWORK', `There are ${this.#connections.size} vsock connections already.`, {
        hint: 'Close some, or raise maxConnections.',
      });
    }
    const connection = Connection.connecting(this.#connectionHost, this.#localPort(port), port, handlers);
    this.#add(connection);
    this.#connectionHost.ready(connection);
    return connection;
  }

  /**
   * Takes the guest's connections to `port` of the host, or with {@link R.VMADDR_PORT_ANY} those to all ports that have
   * no listener of their own. Disposing the result ends that; its connections stay. Listeners outlive resets.
   * @throws VmError ERR_NETWORK when the port has a listener, ERR_USAGE when it is no port.
   */
  listen(port: number, acceptor: VsockAcceptor): Disposable {
    if (port !== R.VMADDR_PORT_ANY) checkPort(port);
    if (this.#listeners.has(port)) {
      throw new VmError('ERR_NETWORK', `The host already listens on vsock port ${port}.`, { details: { port } });
    }
    this.#listeners.set(port, acceptor);
    return {
      [Symbol.dispose]: () => {
        if (this.#listeners.get(port) === acceptor) this.#listeners.delete(port);
      },
    };
  }

  /**
   * Tells the driver that communication was interrupted, after a migration or a restored snapshot (section 5.10.6.7):
   * all connections are reset and the guest reads its context ID again.
   * @throws VmError ERR_USAGE for a reserved context ID.
   */
  resetTransport(guestCid: number = this.guestCid): void {
    this.#setGuestCid(guestCid);
    this.#eventPending = this.#host !== undefined;
    this.#sendEvent();
    this.#closeAll();
  }

  readConfig(offset: number, size: AccessSize): number {
    return readBytes(this.#config, offset, size);
  }

  writeConfig(): void {
    // guest_cid is read-only (section 5.10.4).
  }

  activate(host: VirtioHost): void {
    this.#host = host;
  }

  notify(index: number): void {
    if (index === R.EVENT) this.#sendEvent();
    else this.#serve();
  }

  reset(): void {
    this.#host = undefined;
    this.#eventPending = false;
    this.#closeAll();
  }

  /** Takes packets from the guest and sends it what is due, until neither goes on. */
  #serve(): void {
    if (this.#busy) return;
    this.#busy = true;
    try {
      // As many packets as fit into the queues: a reply may go over a ring and make it look full again, without end.
      let left = this.#host?.queues[R.TX]?.size ?? 0;
      for (let again = true; again; ) {
        left -= this.#receiveAll(left);
        const stopped = this.#resets.length >= MAX_RESETS;
        this.#sendAll();
        again = stopped && left > 0 && this.#resets.length < MAX_RESETS;
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Takes up to `most` packets from the tx queue, as long as there is room for replies, and returns how many. */
  #receiveAll(most: number): number {
    const tx = this.#host?.queues[R.TX];
    let taken = 0;
    for (; taken < most && this.#resets.length < MAX_RESETS; taken++) {
      const chain = tx?.pop();
      if (!tx || !chain) break;
      this.#receive(chain);
      tx.push(chain, 0);
    }
    if (taken > 0) tx?.notifyDriver();
    return taken;
  }

  #receive(chain: Chain): void {
    // Without a whole header there is nobody to answer to.
    if (chain.readableLength < HEADER_SIZE) return;
    gather(chain.readable, new Uint8Array(this.#header.buffer));
    const header = decodeHeader(this.#header);
    // The address pair of a packet with another context ID is not ours, whatever its ports are.
    const ours = header.src_cid === this.#guestCid && header.dst_cid === BigInt(R.HOST_CID);
    if (!ours || header.type !== R.VIRTIO_VSOCK_TYPE_STREAM) {
      this.#replyReset(header);
      return;
    }
    const connection = this.#addresses.get(addressKey(header.dst_port, header.src_port));
    if (!connection) {
      if (header.op === R.VIRTIO_VSOCK_OP_REQUEST) this.#receiveRequest(header);
      else this.#replyReset(header);
      return;
    }
    const payload = this.#payload(chain, header);
    if (payload) connection.receive(header, payload);
    else connection.close('protocol', true);
  }

  /** The payload of data that the guest may send, undefined when it is incomplete or too long. */
  #payload(chain: Chain, header: PacketHeader): Uint8Array | undefined {
    if (header.op !== R.VIRTIO_VSOCK_OP_RW) return new Uint8Array(0);
    // More than BUF_ALLOC is more than a guest can ever have credit for.
    if (header.len > Math.min(BUF_ALLOC, chain.readableLength - HEADER_SIZE)) return undefined;
    const pieces = skipBytes(chain.readable, HEADER_SIZE);
    // Linux puts the data of a packet into one piece, which the connection copies; others are copied here.
    const [first] = pieces;
    if (first && first.length >= header.len) return first.subarray(0, header.len);
    const payload = new Uint8Array(header.len);
    gather(pieces, payload);
    return payload;
  }

  #receiveRequest(header: PacketHeader): void {
    const acceptor = this.#listeners.get(header.dst_port) ?? this.#listeners.get(R.VMADDR_PORT_ANY);
    if (!acceptor || this.#connections.size >= this.#maxConnections) {
      this.#replyReset(header);
      return;
    }
    const connection = Connection.offered(this.#connectionHost, header);
    this.#add(connection);
    const answer = acceptor(connection);
    const decide = (handlers: VsockHandlers | undefined) => {
      if (handlers) connection.accept(handlers);
      else connection.destroy();
    };
    if (answer instanceof Promise) answer.then(decide, () => decide(undefined));
    else decide(answer);
  }

  /** Sends what is due, as long as the driver has buffers for it; connections take turns. */
  #sendAll(): void {
    const rx = this.#host?.queues[R.RX];
    if (!rx) return;
    let sent = false;
    for (let n = 0; n < rx.size && (this.#resets.length > 0 || this.#ready.size > 0); n++) {
      const chain = rx.pop();
      if (!chain) break;
      // A buffer that cannot hold the smallest packet with data is of no use.
      const room = chain.writableLength - HEADER_SIZE;
      const used = room < 1 ? 0 : this.#sendNext(chain, room);
      if (used === undefined) {
        rx.unpop(chain);
        break;
      }
      rx.push(chain, used);
      sent = true;
    }
    if (sent) rx.notifyDriver();
  }

  /** Writes the next packet into `chain` and returns its length in bytes; undefined when there is none. */
  #sendNext(chain: Chain, room: number): number | undefined {
    const reset = this.#resets.shift();
    if (reset) return this.#writePacket(chain, reset, []);
    for (const connection of this.#ready) {
      this.#ready.delete(connection);
      const packet = connection.next(room);
      if (!packet) continue;
      // There may be more; the others come first.
      this.#ready.add(connection);
      const len = packet.payload.reduce((sum, piece) => sum + piece.length, 0);
      const header = this.#headerTo(connection, packet.op, packet.flags, len);
      return this.#writePacket(chain, { ...header, ...connection.credit() }, packet.payload);
    }
    return undefined;
  }

  #writePacket(chain: Chain, header: PacketHeader, payload: readonly Uint8Array[]): number {
    encodeHeader(this.#header, header);
    const scatter = new Scatter(chain.writable);
    scatter.write(new Uint8Array(this.#header.buffer));
    for (const piece of payload) scatter.write(piece);
    return HEADER_SIZE + header.len;
  }

  #headerTo(connection: Connection, op: number, flags: number, len: number): PacketHeader {
    return {
      src_cid: BigInt(R.HOST_CID),
      dst_cid: this.#guestCid,
      src_port: connection.localPort,
      dst_port: connection.peerPort,
      len,
      type: R.VIRTIO_VSOCK_TYPE_STREAM,
      op,
      flags,
      buf_alloc: 0,
      fwd_cnt: 0,
    };
  }

  /** Answers a packet that no connection takes, from the address that it was sent to. An RST is never answered. */
  #replyReset(to: PacketHeader): void {
    if (to.op === R.VIRTIO_VSOCK_OP_RST) return;
    const { src_cid, dst_cid, src_port, dst_port, type } = to;
    this.#resets.push({
      src_cid: dst_cid,
      dst_cid: src_cid,
      src_port: dst_port,
      dst_port: src_port,
      type,
      len: 0,
      op: R.VIRTIO_VSOCK_OP_RST,
      flags: 0,
      buf_alloc: 0,
      fwd_cnt: 0,
    });
  }

  #add(connection: Connection): void {
    this.#connections.add(connection);
    this.#addresses.set(addressKey(connection.localPort, connection.peerPort), connection);
  }

  #detach(connection: Connection, reset: boolean): void {
    this.#addresses.delete(addressKey(connection.localPort, connection.peerPort));
    this.#ready.delete(connection);
    if (!reset || !this.#host) return;
    this.#resets.push(this.#headerTo(connection, R.VIRTIO_VSOCK_OP_RST, 0, 0));
    this.#serve();
  }

  #closeAll(): void {
    for (const connection of [...this.#connections]) connection.close('reset', false);
    this.#resets.length = 0;
  }

  /** Sends the transport reset event once the driver has a buffer for it (section 5.10.6.7). */
  #sendEvent(): void {
    const queue = this.#host?.queues[R.EVENT];
    if (!queue) return;
    let sent = false;
    while (this.#eventPending) {
      const chain = queue.pop();
      if (!chain) break;
      const fits = chain.writableLength >= R.EVENT_SIZE;
      const event = new Uint8Array(R.EVENT_SIZE);
      new DataView(event.buffer).setUint32(0, R.VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, true);
      if (fits) new Scatter(chain.writable).write(event);
      queue.push(chain, fits ? R.EVENT_SIZE : 0);
      this.#eventPending = !fits;
      sent = true;
    }
    if (sent) queue.notifyDriver();
  }

  /** A port of the host that has no connection to `peerPort`; there are far more than connections. */
  #localPort(peerPort: number): number {
    for (;;) {
      const port = this.#nextPort;
      this.#nextPort = port === MAX_PORT ? FIRST_LOCAL_PORT : port + 1;
      if (!this.#addresses.has(addressKey(port, peerPort))) return port;
    }
  }

  #setGuestCid(cid: number): void {
    if (!Number.isInteger(cid) || cid < R.MIN_GUEST_CID || cid > R.MAX_GUEST_CID) {
      throw new VmError('ERR_USAGE', `${cid} cannot be the context id of a guest.`, {
        hint: `Choose one from ${R.MIN_GUEST_CID} to ${R.MAX_GUEST_CID}.`,
        details: { cid },
      });
    }
    this.#guestCid = BigInt(cid);
    new DataView(this.#config.buffer).setBigUint64(0, this.#guestCid, true);
  }
}

function addressKey(localPort: number, peerPort: number): string {
  return `${localPort}:${peerPort}`;
}

function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port <= MAX_PORT) return;
  throw new VmError('ERR_USAGE', `${port} is no vsock port.`, {
    hint: `Ports go from 0 to ${MAX_PORT}.`,
    details: { port },
  });
}
