import type {
  BackendOffloads,
  FrameInfo,
  FrameReceiver,
  NetBackend,
  ReceiveOffloads,
} from '../../../devices/virtio/net/backend.ts';
import { GATEWAY, GATEWAY_MAC, isGuestAddress, LIMITED_BROADCAST, NAMESERVER, SUBNET_BROADCAST } from './addresses.ts';
import { handleArp } from './arp.ts';
import type { Context } from './context.ts';
import { DhcpServer } from './dhcp.ts';
import { DNS_PORT, DnsForwarder } from './dns.ts';
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, GuestFrame, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from './frame.ts';
import type { HostSockets, Listener } from './host-sockets.ts';
import { handleIcmp, PROTOCOL_UNREACHABLE, quote, sendTimeExceeded, sendUnreachable } from './icmp.ts';
import { Link } from './link.ts';
import { Reassembly } from './reassembly.ts';
import { TcpStack } from './tcp.ts';
import { Deadlines, type Scheduler } from './timers.ts';
import { type Datagram, parseDatagram, sendDatagram, UdpNat } from './udp.ts';

const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;

/** What a {@link UserNetwork} is made of. */
export interface UserNetworkParts {
  readonly mtu: number;
  readonly hostLoopback: boolean;
  readonly hostname: string | undefined;
  readonly sockets: HostSockets;
  readonly scheduler: Scheduler;
  /** 32 unpredictable bits. */
  readonly random: () => number;
}

/** How much the tables of the network hold; each is bounded. */
export interface UserNetworkUsage {
  readonly tcpConnections: number;
  /** Bytes for the guest that it has not acknowledged, and from it behind holes. */
  readonly tcpBytes: number;
  readonly udpFlows: number;
  readonly dnsQueries: number;
  readonly reassemblies: number;
}

/**
 * A network in user mode: a router whose other side is not a cable but sockets of this process, so that it needs no privilege and
 * no device on any system. The guest gets what it would get behind a router with NAT: IPv4 with TCP, UDP, and the ICMP that
 * belongs to them. It is built from the RFCs that are named where they apply. IPv6 frames are dropped.
 */
export class UserNetwork implements NetBackend {
  readonly offloads: BackendOffloads = { checksum: true, tso: true, largeReceive: true };
  readonly mtu: number;
  readonly udp: UdpNat;
  readonly tcp: TcpStack;
  /** Ports of the host that lead to the guest; closed with the network. */
  readonly listeners: Listener[] = [];
  readonly #context: Context;
  readonly #frame = new GuestFrame();
  readonly #link: Link;
  readonly #dhcp: DhcpServer;
  readonly #dns: DnsForwarder;
  readonly #reassembly: Reassembly;
  #closed = false;

  constructor(parts: UserNetworkParts) {
    const { mtu, hostname, sockets, scheduler, random, hostLoopback } = parts;
    this.mtu = mtu;
    this.#link = new Link(mtu);
    const deadlines = new Deadlines(scheduler);
    this.#context = { link: this.#link, deadlines, scheduler, sockets, random, hostLoopback };
    this.#dhcp = new DhcpServer({ mtu, ...(hostname === undefined ? {} : { hostname }) });
    this.#dns = new DnsForwarder(this.#context);
    this.#reassembly = new Reassembly(deadlines);
    this.udp = new UdpNat(this.#context);
    this.tcp = new TcpStack(this.#context, this.#frame);
  }

  get active(): boolean {
    return this.listeners.length > 0 || this.tcp.size > 0 || this.udp.size > 0 || this.#dns.size > 0;
  }

  /** For statistics and tests. */
  get usage(): UserNetworkUsage {
    return {
      tcpConnections: this.tcp.size,
      tcpBytes: this.tcp.heldBytes,
      udpFlows: this.udp.size,
      dnsQueries: this.#dns.size,
      reassemblies: this.#reassembly.size,
    };
  }

  start(receive: FrameReceiver, accepts: ReceiveOffloads): void {
    this.#link.start(receive, accepts);
  }

  stop(): void {
    this.#link.stop();
  }

  roomAvailable(): void {
    this.#link.roomAvailable();
  }

  send(pieces: readonly Uint8Array[], info: FrameInfo): void {
    const frame = this.#frame;
    if (this.#closed || !frame.load(pieces)) return;
    if (this.#isForUs(frame.bytes)) {
      if (frame.etherType === ETHERTYPE_IPV4) this.#ipv4(frame, info);
      else if (frame.etherType === ETHERTYPE_ARP) handleArp(frame, this.#link);
    }
    frame.unload();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#link.stop();
    this.tcp.close();
    this.udp.close();
    this.#dns.close();
    this.#context.deadlines.clear();
    await Promise.all(this.listeners.splice(0).map(l => l.close()));
  }

  /** Frames to the gateway's MAC address and to all; none that claims to come from a group (IEEE 802 section 8.2). */
  #isForUs(bytes: Uint8Array): boolean {
    if (bytes[6]! & 1) return false;
    if (bytes[0]! & 1) return true;
    for (let i = 0; i < 6; i++) if (bytes[i] !== GATEWAY_MAC[i]) return false;
    return true;
  }

  #ipv4(frame: GuestFrame, info: FrameInfo): void {
    if (!frame.parseIpv4()) return;
    const { source, destination } = frame;
    const configuring = source === 0;
    // What the guest forwards for other networks could not be answered.
    if (!configuring && !isGuestAddress(source)) return;
    if (!configuring) this.#link.learn(source, frame.bytes, 6);
    let verify = !info.needsChecksum && info.gso === 'none';
    if (frame.moreFragments || frame.fragmentOffset > 0) {
      if (configuring || !this.#reassembly.add(frame, this.#context.scheduler.now())) return;
      verify = true;
    }
    const broadcast = destination === LIMITED_BROADCAST || destination === SUBNET_BROADCAST;
    if (broadcast || configuring) {
      if (frame.protocol === PROTOCOL_UDP) this.#broadcast(frame, verify);
      return;
    }
    // Other broadcasts, multicast and the guest's own addresses have no one here who listens.
    if (destination >>> 28 >= 14 || (isGuestAddress(destination) && this.#link.knows(destination))) return;
    this.#unicast(frame, verify);
  }

  /** The one thing that is for all: DHCP. */
  #broadcast(frame: GuestFrame, verify: boolean): void {
    frame.gather();
    const datagram = parseDatagram(frame, verify);
    if (datagram?.destinationPort === DHCP_SERVER_PORT) this.#configure(frame, datagram);
  }

  #unicast(frame: GuestFrame, verify: boolean): void {
    const ours = frame.destination === GATEWAY || frame.destination === NAMESERVER;
    // A router would count it down to 0 (RFC 1812 section 5.3.1).
    if (!ours && frame.timeToLive <= 1) {
      if (frame.protocol !== PROTOCOL_ICMP) sendTimeExceeded(this.#link, quote(frame), frame.source);
      return;
    }
    switch (frame.protocol) {
      case PROTOCOL_TCP:
        this.tcp.handle(frame, verify);
        return;
      case PROTOCOL_UDP:
        this.#udp(frame, verify);
        return;
      case PROTOCOL_ICMP:
        handleIcmp(frame, this.#link);
        return;
      default:
        sendUnreachable(this.#link, PROTOCOL_UNREACHABLE, quote(frame), frame.source);
    }
  }

  #udp(frame: GuestFrame, verify: boolean): void {
    frame.gather();
    const datagram = parseDatagram(frame, verify);
    if (!datagram) return;
    const { destination } = frame;
    if (destination === NAMESERVER && datagram.destinationPort === DNS_PORT) this.#dns.handle(frame, datagram);
    else if (destination === GATEWAY && datagram.destinationPort === DHCP_SERVER_PORT) this.#configure(frame, datagram);
    else this.udp.handle(frame, datagram);
  }

  #configure(frame: GuestFrame, datagram: Datagram): void {
    const reply = this.#dhcp.handle(frame.bytes.slice(datagram.start, datagram.end));
    if (!reply) return;
    const to = { address: reply.destination, port: DHCP_CLIENT_PORT };
    sendDatagram(this.#link, { address: GATEWAY, port: DHCP_SERVER_PORT }, to, reply.message, reply.mac);
  }
}
