/** struct virtio_net_hdr, which travels in front of each frame (virtio 1.2 section 5.1.6); also what a TAP device uses. */

import { type FrameInfo, PLAIN_FRAME, type ReceiveOffloads } from './backend.ts';
import * as R from './regs.ts';

/** Bytes of the header without num_buffers: that of TAP devices, and of legacy drivers without mergeable buffers. */
export const SHORT_HEADER_SIZE = 10;
/** Bytes of the header with num_buffers (section 5.1.6.1). */
export const HEADER_SIZE = 12;

/** Bytes of an Ethernet header; anything shorter is no frame. */
export const SHORTEST_FRAME = 14;
/** An IP packet of 64 KiB in an Ethernet frame: more than any offload gives or takes (section 5.1.6.3.1). */
export const LONGEST_FRAME = 65_550;

/** Bytes of the longest TCP header. */
const LONGEST_TCP_HEADER = 60;

const GSO_TYPES: ReadonlyMap<number, FrameInfo['gso']> = new Map([
  [R.VIRTIO_NET_HDR_GSO_NONE, 'none'],
  [R.VIRTIO_NET_HDR_GSO_TCPV4, 'tcp4'],
  [R.VIRTIO_NET_HDR_GSO_UDP, 'udp'],
  [R.VIRTIO_NET_HDR_GSO_TCPV6, 'tcp6'],
]);
const GSO_NUMBERS: ReadonlyMap<FrameInfo['gso'], number> = new Map([...GSO_TYPES].map(([n, name]) => [name, n]));

/**
 * What a header says about its frame; undefined for a gso_type that has no meaning without features that nobody offers here.
 * Unknown flags are ignored (section 5.1.6.2.2). hdr_len is a hint that nothing needs.
 */
export function parseHeader(header: Uint8Array): FrameInfo | undefined {
  const needsChecksum = (header[0]! & R.VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
  const gso = GSO_TYPES.get(header[1]!);
  if (gso === 'none' && !needsChecksum) return PLAIN_FRAME;
  if (gso === undefined) return undefined;
  return {
    needsChecksum,
    checksumStart: needsChecksum ? le16(header, 6) : 0,
    checksumOffset: needsChecksum ? le16(header, 8) : 0,
    gso,
    segmentSize: gso === 'none' ? 0 : le16(header, 4),
  };
}

/**
 * Writes the header of a frame of `frameLength` bytes that goes into `buffers` buffers. `header` has {@link HEADER_SIZE} or
 * {@link SHORT_HEADER_SIZE} bytes; the short one has no place for the number of buffers.
 */
export function formatHeader(header: Uint8Array, info: FrameInfo, frameLength: number, buffers = 1): void {
  header.fill(0);
  if (info.needsChecksum) {
    header[0] = R.VIRTIO_NET_HDR_F_NEEDS_CSUM;
    setLe16(header, 6, info.checksumStart);
    setLe16(header, 8, info.checksumOffset);
  }
  if (info.gso !== 'none') {
    header[1] = GSO_NUMBERS.get(info.gso)!;
    // Not less than the headers with the transport's (section 5.1.6.4.1), of which this is the longest.
    setLe16(header, 2, Math.min(frameLength, info.checksumStart + LONGEST_TCP_HEADER));
    setLe16(header, 4, info.segmentSize);
  }
  if (header.length >= HEADER_SIZE) setLe16(header, 10, buffers);
}

/**
 * Whether a frame of `length` bytes makes sense with its header, and asks for nothing that was not agreed upon: sections
 * 5.1.6.2.1 for frames from the driver and 5.1.6.4.1 for those to it.
 */
export function isAcceptable(info: FrameInfo, length: number, agreed: ReceiveOffloads): boolean {
  if (length < SHORTEST_FRAME || length > LONGEST_FRAME) return false;
  if (info.needsChecksum) {
    if (!agreed.checksum || info.checksumStart + info.checksumOffset + 2 > length) return false;
  }
  if (info.gso === 'none') return true;
  // The checksum of a frame that will be cut is always a partial one.
  return info.gso === 'tcp4' && agreed.tso4 && info.needsChecksum && info.segmentSize > 0;
}

function le16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function setLe16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >> 8;
}
