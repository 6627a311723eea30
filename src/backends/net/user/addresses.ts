/** The addresses of the user-mode network. They are those of QEMU's, so that guests prepared for it work unchanged. */

/** 10.0.2.0/24 */
export const NETWORK = 0x0a00_0200;
export const NETMASK = 0xffff_ff00;
/** 10.0.2.2: router, DHCP server, and the host itself. */
export const GATEWAY = 0x0a00_0202;
/** 10.0.2.3: forwards DNS. */
export const NAMESERVER = 0x0a00_0203;
/** 10.0.2.15: what DHCP gives the first network card, and where forwarded ports lead to. */
export const GUEST = 0x0a00_020f;
/** 10.0.2.255 */
export const SUBNET_BROADCAST = 0x0a00_02ff;
/** 255.255.255.255 */
export const LIMITED_BROADCAST = 0xffff_ffff;

/** MAC address of everything that is not the guest: locally administered (IEEE 802 section 8.2.2), the gateway's IP address in it. */
export const GATEWAY_MAC: readonly number[] = [0x52, 0x55, 10, 0, 2, 2];

/** '10.0.2.2' for 0x0a000202. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Whether an address is in 10.0.2.0/24. */
export function inSubnet(address: number): boolean {
  return (address & NETMASK) >>> 0 === NETWORK;
}

/** Whether a guest may have this address: in the subnet, and neither ours nor one with a meaning of its own. */
export function isGuestAddress(address: number): boolean {
  const host = address & 255;
  return inSubnet(address) && host !== 0 && host !== 255 && address !== GATEWAY && address !== NAMESERVER;
}

/**
 * Whether a packet to this address may leave through a socket of the host. Not those that the host would take for itself
 * (0/8 and 127/8 are its loopback: only the gateway leads there, and only if allowed), nor multicast, nor class E
 * (RFC 6890).
 */
export function isOutside(address: number): boolean {
  const net = address >>> 24;
  return net !== 0 && net !== 127 && net < 224 && !inSubnet(address);
}

/** Reads a big-endian 16-bit number. */
export function get16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** Reads a big-endian 32-bit number, unsigned. */
export function get32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Writes the low 16 bits, big-endian. */
export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes the low 32 bits, big-endian. */
export function put32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
