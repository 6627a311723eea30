import { type FrameInfo, PLAIN_FRAME } from '../../../devices/virtio/net/backend.ts';
import { put16, put32 } from './addresses.ts';
import { fold, pseudoHeaderSum, sumBytes, swap } from './checksum.ts';
import { ETHERNET_HEADER, ETHERTYPE_IPV4, PROTOCOL_TCP } from './frame.ts';
import { type Link, writeEthernet, writeIpv4 } from './link.ts';
import { OPTION_MSS, OPTION_WINDOW_SCALE, TCP_HEADER } from './tcp-segment.ts';

const IP = ETHERNET_HEADER;
const TCP = IP + 20;
const OPTIONS = TCP + TCP_HEADER;
/** MSS, window scale, and one byte to fill a word. */
const SYN_OPTIONS = 8;
/** Don't Fragment: with it, Identification may stay 0 (RFC 6864 section 4.1). */
const DF = 0x4000;

const CHECKSUM_OFFLOADED: FrameInfo = {
  needsChecksum: true,
  checksumStart: TCP,
  checksumOffset: 16,
  gso: 'none',
  segmentSize: 0,
};

/** What differs between the segments of a connection. */
export interface SegmentFields {
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  /** As in the header. */
  readonly window: number;
  /** Options of a SYN. */
  readonly syn?: { readonly mss: number; readonly shift: number | undefined };
}

/** The headers of one connection's segments to the guest, made once and completed for each. */
export class TcpPacket {
  /** Payload of the segment that is being made: to be filled before {@link send}. */
  readonly payload: Uint8Array[] = [];
  readonly #link: Link;
  readonly #guest: number;
  readonly #remote: number;
  readonly #bytes = new Uint8Array(OPTIONS + SYN_OPTIONS);
  readonly #header = this.#bytes.subarray(0, OPTIONS);
  readonly #ipSum: number;
  readonly #largeInfo: FrameInfo;
  readonly #mss: number;

  /** `mss`: payload bytes beyond which a segment is given as a large frame. */
  constructor(link: Link, remote: [number, number], guest: [number, number], mss: number) {
    this.#link = link;
    this.#remote = remote[0];
    this.#guest = guest[0];
    this.#mss = mss;
    const bytes = this.#bytes;
    writeEthernet(bytes, ETHERTYPE_IPV4);
    writeIpv4(bytes, { protocol: PROTOCOL_TCP, source: remote[0], destination: guest[0], length: 0 });
    put16(bytes, IP + 6, DF);
    this.#ipSum = sumBytes(bytes, IP, TCP);
    put16(bytes, TCP, remote[1]);
    put16(bytes, TCP + 2, guest[1]);
    this.#largeInfo = { ...CHECKSUM_OFFLOADED, gso: 'tcp4', segmentSize: mss };
  }

  /** Gives a segment with {@link payload}, `length` bytes, to the guest and empties it; false if there is no room. */
  send(fields: SegmentFields, length: number): boolean {
    const { payload } = this;
    const sent = this.#send(fields, length);
    payload.length = 0;
    return sent;
  }

  #send(fields: SegmentFields, length: number): boolean {
    const link = this.#link;
    const bytes = this.#bytes;
    if (!link.writeDestination(bytes, this.#guest)) return false;
    const headerLength = TCP_HEADER + (fields.syn ? this.#writeOptions(fields.syn) : 0);
    const tcpLength = headerLength + length;
    put16(bytes, IP + 2, 20 + tcpLength);
    put16(bytes, IP + 10, ~fold(this.#ipSum + 20 + tcpLength));
    put32(bytes, TCP + 4, fields.seq);
    put32(bytes, TCP + 8, fields.ack);
    bytes[TCP + 12] = (headerLength / 4) << 4;
    bytes[TCP + 13] = fields.flags;
    put16(bytes, TCP + 14, fields.window);
    const pseudo = pseudoHeaderSum(this.#remote, this.#guest, PROTOCOL_TCP, tcpLength);
    const header = fields.syn ? bytes.subarray(0, TCP + headerLength) : this.#header;
    const offloaded = link.accepts.checksum;
    if (offloaded) put16(bytes, TCP + 16, pseudo);
    else {
      put16(bytes, TCP + 16, 0);
      put16(bytes, TCP + 16, ~fold(pseudo + sumBytes(bytes, TCP, TCP + headerLength) + this.#payloadSum()));
    }
    let info = offloaded ? CHECKSUM_OFFLOADED : PLAIN_FRAME;
    if (length > this.#mss) info = this.#largeInfo;
    if (length === 0) return link.emit(header, info);
    this.payload.unshift(header);
    return link.emit(this.payload, info);
  }

  #payloadSum(): number {
    let sum = 0;
    let odd = false;
    for (const p of this.payload) {
      const s = sumBytes(p, 0, p.length);
      sum += odd ? swap(s) : s;
      odd = odd !== ((p.length & 1) === 1);
    }
    return fold(sum);
  }

  #writeOptions(syn: { readonly mss: number; readonly shift: number | undefined }): number {
    const bytes = this.#bytes;
    bytes[OPTIONS] = OPTION_MSS;
    bytes[OPTIONS + 1] = 4;
    put16(bytes, OPTIONS + 2, syn.mss);
    if (syn.shift === undefined) return 4;
    bytes[OPTIONS + 4] = 1;
    bytes[OPTIONS + 5] = OPTION_WINDOW_SCALE;
    bytes[OPTIONS + 6] = 3;
    bytes[OPTIONS + 7] = syn.shift;
    return SYN_OPTIONS;
  }
}
