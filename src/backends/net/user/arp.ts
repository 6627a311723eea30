import { GATEWAY, GATEWAY_MAC, GUEST, get16, get32, isGuestAddress, NAMESERVER, put16, put32 } from './addresses.ts';
import { ETHERNET_HEADER, type GuestFrame } from './frame.ts';
import type { Link } from './link.ts';

const PACKET = 28;
const REQUEST = 1;
const REPLY = 2;

/**
 * Answers ARP (RFC 826). All of the subnet but the guest's own addresses is behind our MAC address. Probes for a free address
 * (RFC 5227 section 2.1.1: no sender address) are answered for the two that are taken only, or no guest could choose one;
 * announcements (section 2.3: sender and target are the same) never.
 */
export function handleArp(frame: GuestFrame, link: Link): void {
  const { bytes } = frame;
  const at = ETHERNET_HEADER;
  if (frame.length < at + PACKET) return;
  // Ethernet and IPv4, with their address lengths.
  if (get16(bytes, at) !== 1 || get16(bytes, at + 2) !== 0x0800 || get16(bytes, at + 4) !== 0x0604) return;
  const sender = get32(bytes, at + 14);
  const target = get32(bytes, at + 24);
  if (isGuestAddress(sender)) link.learn(sender, bytes, at + 8);
  if (get16(bytes, at + 6) !== REQUEST || sender === target) return;
  const ours = target === GATEWAY || target === NAMESERVER;
  if (!ours && (sender === 0 || !isGuestAddress(target) || target === GUEST || link.knows(target))) return;
  const reply = arpPacket(REPLY, target, sender);
  reply.set(bytes.subarray(at + 8, at + 14), 18);
  link.sendArp(reply, bytes.slice(6, 12));
}

/** Asks who has an address of the guest's side. */
export function askArp(address: number, link: Link): void {
  link.sendArp(arpPacket(REQUEST, GATEWAY, address));
}

function arpPacket(operation: number, sender: number, target: number): Uint8Array {
  const packet = new Uint8Array(PACKET);
  put16(packet, 0, 1);
  put16(packet, 2, 0x0800);
  put16(packet, 4, 0x0604);
  put16(packet, 6, operation);
  packet.set(GATEWAY_MAC, 8);
  put32(packet, 14, sender);
  put32(packet, 24, target);
  return packet;
}
