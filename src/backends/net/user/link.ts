import {
  type FrameInfo,
  type FrameReceiver,
  PLAIN_FRAME,
  type ReceiveOffloads,
} from '../../../devices/virtio/net/backend.ts';
import { GATEWAY_MAC, LIMITED_BROADCAST, put16, put32 } from './addresses.ts';
import { checksum } from './checksum.ts';
import { ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4 } from './frame.ts';

/** A sender that waits for room in the guest's receive ring. */
export interface Waiting {
  /** There may be room; takes its place again by {@link Link.wait} if that was not enough. */
  roomAvailable(): void;
}

const IP_HEADER = 20;
const NO_OFFLOADS: ReceiveOffloads = { checksum: false, tso4: false };

/** The cable to the guest: frames for it, and the MAC addresses of its IP addresses. */
export class Link {
  /** Largest IP packet in bytes. */
  readonly mtu: number;
  accepts: ReceiveOffloads = NO_OFFLOADS;
  #receive: FrameReceiver | undefined;
  /** The ring was full; nothing is offered until it has room, so that one connection does not overtake another. */
  #blocked = false;
  /** In order of arrival: each gets its turn. */
  readonly #waiting = new Set<Waiting>();
  /** MAC addresses by the last byte of the IP address. */
  readonly #macs = new Uint8Array(256 * 6);
  readonly #known = new Uint8Array(256);
  readonly #header = new Uint8Array(ETHERNET_HEADER + IP_HEADER);
  readonly #pieces: [Uint8Array, Uint8Array] = [this.#header, this.#header];
  #identification = 0;

  constructor(mtu: number) {
    this.mtu = mtu;
    writeEthernet(this.#header, ETHERTYPE_IPV4);
  }

  start(receive: FrameReceiver, accepts: ReceiveOffloads): void {
    this.#receive = receive;
    this.accepts = accepts;
    this.roomAvailable();
  }

  stop(): void {
    this.#receive = undefined;
    this.accepts = NO_OFFLOADS;
  }

  /** The guest had no room for the last frame. */
  get blocked(): boolean {
    return this.#blocked || !this.#receive;
  }

  /** The next frames are offered to the guest again, whatever became of the last one. */
  unblock(): void {
    this.#blocked = false;
  }

  /** The guest's ring has room again. */
  roomAvailable(): void {
    this.#blocked = false;
    // Those that do not get through come back behind those that were not asked.
    for (let n = this.#waiting.size; n > 0 && !this.#blocked; n--) {
      const [first] = this.#waiting;
      if (!first) return;
      this.#waiting.delete(first);
      first.roomAvailable();
    }
  }

  wait(sender: Waiting): void {
    this.#waiting.add(sender);
  }

  forget(sender: Waiting): void {
    this.#waiting.delete(sender);
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Gives a frame to the guest; false if it has no room. */
  emit(frame: Uint8Array | readonly Uint8Array[], info: FrameInfo): boolean {
    if (this.#blocked || !this.#receive) return false;
    const taken = this.#receive(frame, info);
    if (!taken) this.#blocked = true;
    return taken;
  }

  /** Notes who has an address of the guest's side; `mac` is 6 bytes at `at`. */
  learn(address: number, mac: Uint8Array, at: number): void {
    const host = address & 255;
    this.#known[host] = 1;
    for (let i = 0; i < 6; i++) this.#macs[host * 6 + i] = mac[at + i]!;
  }

  /** Whether the guest uses an address of the subnet. */
  knows(address: number): boolean {
    return this.#known[address & 255] === 1;
  }

  /** Writes the MAC address that belongs to `address` to a frame's destination field; false if it is not known. */
  writeDestination(frame: Uint8Array, address: number): boolean {
    if (address === LIMITED_BROADCAST) {
      frame.fill(0xff, 0, 6);
      return true;
    }
    const host = address & 255;
    if (!this.#known[host]) return false;
    for (let i = 0; i < 6; i++) frame[i] = this.#macs[host * 6 + i]!;
    return true;
  }

  /**
   * Sends an IPv4 packet with `payload`, in fragments if it is larger than the MTU (RFC 791 section 3.2). What finds no room or
   * nobody with that address is lost, as on any cable. `mac` overrides who gets it.
   */
  sendIpv4(protocol: number, source: number, destination: number, payload: Uint8Array, mac?: Uint8Array): void {
    const header = this.#header;
    if (mac) header.set(mac, 0);
    else if (!this.writeDestination(header, destination)) return;
    this.#identification = (this.#identification + 1) & 0xffff;
    const largest = (this.mtu - IP_HEADER) & ~7;
    const whole = payload.length <= this.mtu - IP_HEADER;
    for (let at = 0; at === 0 || at < payload.length; at += largest) {
      const end = whole ? payload.length : Math.min(payload.length, at + largest);
      const more = end < payload.length ? 0x2000 : 0;
      writeIpv4(header, { protocol, source, destination, length: IP_HEADER + end - at });
      put16(header, ETHERNET_HEADER + 4, this.#identification);
      put16(header, ETHERNET_HEADER + 6, more | (at >> 3));
      put16(header, ETHERNET_HEADER + 10, 0);
      put16(header, ETHERNET_HEADER + 10, checksum(header, ETHERNET_HEADER, ETHERNET_HEADER + IP_HEADER));
      this.#pieces[1] = whole ? payload : payload.subarray(at, end);
      if (!this.emit(this.#pieces, PLAIN_FRAME)) break;
      if (whole) break;
    }
    this.#pieces[1] = header;
  }

  /** Sends an ARP packet of 28 bytes; without `mac` to all. */
  sendArp(packet: Uint8Array, mac?: Uint8Array): void {
    const frame = new Uint8Array(ETHERNET_HEADER + packet.length);
    writeEthernet(frame, ETHERTYPE_ARP);
    if (mac) frame.set(mac, 0);
    else frame.fill(0xff, 0, 6);
    frame.set(packet, ETHERNET_HEADER);
    this.emit(frame, PLAIN_FRAME);
  }
}

/** Writes source address and type of an Ethernet header. */
export function writeEthernet(frame: Uint8Array, etherType: number): void {
  frame.set(GATEWAY_MAC, 6);
  put16(frame, 12, etherType);
}

/** Writes an IPv4 header without options behind an Ethernet header; its checksum is left 0. `length` is Total Length. */
export function writeIpv4(
  frame: Uint8Array,
  ip: { protocol: number; source: number; destination: number; length: number },
): void {
  const at = ETHERNET_HEADER;
  frame.fill(0, at, at + IP_HEADER);
  frame[at] = 0x45;
  put16(frame, at + 2, ip.length);
  frame[at + 8] = 64;
  frame[at + 9] = ip.protocol;
  put32(frame, at + 12, ip.source);
  put32(frame, at + 16, ip.destination);
}
