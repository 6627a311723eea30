import { GATEWAY, NAMESERVER, put16, put32 } from './addresses.ts';
import { checksum } from './checksum.ts';
import { ETHERNET_HEADER, type GuestFrame, PROTOCOL_ICMP } from './frame.ts';
import type { Link } from './link.ts';

const ECHO_REPLY = 0;
const DESTINATION_UNREACHABLE = 3;
const ECHO_REQUEST = 8;
const TIME_EXCEEDED = 11;

/** Why a destination cannot be reached (RFC 792; 13 is RFC 1812 section 5.2.7.1). */
export const NET_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PROTOCOL_UNREACHABLE = 2;
export const PORT_UNREACHABLE = 3;
export const PROHIBITED = 13;

/** Bytes of the packet's payload that an error quotes; receivers find the socket by the first 8. */
const QUOTED = 8;

/**
 * Answers echo requests to the gateway and the name server (RFC 792). Others cannot be passed on: that needs a raw socket, and
 * the guest is told so instead of waiting for an answer.
 */
export function handleIcmp(frame: GuestFrame, link: Link): void {
  frame.gather();
  const { bytes, payloadStart, payloadEnd } = frame;
  if (payloadEnd - payloadStart < 8 || bytes[payloadStart] !== ECHO_REQUEST || bytes[payloadStart + 1] !== 0) return;
  if (checksum(bytes, payloadStart, payloadEnd) !== 0) return;
  if (frame.destination !== GATEWAY && frame.destination !== NAMESERVER) {
    sendUnreachable(link, PROHIBITED, quote(frame), frame.source);
    return;
  }
  const reply = bytes.slice(payloadStart, payloadEnd);
  reply[0] = ECHO_REPLY;
  put16(reply, 2, 0);
  put16(reply, 2, checksum(reply, 0, reply.length));
  link.sendIpv4(PROTOCOL_ICMP, frame.destination, frame.source, reply);
}

/** What an error quotes of the packet in `frame`: its IP header and the first bytes behind. */
export function quote(frame: GuestFrame): Uint8Array {
  return frame.bytes.slice(ETHERNET_HEADER, Math.min(frame.payloadEnd, frame.payloadStart + QUOTED));
}

/**
 * The same for a packet that is not at hand any more: receivers look at addresses, ports, and TCP's sequence number. `word` is what
 * follows the ports, 4 bytes.
 */
export function quoteFlow(flow: {
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly word: number;
}): Uint8Array {
  const quoted = new Uint8Array(20 + QUOTED);
  quoted[0] = 0x45;
  put16(quoted, 2, 40);
  quoted[8] = 64;
  quoted[9] = flow.protocol;
  put32(quoted, 12, flow.source);
  put32(quoted, 16, flow.destination);
  put16(quoted, 10, checksum(quoted, 0, 20));
  put16(quoted, 20, flow.sourcePort);
  put16(quoted, 22, flow.destinationPort);
  put32(quoted, 24, flow.word);
  return quoted;
}

/**
 * Sends Destination Unreachable with `code` to the guest at `to`. There is no answer to an answer: the caller makes sure that
 * `quoted` is no ICMP error itself and went to one host (RFC 1122 section 3.2.2).
 */
export function sendUnreachable(link: Link, code: number, quoted: Uint8Array, to: number): void {
  sendError(link, DESTINATION_UNREACHABLE, code, quoted, to);
}

/** Sends Time Exceeded: the packet's time to live ended at the gateway. */
export function sendTimeExceeded(link: Link, quoted: Uint8Array, to: number): void {
  sendError(link, TIME_EXCEEDED, 0, quoted, to);
}

/** The code of an error of the host's sockets, or undefined where it says nothing about the way. */
export function unreachableCode(error: string): number | undefined {
  switch (error) {
    case 'ECONNREFUSED':
      return PORT_UNREACHABLE;
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return NET_UNREACHABLE;
    case 'EHOSTUNREACH':
    case 'EHOSTDOWN':
    case 'ETIMEDOUT':
      return HOST_UNREACHABLE;
    case 'EACCES':
    case 'EPERM':
      return PROHIBITED;
    default:
      return undefined;
  }
}

function sendError(link: Link, type: number, code: number, quoted: Uint8Array, to: number): void {
  const packet = new Uint8Array(8 + quoted.length);
  packet[0] = type;
  packet[1] = code;
  packet.set(quoted, 8);
  put16(packet, 2, checksum(packet, 0, packet.length));
  link.sendIpv4(PROTOCOL_ICMP, GATEWAY, to, packet);
}
