import { get16, NAMESERVER, put16 } from './addresses.ts';
import type { Context } from './context.ts';
import type { GuestFrame } from './frame.ts';
import type { DatagramSocketLike, Endpoint } from './host-sockets.ts';
import type { Expiring } from './timers.ts';
import { type Datagram, sendDatagram } from './udp.ts';

/** The port of DNS (RFC 1035 section 4.2). */
export const DNS_PORT = 53;
const HEADER = 12;
/** Longest query that is passed on; those of real resolvers are some hundred bytes. */
const LONGEST_QUERY = 4096;
/** Queries at a time; one more ends the oldest. */
const QUERIES = 128;
/** How long each of the host's name servers may take, and how many of them are asked: in all less than a client waits. */
const SERVER_MS = 2_000;
export const NAME_SERVERS = 2;

// RFC 1035 section 4.1.1.
const QR = 0x8000;
const OPCODE_AND_RD = 0x7900;
const RA = 0x0080;
const SERVFAIL = 2;

/** A query that waits for an answer. Each has its socket: the port is as hard to guess as the ID (RFC 5452 section 9.2). */
class Query implements Expiring {
  deadline = 0;
  readonly key: string;
  readonly guestAddress: number;
  readonly guestPort: number;
  readonly bytes: Uint8Array;
  readonly servers: readonly Endpoint[];
  /** The guest's ID and the one that the server sees. */
  readonly guestId: number;
  id = 0;
  socket: DatagramSocketLike | undefined;
  asked = 0;
  readonly #forwarder: DnsForwarder;

  constructor(forwarder: DnsForwarder, key: string, guest: { address: number; port: number }, bytes: Uint8Array) {
    this.#forwarder = forwarder;
    this.key = key;
    this.guestAddress = guest.address;
    this.guestPort = guest.port;
    this.bytes = bytes;
    this.servers = forwarder.servers();
    this.guestId = get16(bytes, 0);
  }

  expire(): void {
    this.#forwarder.askNext(this);
  }

  message(answer: Uint8Array): void {
    if (answer.length < HEADER || get16(answer, 0) !== this.id || !(get16(answer, 2) & QR)) return;
    this.#forwarder.answer(this, answer.slice());
  }

  error(): void {
    this.#forwarder.askNext(this);
  }
}

/** The name server of the network: passes queries on to those of the host and never looks into them. */
export class DnsForwarder {
  readonly #context: Context;
  readonly #queries = new Map<string, Query>();

  constructor(context: Context) {
    this.#context = context;
  }

  get size(): number {
    return this.#queries.size;
  }

  /** The host's name servers that are asked, in their order. */
  servers(): readonly Endpoint[] {
    return this.#context.sockets.resolvers().slice(0, NAME_SERVERS);
  }

  /** A datagram of the guest's to port 53 of the name server. */
  handle(frame: GuestFrame, datagram: Datagram): void {
    const length = datagram.end - datagram.start;
    if (length < HEADER || length > LONGEST_QUERY) return;
    const bytes = frame.bytes.slice(datagram.start, datagram.end);
    if (get16(bytes, 2) & QR) return;
    const key = `${frame.source} ${datagram.sourcePort} ${get16(bytes, 0)}`;
    // A repetition: the answer to the first is on its way.
    if (this.#queries.has(key)) return;
    if (this.#queries.size >= QUERIES) {
      const [oldest] = this.#queries.values();
      if (oldest) this.#fail(oldest);
    }
    const query = new Query(this, key, { address: frame.source, port: datagram.sourcePort }, bytes);
    this.#queries.set(key, query);
    this.#context.deadlines.add(query);
    this.askNext(query);
  }

  /** Asks the next server, or gives up. */
  askNext(query: Query): void {
    query.socket?.close();
    query.socket = undefined;
    const server = query.servers[query.asked++];
    if (!server) {
      this.#fail(query);
      return;
    }
    query.deadline = this.#context.scheduler.now() + SERVER_MS;
    this.#context.deadlines.update(query);
    query.id = this.#context.random() & 0xffff;
    const bytes = query.bytes.slice();
    put16(bytes, 0, query.id);
    query.socket = this.#context.sockets.connectDatagram(server, query);
    query.socket.send(bytes);
  }

  /** Passes an answer on to who asked; the array is changed. */
  answer(query: Query, bytes: Uint8Array): void {
    this.#remove(query);
    put16(bytes, 0, query.guestId);
    const from = { address: NAMESERVER, port: DNS_PORT };
    sendDatagram(this.#context.link, from, { address: query.guestAddress, port: query.guestPort }, bytes);
  }

  close(): void {
    for (const query of [...this.#queries.values()]) this.#remove(query);
  }

  #fail(query: Query): void {
    this.answer(query, serverFailure(query.bytes));
  }

  #remove(query: Query): void {
    this.#queries.delete(query.key);
    this.#context.deadlines.delete(query);
    query.socket?.close();
    query.socket = undefined;
  }
}

/** The answer SERVFAIL to a query, with its question if that can be read. */
export function serverFailure(query: Uint8Array): Uint8Array {
  const end = questionEnd(query);
  const answer = query.slice(0, end ?? HEADER);
  put16(answer, 2, QR | (get16(query, 2) & OPCODE_AND_RD) | RA | SERVFAIL);
  answer.fill(0, 4, HEADER);
  if (end !== undefined) put16(answer, 4, 1);
  return answer;
}

/** Where the one question of a query ends (section 4.1.2), or undefined. */
function questionEnd(query: Uint8Array): number | undefined {
  if (get16(query, 4) !== 1) return undefined;
  let at = HEADER;
  for (;;) {
    const label = query[at];
    if (label === undefined || label > 63) return undefined;
    at += 1 + label;
    if (label === 0) break;
  }
  return at + 4 <= query.length ? at + 4 : undefined;
}
