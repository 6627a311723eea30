import { get16, get32 } from './addresses.ts';
import { pseudoHeaderSum } from './checksum.ts';
import { type GuestFrame, PROTOCOL_TCP } from './frame.ts';

// Control bits (RFC 9293 section 3.1).
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

/** Bytes of a TCP header without options. */
export const TCP_HEADER = 20;

const OPTION_END = 0;
const OPTION_NOP = 1;
export const OPTION_MSS = 2;
export const OPTION_WINDOW_SCALE = 3;

/** MSS of a peer that does not say (RFC 9293 section 3.7.1). */
const DEFAULT_MSS = 536;
/** A smaller one costs more than it can be worth, and is only seen in attacks. */
const SMALLEST_MSS = 64;
/** RFC 7323 section 2.3. */
const LARGEST_SHIFT = 14;

/** Distance from `b` to `a` in the sequence space, negative if `a` is before `b` (RFC 9293 section 3.4). */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}

/** `seq` plus `n`, modulo 2^32. */
export function seqAdd(seq: number, n: number): number {
  return (seq + n) >>> 0;
}

/** A segment from the guest. One object serves all; it is valid until the next frame. */
export class Segment {
  sourcePort = 0;
  destinationPort = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  /** As in the header, not scaled. */
  window = 0;
  /** Where the payload is in the frame. */
  start = 0;
  end = 0;
  readonly frame: GuestFrame;

  constructor(frame: GuestFrame) {
    this.frame = frame;
  }

  /** Payload bytes. */
  get length(): number {
    return this.end - this.start;
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** Reads the segment in the frame, which is parsed as IPv4; false if it must be dropped. */
  parse(verify: boolean): boolean {
    const { frame } = this;
    const { bytes, payloadStart: at, payloadEnd } = frame;
    if (payloadEnd - at < TCP_HEADER) return false;
    const headerLength = (bytes[at + 12]! >> 4) * 4;
    if (headerLength < TCP_HEADER || at + headerLength > payloadEnd) return false;
    if (verify) {
      const pseudo = pseudoHeaderSum(frame.source, frame.destination, PROTOCOL_TCP, payloadEnd - at);
      const sum = frame.sum(at, payloadEnd) + pseudo;
      if ((sum & 0xffff) + (sum >>> 16) !== 0xffff) return false;
    }
    this.sourcePort = get16(bytes, at);
    this.destinationPort = get16(bytes, at + 2);
    this.seq = get32(bytes, at + 4);
    this.ack = get32(bytes, at + 8);
    this.flags = bytes[at + 13]!;
    this.window = get16(bytes, at + 14);
    this.start = at + headerLength;
    this.end = payloadEnd;
    return this.sourcePort !== 0 && this.destinationPort !== 0;
  }

  /** MSS and window scale of a SYN, made harmless; no scale if the guest does not offer one. */
  options(): { mss: number; shift: number | undefined } {
    const { bytes, payloadStart } = this.frame;
    let mss = DEFAULT_MSS;
    let shift: number | undefined;
    let at = payloadStart + TCP_HEADER;
    while (at < this.start) {
      const kind = bytes[at]!;
      if (kind === OPTION_END) break;
      if (kind === OPTION_NOP) {
        at++;
        continue;
      }
      const length = at + 1 < this.start ? bytes[at + 1]! : 0;
      if (length < 2 || at + length > this.start) break;
      if (kind === OPTION_MSS && length === 4) mss = Math.max(SMALLEST_MSS, get16(bytes, at + 2));
      if (kind === OPTION_WINDOW_SCALE && length === 3) shift = Math.min(LARGEST_SHIFT, bytes[at + 2]!);
      at += length;
    }
    return { mss, shift };
  }
}
