import {
  GATEWAY,
  GUEST,
  get16,
  get32,
  isGuestAddress,
  LIMITED_BROADCAST,
  NAMESERVER,
  NETMASK,
  put16,
  put32,
  SUBNET_BROADCAST,
} from './addresses.ts';

// Message types (RFC 2132 section 9.6).
const DHCPDISCOVER = 1;
const DHCPOFFER = 2;
const DHCPREQUEST = 3;
const DHCPDECLINE = 4;
const DHCPACK = 5;
const DHCPNAK = 6;
const DHCPRELEASE = 7;
const DHCPINFORM = 8;

// Options (RFC 2132).
const OPTION_PAD = 0;
const OPTION_SUBNET_MASK = 1;
const OPTION_ROUTER = 3;
const OPTION_NAME_SERVER = 6;
const OPTION_HOST_NAME = 12;
const OPTION_MTU = 26;
const OPTION_BROADCAST = 28;
const OPTION_REQUESTED_ADDRESS = 50;
const OPTION_LEASE_TIME = 51;
const OPTION_MESSAGE_TYPE = 53;
const OPTION_SERVER = 54;
const OPTION_END = 255;

const COOKIE = 0x6382_5363;
/** Fixed part of a message, magic cookie included (RFC 2131 section 2). */
const FIXED = 240;
/** BOOTP's length (RFC 1542 section 2.1); some clients drop shorter messages. */
const SHORTEST_REPLY = 300;
const LEASE_SECONDS = 86_400;
/** Addresses from {@link GUEST} on, one for each MAC address. */
const LEASES = 16;

/** What the server tells its clients beside their address. */
export interface DhcpOptions {
  /** Interface MTU in bytes, option 26. */
  readonly mtu: number;
  /** Option 12; none if absent. */
  readonly hostname?: string;
}

/** An answer, and to whom it goes. */
export interface DhcpReply {
  /** The BOOTP message, without UDP header. */
  readonly message: Uint8Array;
  /** IP address to send it to: of the client, or 255.255.255.255. */
  readonly destination: number;
  /** The client's hardware address: it has no IP address that could be asked for by ARP. */
  readonly mac: Uint8Array;
}

/** DHCP server of the network (RFC 2131). The first client gets 10.0.2.15, the next ones the addresses behind it. */
export class DhcpServer {
  readonly #options: DhcpOptions;
  /** Leases by the client's MAC address; the longest unused one gives way to a new client. */
  readonly #leases = new Map<string, number>();

  constructor(options: DhcpOptions) {
    this.#options = options;
  }

  /** The answer to a message, or undefined where none is due. */
  handle(request: Uint8Array): DhcpReply | undefined {
    // BOOTREQUEST over Ethernet
    if (request.length < FIXED || request[0] !== 1 || request[1] !== 1 || request[2] !== 6) return undefined;
    if (get32(request, 236) !== COOKIE) return undefined;
    const options = parseOptions(request);
    const type = options.get(OPTION_MESSAGE_TYPE)?.[0];
    const server = addressOption(options.get(OPTION_SERVER));
    const mac = request.slice(28, 34);
    switch (type) {
      case DHCPDISCOVER:
        return this.#reply(request, DHCPOFFER, this.#lease(mac), mac);
      case DHCPREQUEST: {
        // Another server was chosen; there is none, but the guest may have one of its own.
        if (server !== undefined && server !== GATEWAY) return undefined;
        const wanted = addressOption(options.get(OPTION_REQUESTED_ADDRESS)) ?? get32(request, 12);
        const lease = this.#lease(mac);
        if (wanted !== lease) return this.#reply(request, DHCPNAK, 0, mac);
        return this.#reply(request, DHCPACK, lease, mac);
      }
      case DHCPINFORM:
        return this.#reply(request, DHCPACK, 0, mac);
      case DHCPRELEASE:
      case DHCPDECLINE: // nobody else is here who could have the address
        this.#leases.delete(mac.join());
        return undefined;
      default:
        return undefined;
    }
  }

  #lease(mac: Uint8Array): number {
    const client = mac.join();
    const known = this.#leases.get(client);
    const address = known ?? this.#freeAddress();
    this.#leases.delete(client);
    this.#leases.set(client, address);
    return address;
  }

  #freeAddress(): number {
    const taken = new Set(this.#leases.values());
    for (let a = GUEST; a < GUEST + LEASES; a++) if (!taken.has(a)) return a;
    const [[client, address] = ['', GUEST]] = this.#leases;
    this.#leases.delete(client);
    return address;
  }

  #reply(request: Uint8Array, type: number, yiaddr: number, mac: Uint8Array): DhcpReply {
    const message = new Uint8Array(576 - 28);
    message[0] = 2; // BOOTREPLY
    message[1] = 1;
    message[2] = 6;
    message.set(request.subarray(4, 8), 4); // xid
    message.set(request.subarray(10, 12), 10); // flags
    const ciaddr = get32(request, 12);
    if (type === DHCPACK) put32(message, 12, ciaddr);
    put32(message, 16, yiaddr);
    if (type !== DHCPNAK) put32(message, 20, GATEWAY); // siaddr
    message.set(request.subarray(24, 44), 24); // giaddr, chaddr
    put32(message, 236, COOKIE);
    let at = FIXED;
    const option = (code: number, length: number, value: number): void => {
      message[at] = code;
      message[at + 1] = length;
      if (length === 1) message[at + 2] = value;
      else if (length === 2) put16(message, at + 2, value);
      else put32(message, at + 2, value);
      at += 2 + length;
    };
    option(OPTION_MESSAGE_TYPE, 1, type);
    option(OPTION_SERVER, 4, GATEWAY);
    if (type !== DHCPNAK) {
      // None in the answer to an INFORM, whose address is not ours to lease (RFC 2131 section 4.3.5).
      if (yiaddr !== 0) option(OPTION_LEASE_TIME, 4, LEASE_SECONDS);
      option(OPTION_SUBNET_MASK, 4, NETMASK);
      option(OPTION_ROUTER, 4, GATEWAY);
      option(OPTION_NAME_SERVER, 4, NAMESERVER);
      option(OPTION_BROADCAST, 4, SUBNET_BROADCAST);
      option(OPTION_MTU, 2, this.#options.mtu);
      const name = new TextEncoder().encode(this.#options.hostname ?? '').subarray(0, 63);
      if (name.length > 0) {
        message[at] = OPTION_HOST_NAME;
        message[at + 1] = name.length;
        message.set(name, at + 2);
        at += 2 + name.length;
      }
    }
    message[at++] = OPTION_END;
    // Section 4.1: to the address that the client uses, else to the one that it gets unless it asked for broadcasts.
    let destination = LIMITED_BROADCAST;
    if (type !== DHCPNAK && isGuestAddress(ciaddr)) destination = ciaddr;
    else if (type !== DHCPNAK && yiaddr !== 0 && !(get16(request, 10) & 0x8000)) destination = yiaddr;
    const broadcast = destination === LIMITED_BROADCAST;
    return {
      message: message.subarray(0, Math.max(SHORTEST_REPLY, at)),
      destination,
      mac: broadcast ? new Uint8Array(6).fill(0xff) : mac,
    };
  }
}

/** The options that fit into the message; of repeated ones the first. */
function parseOptions(message: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  let at = FIXED;
  while (at < message.length) {
    const code = message[at++]!;
    if (code === OPTION_END) break;
    if (code === OPTION_PAD) continue;
    const length = message[at++];
    if (length === undefined || at + length > message.length) break;
    if (!options.has(code)) options.set(code, message.subarray(at, at + length));
    at += length;
  }
  return options;
}

function addressOption(value: Uint8Array | undefined): number | undefined {
  return value?.length === 4 ? get32(value, 0) : undefined;
}
