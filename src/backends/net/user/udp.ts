import { GATEWAY, GUEST, get16, put16 } from './addresses.ts';
import { askArp } from './arp.ts';
import { pseudoHeaderSum, sumBytes } from './checksum.ts';
import { type Context, hostEndpoint, type PortForward } from './context.ts';
import { FlowTable } from './flow-table.ts';
import { type GuestFrame, PROTOCOL_UDP } from './frame.ts';
import type { Endpoint, Listener } from './host-sockets.ts';
import { PROHIBITED, quote, quoteFlow, sendUnreachable, unreachableCode } from './icmp.ts';
import type { Link } from './link.ts';
import type { Expiring } from './timers.ts';

const UDP_HEADER = 8;
const LONGEST_DATAGRAM = 65535 - 20;
/** Sockets for datagrams at a time; the flow that was idle longest gives way. */
const FLOWS = 256;
/** How long a flow without datagrams lasts. RFC 4787 REQ-5 wants 2 minutes of a router; here each is a socket of the host. */
const IDLE_MS = 60_000;

/** A datagram from the guest; valid until the next frame. */
export interface Datagram {
  sourcePort: number;
  destinationPort: number;
  /** Where its payload starts and ends in the frame's bytes. */
  start: number;
  end: number;
}

/** Reads and checks the UDP header of a gathered frame (RFC 768); undefined if it must be dropped. */
export function parseDatagram(frame: GuestFrame, verify: boolean): Datagram | undefined {
  const { bytes, payloadStart: at } = frame;
  const available = frame.payloadEnd - at;
  if (available < UDP_HEADER) return undefined;
  const length = get16(bytes, at + 4);
  if (length < UDP_HEADER || length > available) return undefined;
  // A field of 0 says that the sender made no checksum.
  if (verify && get16(bytes, at + 6) !== 0) {
    const pseudo = pseudoHeaderSum(frame.source, frame.destination, PROTOCOL_UDP, length);
    const sum = sumBytes(bytes, at, at + length) + pseudo;
    if ((sum & 0xffff) + (sum >>> 16) !== 0xffff) return undefined;
  }
  const sourcePort = get16(bytes, at);
  const destinationPort = get16(bytes, at + 2);
  if (sourcePort === 0 || destinationPort === 0) return undefined;
  return { sourcePort, destinationPort, start: at + UDP_HEADER, end: at + length };
}

const scratch = new Uint8Array(LONGEST_DATAGRAM);

/** Sends a datagram to the guest; `mac` if its address is not to be looked up. What is too long for UDP is dropped. */
export function sendDatagram(
  link: Link,
  from: { address: number; port: number },
  to: { address: number; port: number },
  payload: Uint8Array,
  mac?: Uint8Array,
): void {
  const length = UDP_HEADER + payload.length;
  if (length > LONGEST_DATAGRAM) return;
  put16(scratch, 0, from.port);
  put16(scratch, 2, to.port);
  put16(scratch, 4, length);
  put16(scratch, 6, 0);
  scratch.set(payload, UDP_HEADER);
  const sum = sumBytes(scratch, 0, length) + pseudoHeaderSum(from.address, to.address, PROTOCOL_UDP, length);
  // 0 would mean "no checksum"; its other representation is all ones.
  put16(scratch, 6, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff || 0xffff);
  link.sendIpv4(PROTOCOL_UDP, from.address, to.address, scratch.subarray(0, length), mac);
}

/** Where the datagrams of a flow go on the host. */
interface Transport {
  send(bytes: Uint8Array): void;
  close(): void;
}

/** Datagrams between one socket of the guest and one remote one. */
class UdpFlow implements Expiring {
  deadline = 0;
  transport: Transport | undefined;
  readonly guestAddress: number;
  readonly guestPort: number;
  readonly remoteAddress: number;
  readonly remotePort: number;
  readonly #nat: UdpNat;

  constructor(nat: UdpNat, guest: { address: number; port: number }, remote: { address: number; port: number }) {
    this.#nat = nat;
    this.guestAddress = guest.address;
    this.guestPort = guest.port;
    this.remoteAddress = remote.address;
    this.remotePort = remote.port;
  }

  expire(): void {
    this.#nat.remove(this);
  }

  message(bytes: Uint8Array): void {
    this.#nat.toGuest(this, bytes);
  }

  error(code: string): void {
    this.#nat.unreachable(this, code);
  }
}

/** UDP between the guest and sockets of the host. */
export class UdpNat {
  readonly #context: Context;
  readonly #flows = new FlowTable<UdpFlow>();

  constructor(context: Context) {
    this.#context = context;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** A datagram to anything but our own servers. */
  handle(frame: GuestFrame, datagram: Datagram): void {
    const { source, destination } = frame;
    let flow = this.#flows.get(source, datagram.sourcePort, destination, datagram.destinationPort);
    if (!flow) {
      const to = hostEndpoint(this.#context, destination, datagram.destinationPort);
      if (!to) {
        sendUnreachable(this.#context.link, PROHIBITED, quote(frame), source);
        return;
      }
      const guest = { address: source, port: datagram.sourcePort };
      flow = this.#add(new UdpFlow(this, guest, { address: destination, port: datagram.destinationPort }));
      flow.transport = this.#context.sockets.connectDatagram(to, flow);
    }
    this.#used(flow);
    flow.transport?.send(frame.bytes.slice(datagram.start, datagram.end));
  }

  /** Listens on the host and passes datagrams on to the guest, for which they come from the gateway. */
  async forward(rule: PortForward): Promise<Listener> {
    const peers = new Map<string, UdpFlow>();
    const listener = await this.#context.sockets.bindDatagram(
      { address: rule.hostAddress ?? '127.0.0.1', port: rule.hostPort },
      {
        message: (bytes, from) => {
          const key = `${from.address} ${from.port}`;
          let flow = peers.get(key);
          if (!flow) {
            const port = this.#freePort(rule.guestPort, from.port);
            if (port === undefined) return;
            const peer: Endpoint = { address: from.address, port: from.port };
            flow = this.#add(new UdpFlow(this, { address: GUEST, port: rule.guestPort }, { address: GATEWAY, port }));
            flow.transport = { send: answer => listener.send(answer, peer), close: () => peers.delete(key) };
            peers.set(key, flow);
          }
          this.toGuest(flow, bytes);
        },
        error: () => undefined, // of one answer to one peer: lost
      },
    );
    return listener;
  }

  toGuest(flow: UdpFlow, bytes: Uint8Array): void {
    const { link } = this.#context;
    this.#used(flow);
    if (!link.knows(flow.guestAddress)) askArp(flow.guestAddress, link);
    const from = { address: flow.remoteAddress, port: flow.remotePort };
    sendDatagram(link, from, { address: flow.guestAddress, port: flow.guestPort }, bytes);
  }

  /** The host could not deliver a datagram: the guest gets what a router would send (RFC 1122 section 4.1.3.3). */
  unreachable(flow: UdpFlow, error: string): void {
    const code = unreachableCode(error);
    if (code === undefined) return;
    // Which datagram it was is not known.
    const quoted = quoteFlow({
      protocol: PROTOCOL_UDP,
      source: flow.guestAddress,
      destination: flow.remoteAddress,
      sourcePort: flow.guestPort,
      destinationPort: flow.remotePort,
      word: UDP_HEADER << 16,
    });
    sendUnreachable(this.#context.link, code, quoted, flow.guestAddress);
  }

  remove(flow: UdpFlow): void {
    this.#flows.delete(flow.guestAddress, flow.guestPort, flow.remoteAddress, flow.remotePort);
    this.#context.deadlines.delete(flow);
    flow.transport?.close();
    flow.transport = undefined;
  }

  close(): void {
    for (const flow of [...this.#flows]) this.remove(flow);
  }

  #add(flow: UdpFlow): UdpFlow {
    if (this.#flows.size >= FLOWS) {
      let oldest = flow;
      oldest.deadline = Number.POSITIVE_INFINITY;
      for (const f of this.#flows) if (f.deadline < oldest.deadline) oldest = f;
      this.remove(oldest);
    }
    this.#flows.set(flow.guestAddress, flow.guestPort, flow.remoteAddress, flow.remotePort, flow);
    this.#used(flow);
    this.#context.deadlines.add(flow);
    return flow;
  }

  #used(flow: UdpFlow): void {
    flow.deadline = this.#context.scheduler.now() + IDLE_MS;
  }

  /** A port of the gateway for a peer of a forwarded one: its own, if no other peer has the same. */
  #freePort(guestPort: number, wanted: number): number | undefined {
    let port = wanted;
    for (let tries = 0; tries < FLOWS; tries++) {
      if (port !== 0 && !this.#flows.get(GUEST, guestPort, GATEWAY, port)) return port;
      port = 49_152 + (this.#context.random() & 0x3fff);
    }
    return undefined;
  }
}
