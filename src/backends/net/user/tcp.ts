import { GATEWAY, GUEST, NAMESERVER } from './addresses.ts';
import { askArp } from './arp.ts';
import { type Context, hostEndpoint, type PortForward } from './context.ts';
import { DNS_PORT, NAME_SERVERS } from './dns.ts';
import { FlowTable } from './flow-table.ts';
import { type GuestFrame, PROTOCOL_TCP } from './frame.ts';
import type { Endpoint, Listener } from './host-sockets.ts';
import { HostWriter } from './host-writer.ts';
import { PORT_UNREACHABLE, quoteFlow, sendUnreachable, unreachableCode } from './icmp.ts';
import { type ConnectionEnds, TcpConnection } from './tcp-connection.ts';
import { TcpPacket } from './tcp-packet.ts';
import { ACK, FIN, RST, Segment, SYN, seqAdd } from './tcp-segment.ts';

/** Connections at a time, forwarded ones among them. */
const CONNECTIONS = 1024;
/** Receive window in bytes, and what it is while many share the memory. */
const WINDOW = 256 * 1024;
const SMALL_WINDOW = 64 * 1024;
const FEW_CONNECTIONS = 64;
/** Longest payload of a large frame: an IP packet has at most 65535 bytes. */
const LARGEST_PAYLOAD = 65535 - 40;

/** TCP between the guest and sockets of the host. */
export class TcpStack {
  readonly context: Context;
  readonly writer = new HostWriter();
  /** Payload bytes of a segment on this cable. */
  readonly mss: number;
  readonly largestPayload = LARGEST_PAYLOAD;
  readonly #connections = new FlowTable<TcpConnection>();
  readonly #segment: Segment;
  /** Connections with something to do at the end of the burst. */
  #soon: TcpConnection[] = [];
  readonly #runSoon = (): void => {
    const due = this.#soon;
    this.#soon = [];
    for (const c of due) {
      c.dirty = false;
      c.runSoon();
    }
  };

  constructor(context: Context, frame: GuestFrame) {
    this.context = context;
    this.mss = context.link.mtu - 40;
    this.#segment = new Segment(frame);
  }

  get size(): number {
    return this.#connections.size;
  }

  /** Bytes that all connections hold. */
  get heldBytes(): number {
    let sum = 0;
    for (const c of this.#connections) sum += c.heldBytes;
    return sum;
  }

  /** The frame is a TCP packet to one host. `verify`: its checksum must be right. */
  handle(frame: GuestFrame, verify: boolean): void {
    const segment = this.#segment;
    if (!segment.parse(verify)) return;
    const { source, destination } = frame;
    let connection = this.#connections.get(source, segment.sourcePort, destination, segment.destinationPort);
    const syn = (segment.flags & (SYN | ACK | RST | FIN)) === SYN;
    if (connection && syn && connection.mayBeReplaced(segment)) {
      connection.discard();
      connection = undefined;
    }
    if (connection) connection.segment(segment);
    else if (syn) this.#open(segment);
    else this.reset(segment);
  }

  #open(segment: Segment): void {
    const { source, destination } = segment.frame;
    const { destinationPort } = segment;
    const targets = this.#targets(destination, destinationPort);
    if (targets.length === 0 || !this.#makeRoom()) {
      this.reset(segment);
      return;
    }
    const connection = this.#add(
      {
        guestAddress: source,
        guestPort: segment.sourcePort,
        remoteAddress: destination,
        remotePort: destinationPort,
      },
      'connecting',
    );
    connection.open(segment, targets);
  }

  /** Where the host connects to: one place, or any of its name servers. */
  #targets(destination: number, port: number): readonly Endpoint[] {
    if (destination === NAMESERVER && port === DNS_PORT) return this.context.sockets.resolvers().slice(0, NAME_SERVERS);
    const endpoint = hostEndpoint(this.context, destination, port);
    return endpoint ? [endpoint] : [];
  }

  /** Listens on the host and connects to the guest, for which the connections come from the gateway. */
  forward(rule: PortForward): Promise<Listener> {
    const at: Endpoint = { address: rule.hostAddress ?? '127.0.0.1', port: rule.hostPort };
    return this.context.sockets.listenStream(at, (socket, from) => {
      const remotePort = this.#freePort(rule.guestPort, from.port);
      if (remotePort === undefined || !this.#makeRoom()) return undefined;
      const ends = { guestAddress: GUEST, guestPort: rule.guestPort, remoteAddress: GATEWAY, remotePort };
      const connection = this.#add(ends, 'syn-sent');
      connection.offer(socket);
      return connection;
    });
  }

  /** Answers a segment that belongs to no connection (RFC 9293 section 3.10.7.1). */
  reset(segment: Segment): void {
    if (segment.has(RST)) return;
    const { source, destination } = segment.frame;
    const packet = new TcpPacket(
      this.context.link,
      [destination, segment.destinationPort],
      [source, segment.sourcePort],
      this.mss,
    );
    const length = segment.length + (segment.has(SYN) ? 1 : 0) + (segment.has(FIN) ? 1 : 0);
    if (segment.has(ACK)) packet.send({ seq: segment.ack, ack: 0, flags: RST, window: 0 }, 0);
    else packet.send({ seq: 0, ack: seqAdd(segment.seq, length), flags: RST | ACK, window: 0 }, 0);
  }

  /** The host could not connect: what a router or the remote host would say. `ack` is behind the guest's SYN. */
  refuse(connection: TcpConnection, ack: number, error: string): void {
    const { guestAddress, guestPort, remoteAddress, remotePort } = connection.ends;
    const { link } = this.context;
    const code = unreachableCode(error);
    if (code === undefined || code === PORT_UNREACHABLE) {
      const packet = new TcpPacket(link, [remoteAddress, remotePort], [guestAddress, guestPort], this.mss);
      packet.send({ seq: 0, ack, flags: RST | ACK, window: 0 }, 0);
      return;
    }
    const quoted = quoteFlow({
      protocol: PROTOCOL_TCP,
      source: guestAddress,
      destination: remoteAddress,
      sourcePort: guestPort,
      destinationPort: remotePort,
      word: seqAdd(ack, -1),
    });
    sendUnreachable(link, code, quoted, guestAddress);
  }

  /** Calls the connection's runSoon() at the end of the burst. */
  soon(connection: TcpConnection): void {
    if (connection.dirty) return;
    connection.dirty = true;
    if (this.#soon.push(connection) === 1) this.context.scheduler.soon(this.#runSoon);
  }

  whoHas(address: number): void {
    askArp(address, this.context.link);
  }

  remove(connection: TcpConnection): void {
    const { guestAddress, guestPort, remoteAddress, remotePort } = connection.ends;
    this.#connections.delete(guestAddress, guestPort, remoteAddress, remotePort);
    this.context.deadlines.delete(connection);
    this.context.link.forget(connection);
  }

  /** Ends all connections. */
  close(): void {
    for (const c of [...this.#connections]) c.abort();
  }

  #add(ends: ConnectionEnds, state: 'connecting' | 'syn-sent'): TcpConnection {
    const capacity = this.#connections.size < FEW_CONNECTIONS ? WINDOW : SMALL_WINDOW;
    const connection = new TcpConnection(this, ends, state, capacity);
    this.#connections.set(ends.guestAddress, ends.guestPort, ends.remoteAddress, ends.remotePort, connection);
    this.context.deadlines.add(connection);
    return connection;
  }

  /** True if one more connection fits; those that have ended give way. */
  #makeRoom(): boolean {
    if (this.#connections.size < CONNECTIONS) return true;
    for (const c of this.#connections) {
      if (c.state !== 'time-wait') continue;
      c.discard();
      return true;
    }
    return false;
  }

  /** A port of the gateway for a forwarded connection: that of who connects, if it is free. */
  #freePort(guestPort: number, wanted: number): number | undefined {
    let port = wanted;
    for (let tries = 0; tries < CONNECTIONS; tries++) {
      if (port !== 0 && !this.#connections.get(GUEST, guestPort, GATEWAY, port)) return port;
      port = 49_152 + (this.context.random() & 0x3fff);
    }
    return undefined;
  }
}
