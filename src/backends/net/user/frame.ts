import { get16, get32 } from './addresses.ts';
import { fold, sumBytes, swap } from './checksum.ts';

/** Bytes of an Ethernet header without VLAN tag; its types, and the protocols of IPv4 that are known here. */
export const ETHERNET_HEADER = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

/** Ethernet, and IPv4 and TCP with all the options that fit their length fields. */
const LONGEST_HEADERS = ETHERNET_HEADER + 60 + 60;
/** The longest IPv4 packet in a frame, with room for what a sender may have padded. */
const LONGEST_FRAME = ETHERNET_HEADER + 65535 + 4;

/**
 * A frame from the guest. Its headers are copied, so that other CPUs of the guest cannot change them after they were checked;
 * its payload stays where it is and is copied once, to where it goes. One object serves all frames: nothing of it may be
 * kept.
 */
export class GuestFrame {
  /** The first bytes of the frame, {@link available} of them valid. */
  readonly bytes = new Uint8Array(LONGEST_HEADERS + 65535);
  /** Valid bytes in {@link bytes}; all of the frame after {@link gather}. */
  available = 0;
  /** Bytes of the frame. */
  length = 0;
  #pieces: readonly Uint8Array[] = [];

  // IPv4, after parseIpv4().
  protocol = 0;
  source = 0;
  destination = 0;
  timeToLive = 0;
  identification = 0;
  /** Offset of this fragment in bytes. */
  fragmentOffset = 0;
  moreFragments = false;
  /** Where the IP packet's payload starts and ends in the frame. */
  payloadStart = 0;
  payloadEnd = 0;

  /** Takes a frame; false if it is too short or too long to be one. */
  load(pieces: readonly Uint8Array[]): boolean {
    let length = 0;
    for (const p of pieces) length += p.length;
    this.length = length;
    this.available = 0;
    this.#pieces = pieces;
    if (length < ETHERNET_HEADER || length > LONGEST_FRAME) return false;
    this.#fill(LONGEST_HEADERS);
    return true;
  }

  /** Takes a complete IPv4 packet (without a header of Ethernet's) that was put together from fragments of this one. */
  replacePayload(payload: Uint8Array): void {
    this.length = this.payloadStart + payload.length;
    this.payloadEnd = this.length;
    this.bytes.set(payload, this.payloadStart);
    this.available = this.length;
    this.fragmentOffset = 0;
    this.moreFragments = false;
    this.#pieces = [];
  }

  /** Lets go of the guest's memory. */
  unload(): void {
    this.#pieces = [];
  }

  get etherType(): number {
    return get16(this.bytes, 12);
  }

  /** Makes all of the frame available in {@link bytes}. */
  gather(): void {
    this.#fill(this.length);
  }

  /** Reads and checks the IPv4 header (RFC 791 section 3.1); false if the packet must be dropped. */
  parseIpv4(): boolean {
    const { bytes } = this;
    const ip = ETHERNET_HEADER;
    if (this.length < ip + 20) return false;
    const headerLength = (bytes[ip]! & 15) * 4;
    const totalLength = get16(bytes, ip + 2);
    if (bytes[ip]! >> 4 !== 4 || headerLength < 20 || totalLength < headerLength) return false;
    // What follows the packet is padding to Ethernet's minimum.
    if (ip + totalLength > this.length) return false;
    if (sumBytes(bytes, ip, ip + headerLength) !== 0xffff) return false;
    const fragment = get16(bytes, ip + 6);
    this.identification = get16(bytes, ip + 4);
    this.fragmentOffset = (fragment & 0x1fff) * 8;
    this.moreFragments = (fragment & 0x2000) !== 0;
    this.timeToLive = bytes[ip + 8]!;
    this.protocol = bytes[ip + 9]!;
    this.source = get32(bytes, ip + 12);
    this.destination = get32(bytes, ip + 16);
    this.payloadStart = ip + headerLength;
    this.payloadEnd = ip + totalLength;
    return true;
  }

  /** One's complement sum of `[start, end)`, in network order as seen from `start`. */
  sum(start: number, end: number): number {
    const inCopy = Math.min(end, this.available);
    let total = start < inCopy ? sumBytes(this.bytes, start, inCopy) : 0;
    let at = Math.max(start, inCopy);
    let pieceStart = 0;
    for (const p of this.#pieces) {
      if (at >= end) break;
      const pieceEnd = pieceStart + p.length;
      if (at < pieceEnd) {
        const stop = Math.min(end, pieceEnd);
        const s = sumBytes(p, at - pieceStart, stop - pieceStart);
        total += (at - start) & 1 ? swap(s) : s;
        at = stop;
      }
      pieceStart = pieceEnd;
    }
    return fold(total);
  }

  /** Copies `[start, end)` to `target` at `at`. */
  copy(start: number, end: number, target: Uint8Array, at: number): void {
    let from = start;
    let to = at;
    const inCopy = Math.min(end, this.available);
    if (from < inCopy) {
      target.set(this.bytes.subarray(from, inCopy), to);
      to += inCopy - from;
      from = inCopy;
    }
    let pieceStart = 0;
    for (const p of this.#pieces) {
      if (from >= end) break;
      const pieceEnd = pieceStart + p.length;
      if (from < pieceEnd) {
        const stop = Math.min(end, pieceEnd);
        const whole = from === pieceStart && stop === pieceEnd;
        target.set(whole ? p : p.subarray(from - pieceStart, stop - pieceStart), to);
        to += stop - from;
        from = stop;
      }
      pieceStart = pieceEnd;
    }
  }

  #fill(wanted: number): void {
    const end = Math.min(this.length, wanted);
    if (end <= this.available) return;
    this.copy(this.available, end, this.bytes, this.available);
    this.available = end;
  }
}
