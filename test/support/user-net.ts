import type {
  DatagramHandler,
  Endpoint,
  HostSockets,
  StreamHandler,
  StreamSocket,
} from '../../src/backends/net/user/host-sockets.ts';
import { UserNetwork, type UserNetworkParts } from '../../src/backends/net/user/network.ts';
import type { Scheduler } from '../../src/backends/net/user/timers.ts';
import {
  type FrameInfo,
  type NetBackend,
  PLAIN_FRAME,
  type ReceiveOffloads,
} from '../../src/devices/virtio/net/backend.ts';

// A guest's side of the user-mode network, for tests: frames made and read by code that shares nothing with what it tests.

export const GUEST_MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
export const ROUTER_MAC = [0x52, 0x55, 10, 0, 2, 2];
export const ALL_MAC = [255, 255, 255, 255, 255, 255];

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

/** Bytes of a dotted address. */
export function ip(address: string): number[] {
  return address.split('.').map(Number);
}

export function be16(value: number): number[] {
  return [(value >> 8) & 255, value & 255];
}

export function be32(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

/** RFC 1071, in the plainest way. */
export function internetChecksum(bytes: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 65536) + Math.floor(sum / 65536);
  return 0xffff - sum;
}

export interface Ipv4Fields {
  source?: string;
  destination: string;
  protocol: number;
  ttl?: number;
  id?: number;
  /** Flags and fragment offset. */
  fragment?: number;
  options?: number[];
  macs?: { source?: number[]; destination?: number[] };
}

/** An Ethernet frame with an IPv4 packet. */
export function ipv4Frame(f: Ipv4Fields, payload: ArrayLike<number>): Uint8Array {
  const options = f.options ?? [];
  const header = [
    0x45 + options.length / 4,
    0,
    ...be16(20 + options.length + payload.length),
    ...be16(f.id ?? 0),
    ...be16(f.fragment ?? 0),
    f.ttl ?? 64,
    f.protocol,
    0,
    0,
    ...ip(f.source ?? '10.0.2.15'),
    ...ip(f.destination),
    ...options,
  ];
  const sum = internetChecksum(header);
  header[10] = sum >> 8;
  header[11] = sum & 255;
  const frame = new Uint8Array(14 + header.length + payload.length);
  frame.set([...(f.macs?.destination ?? ROUTER_MAC), ...(f.macs?.source ?? GUEST_MAC), 8, 0, ...header]);
  frame.set(payload as Uint8Array, 14 + header.length);
  return frame;
}

function withChecksum(f: Ipv4Fields, packet: Uint8Array, at: number): Uint8Array {
  const pseudo = [...ip(f.source ?? '10.0.2.15'), ...ip(f.destination), 0, f.protocol, ...be16(packet.length)];
  const all = new Uint8Array(12 + packet.length);
  all.set(pseudo);
  all.set(packet, 12);
  packet.set(be16(internetChecksum(all)), at);
  return packet;
}

export interface UdpFields extends Partial<Ipv4Fields> {
  destination: string;
  ports: [number, number];
}

/** The UDP packet without IP header, with its checksum. */
export function udpPacket(f: UdpFields, payload: ArrayLike<number>): Uint8Array {
  const packet = new Uint8Array(8 + payload.length);
  packet.set([...be16(f.ports[0]), ...be16(f.ports[1]), ...be16(packet.length)]);
  packet.set(payload as Uint8Array, 8);
  return withChecksum({ ...f, protocol: 17 }, packet, 6);
}

export function udpFrame(f: UdpFields, payload: ArrayLike<number>): Uint8Array {
  return ipv4Frame({ ...f, protocol: 17 }, udpPacket(f, payload));
}

export interface TcpFields extends Partial<Ipv4Fields> {
  destination: string;
  ports: [number, number];
  seq: number;
  ack?: number;
  flags: number;
  window?: number;
  tcpOptions?: number[];
}

export function tcpFrame(f: TcpFields, payload: ArrayLike<number> = []): Uint8Array {
  const options = f.tcpOptions ?? [];
  const packet = new Uint8Array(20 + options.length + payload.length);
  packet.set([
    ...be16(f.ports[0]),
    ...be16(f.ports[1]),
    ...be32(f.seq),
    ...be32(f.ack ?? 0),
    (5 + options.length / 4) << 4,
    f.flags,
    ...be16(f.window ?? 65535),
    0,
    0,
    0,
    0,
    ...options,
  ]);
  packet.set(payload as Uint8Array, 20 + options.length);
  return ipv4Frame({ ...f, protocol: 6 }, withChecksum({ ...f, protocol: 6 }, packet, 16));
}

/** A frame that came to the guest, taken apart. */
export interface Parsed {
  macs: { destination: number[]; source: number[] };
  etherType: number;
  /** Behind the Ethernet header. */
  packet: Uint8Array;
  ip?: { source: string; destination: string; protocol: number; id: number; fragment: number; payload: Uint8Array };
  udp?: { ports: [number, number]; payload: Uint8Array };
  icmp?: { type: number; code: number; rest: Uint8Array };
  tcp?: ParsedTcp;
}

export interface ParsedTcp {
  ports: [number, number];
  seq: number;
  ack: number;
  flags: number;
  window: number;
  options: number[];
  payload: Uint8Array;
}

/** Takes a frame apart; throws if a length or a checksum is wrong. `partial`: TCP's holds the pseudo header only. */
export function parse(frame: Uint8Array, partial = false): Parsed {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const parsed: Parsed = {
    macs: { destination: [...frame.subarray(0, 6)], source: [...frame.subarray(6, 12)] },
    etherType: view.getUint16(12),
    packet: frame.subarray(14),
  };
  if (parsed.etherType !== 0x0800) return parsed;
  const { packet } = parsed;
  if (packet[0] !== 0x45) throw new Error('IP header with options');
  if (internetChecksum(packet.subarray(0, 20)) !== 0) throw new Error('IP checksum');
  if (view.getUint16(16) !== packet.length) throw new Error(`IP length ${view.getUint16(16)} of ${packet.length}`);
  const payload = packet.subarray(20);
  const protocol = packet[9]!;
  const fragment = view.getUint16(20);
  parsed.ip = {
    source: packet.subarray(12, 16).join('.'),
    destination: packet.subarray(16, 20).join('.'),
    protocol,
    id: view.getUint16(18),
    fragment,
    payload,
  };
  if ((fragment & 0x3fff) !== 0) return parsed;
  if (protocol === 1) {
    if (internetChecksum(payload) !== 0) throw new Error('ICMP checksum');
    parsed.icmp = { type: payload[0]!, code: payload[1]!, rest: payload.subarray(4) };
    return parsed;
  }
  const pseudo = [...packet.subarray(12, 20), 0, protocol, ...be16(payload.length)];
  const sum = internetChecksum(partial ? pseudo : [...pseudo, ...payload]);
  const l4 = new DataView(payload.buffer, payload.byteOffset, payload.length);
  if (partial ? l4.getUint16(protocol === 6 ? 16 : 6) !== 0xffff - sum : sum !== 0) throw new Error('checksum');
  const ports: [number, number] = [l4.getUint16(0), l4.getUint16(2)];
  if (protocol === 17) {
    if (l4.getUint16(4) !== payload.length) throw new Error('UDP length');
    parsed.udp = { ports, payload: payload.subarray(8) };
  } else if (protocol === 6) {
    const start = (payload[12]! >> 4) * 4;
    parsed.tcp = {
      ports,
      seq: l4.getUint32(4),
      ack: l4.getUint32(8),
      flags: payload[13]!,
      window: l4.getUint16(14),
      options: [...payload.subarray(20, start)],
      payload: payload.subarray(start),
    };
  }
  return parsed;
}

/** Joins the pieces of a frame. */
export function joined(frame: Uint8Array | readonly Uint8Array[]): Uint8Array {
  return frame instanceof Uint8Array ? frame.slice() : new Uint8Array(Buffer.concat(frame));
}

/** Time that passes when the test says so. */
export class FakeTime implements Scheduler {
  #now = 1_000;
  #soon: (() => void)[] = [];
  readonly #timers = new Set<{ at: number; f: () => void }>();

  now(): number {
    return this.#now;
  }

  setTimeout(f: () => void, ms: number): () => void {
    const timer = { at: this.#now + ms, f };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  soon(f: () => void): void {
    this.#soon.push(f);
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Runs what was put off by soon(). */
  settle(): void {
    while (this.#soon.length > 0) this.#soon.shift()?.();
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      this.settle();
      let next: { at: number; f: () => void } | undefined;
      for (const t of this.#timers) if (t.at <= end && (!next || t.at < next.at)) next = t;
      if (!next) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.f();
    }
    this.#now = end;
  }
}

/** A stream socket of the host that the test holds the other end of. */
export class FakeStream implements StreamSocket {
  readonly to: Endpoint;
  readonly handler: StreamHandler;
  readonly written: number[] = [];
  /** Bytes that a real socket would still have. */
  buffered = 0;
  /** Writes stay in the buffer until {@link drain}. */
  slow = false;
  paused = true;
  ended = false;
  wasReset = false;

  constructor(to: Endpoint, handler: StreamHandler) {
    this.to = to;
    this.handler = handler;
  }

  write(bytes: Uint8Array): boolean {
    for (const b of bytes) this.written.push(b);
    if (this.slow) this.buffered += bytes.length;
    return !this.slow;
  }

  drain(): void {
    this.buffered = 0;
    this.handler.drained();
  }

  end(): void {
    this.ended = true;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  reset(): void {
    this.wasReset = true;
  }
}

export class FakeDatagrams {
  readonly to: Endpoint | undefined;
  readonly handler: DatagramHandler;
  readonly sent: { bytes: Uint8Array; to: Endpoint | undefined }[] = [];
  closed = false;

  constructor(to: Endpoint | undefined, handler: DatagramHandler) {
    this.to = to;
    this.handler = handler;
  }

  send(bytes: Uint8Array, to?: Endpoint): void {
    this.sent.push({ bytes: bytes.slice(), to });
  }

  close(): void {
    this.closed = true;
  }
}

/** Sockets that lead to the test. */
export class FakeSockets implements HostSockets {
  readonly streams: FakeStream[] = [];
  readonly datagrams: FakeDatagrams[] = [];
  servers: Endpoint[] = [{ address: '192.0.2.53', port: 53 }];
  #accept: ((socket: StreamSocket, from: Endpoint) => StreamHandler | undefined) | undefined;
  /** Rejects the next attempt to listen. */
  listenError: Error | undefined;
  listening = 0;

  connectStream(to: Endpoint, handler: StreamHandler): FakeStream {
    const stream = new FakeStream(to, handler);
    this.streams.push(stream);
    return stream;
  }

  async listenStream(
    at: Endpoint,
    accept: (socket: StreamSocket, from: Endpoint) => StreamHandler | undefined,
  ): Promise<{ port: number; close(): Promise<void> }> {
    if (this.listenError) throw this.listenError;
    this.#accept = accept;
    this.listening++;
    return { port: at.port || 40_000, close: async () => void this.listening-- };
  }

  /** Somebody connects to the forwarded port; undefined if refused. */
  arrive(from: Endpoint): FakeStream | undefined {
    let handler: StreamHandler | undefined;
    const late: StreamHandler = {
      connected: () => handler?.connected(),
      data: b => handler?.data(b),
      end: () => handler?.end(),
      drained: () => handler?.drained(),
      closed: e => handler?.closed(e),
    };
    const stream = new FakeStream(from, late);
    handler = this.#accept?.(stream, from);
    return handler ? stream : undefined;
  }

  connectDatagram(to: Endpoint, handler: DatagramHandler): FakeDatagrams {
    const d = new FakeDatagrams(to, handler);
    this.datagrams.push(d);
    return d;
  }

  async bindDatagram(at: Endpoint, handler: DatagramHandler) {
    if (this.listenError) throw this.listenError;
    const d = new FakeDatagrams(undefined, handler);
    this.datagrams.push(d);
    this.listening++;
    const close = async (): Promise<void> => {
      d.close();
      this.listening--;
    };
    return { port: at.port || 40_001, send: (bytes: Uint8Array, to?: Endpoint) => d.send(bytes, to), close };
  }

  resolvers(): readonly Endpoint[] {
    return this.servers;
  }
}

/** The cable between a test and a network: what came to the guest, taken apart. */
export class Cable {
  readonly net: NetBackend;
  received: { frame: Uint8Array; info: FrameInfo }[] = [];
  /** False: the guest's ring is full. */
  room = true;

  constructor(net: NetBackend, accepts: ReceiveOffloads = { checksum: false, tso4: false }) {
    this.net = net;
    net.start((frame, info) => {
      if (!this.room) return false;
      this.received.push({ frame: joined(frame), info });
      return true;
    }, accepts);
  }

  send(frame: Uint8Array, info: FrameInfo = PLAIN_FRAME): void {
    this.net.send([frame], info);
  }

  /** All that came since the last call. */
  take(): Parsed[] {
    return this.received.splice(0).map(r => parse(r.frame, r.info.needsChecksum));
  }

  /** The TCP segments that came since the last call. */
  takeTcp(): ParsedTcp[] {
    return this.take().flatMap(p => (p.tcp ? [p.tcp] : []));
  }
}

/** Options of a {@link GuestTcp}. */
export interface GuestTcpOptions {
  send(frame: Uint8Array, info: FrameInfo): void;
  time: Scheduler;
  ports: [number, number];
  destination?: string;
  mss?: number;
  /** Window of the guest in bytes, and its scale. */
  window?: number;
  shift?: number;
  /** Bytes that the guest sends, then its FIN. */
  data: Uint8Array;
  received(bytes: Uint8Array): void;
  /** Segments of so many bytes with offload information. */
  tso?: number;
}

/**
 * A guest's TCP in the plainest form that works: go-back-N and one timer. It connects, sends {@link GuestTcpOptions.data} and its FIN, and takes what comes until the other side's FIN.
 */
export class GuestTcp {
  readonly #o: GuestTcpOptions;
  state: 'idle' | 'syn-sent' | 'open' | 'done' | 'reset' = 'idle';
  #una = 0xffff_f000; // so that numbers wrap around early
  readonly #iss = this.#una;
  /** Offset in the data of what is sent next; one beyond the end: FIN too. */
  #next = 0;
  #acked = 0;
  #rcvNxt = 0;
  #peerWindow = 0;
  #peerShift = 0;
  #peerFin = false;
  /** Segments from behind a hole. */
  readonly #held = new Map<number, ParsedTcp>();
  #duplicates = 0;
  #cancel: (() => void) | undefined;
  retransmissions = 0;
  onChange: () => void = () => undefined;

  constructor(options: GuestTcpOptions) {
    this.#o = options;
  }

  connect(): void {
    this.state = 'syn-sent';
    const mss = [2, 4, ...be16(this.#o.mss ?? 1460)];
    const scale = this.#o.shift === undefined ? [] : [1, 3, 3, this.#o.shift];
    this.#emit(SYN, this.#iss, new Uint8Array(), [...mss, ...scale]);
    this.#timer(() => this.connect());
  }

  input(tcp: ParsedTcp): void {
    if (tcp.flags & RST) {
      this.#end('reset');
      return;
    }
    if (this.state === 'syn-sent' && tcp.flags & SYN && tcp.ack === (this.#iss + 1) >>> 0) {
      this.#rcvNxt = (tcp.seq + 1) >>> 0;
      const at = tcp.options.indexOf(3);
      this.#peerShift = this.#o.shift !== undefined && at >= 0 ? tcp.options[at + 2]! : 0;
      this.#peerWindow = tcp.window;
      this.state = 'open';
      this.#acknowledge();
      this.#push();
    } else if (this.state === 'open' && !(tcp.flags & SYN)) this.#open(tcp);
    else if (tcp.flags & (SYN | FIN)) this.#acknowledge();
    this.onChange();
  }

  #open(tcp: ParsedTcp): void {
    const acked = (tcp.ack - this.#iss - 1) >>> 0;
    const window = tcp.window << this.#peerShift;
    if (acked > this.#acked && acked <= this.#o.data.length + 1) {
      this.#acked = acked;
      if (this.#next < acked) this.#next = acked;
      this.#duplicates = 0;
      this.#cancel?.();
      this.#cancel = undefined;
    } else if (acked === this.#acked && tcp.payload.length === 0 && window === this.#peerWindow) {
      if (this.#next > this.#acked && ++this.#duplicates === 3) this.#back();
    }
    this.#peerWindow = window;
    const fin = (tcp.flags & FIN) !== 0;
    const ahead = (tcp.seq - this.#rcvNxt) | 0;
    if (ahead >= 0 && ahead < 1 << 20) this.#held.set(tcp.seq, tcp);
    for (let t = this.#held.get(this.#rcvNxt); t && !this.#peerFin; t = this.#held.get(this.#rcvNxt)) {
      this.#held.delete(this.#rcvNxt);
      this.#peerFin = (t.flags & FIN) !== 0;
      if (t.payload.length > 0) this.#o.received(t.payload);
      this.#rcvNxt = (this.#rcvNxt + t.payload.length + (this.#peerFin ? 1 : 0)) >>> 0;
      if (t.payload.length === 0) break;
    }
    if (tcp.payload.length > 0 || fin) this.#acknowledge();
    if (this.#peerFin && this.#acked === this.#o.data.length + 1) this.#end('done');
    else this.#push();
  }

  #push(): void {
    const { data, tso, mss = 1460 } = this.#o;
    const largest = tso ?? mss;
    while (this.#next <= data.length) {
      const room = this.#peerWindow - (this.#next - this.#acked);
      const length = Math.min(largest, data.length - this.#next, room);
      if (length <= 0 && this.#next < data.length) break;
      const last = this.#next + length === data.length;
      const bytes = data.subarray(this.#next, this.#next + length);
      const seq = (this.#iss + 1 + this.#next) >>> 0;
      this.#next += length + (last ? 1 : 0);
      this.#emit(ACK | (last ? FIN : 0), seq, bytes);
    }
    if (this.#acked <= data.length && !this.#cancel) this.#timer(() => this.#timeout());
  }

  #timeout(): void {
    this.#cancel = undefined;
    // Into a closed window goes one byte.
    if (this.#peerWindow === 0 && this.#acked < this.#o.data.length) {
      const seq = (this.#iss + 1 + this.#acked) >>> 0;
      this.#emit(ACK, seq, this.#o.data.subarray(this.#acked, this.#acked + 1));
      this.#timer(() => this.#timeout());
      return;
    }
    this.#back();
    this.#push();
  }

  #back(): void {
    this.retransmissions++;
    this.#next = this.#acked;
    this.#duplicates = -1000; // once for each loss
  }

  #timer(f: () => void): void {
    this.#cancel?.();
    this.#cancel = this.#o.time.setTimeout(f, 50);
  }

  #end(state: 'done' | 'reset'): void {
    this.state = state;
    this.#cancel?.();
    this.onChange();
  }

  #acknowledge(): void {
    this.#emit(ACK, (this.#iss + 1 + this.#next) >>> 0, new Uint8Array());
  }

  #emit(flags: number, seq: number, payload: Uint8Array, tcpOptions: number[] = []): void {
    const window = (this.#o.window ?? 65535) >> (flags & SYN ? 0 : (this.#o.shift ?? 0));
    const destination = this.#o.destination ?? '10.0.2.2';
    const fields = { destination, ports: this.#o.ports, seq, ack: this.#rcvNxt, flags, window, tcpOptions };
    const large = payload.length > (this.#o.mss ?? 1460);
    const info: FrameInfo = large
      ? { needsChecksum: true, checksumStart: 34, checksumOffset: 16, gso: 'tcp4', segmentSize: this.#o.mss ?? 1460 }
      : PLAIN_FRAME;
    this.#o.send(tcpFrame(fields, payload), info);
  }
}

/** A network whose host side is the test's. Random numbers count up from 1000. */
export function makeRig(options: Partial<UserNetworkParts> & { accepts?: ReceiveOffloads } = {}) {
  const { accepts, ...parts } = options;
  const sockets = new FakeSockets();
  const time = new FakeTime();
  let random = 1000;
  const net = new UserNetwork({
    mtu: 1500,
    hostLoopback: true,
    hostname: undefined,
    sockets,
    scheduler: time,
    random: () => random++,
    ...parts,
  });
  return { net, sockets, time, cable: new Cable(net, accepts) };
}

/** A connection of a {@link makeRig} whose guest's side the test plays segment by segment; numbers are relative. */
export class RawTcp {
  readonly rig: ReturnType<typeof makeRig>;
  readonly ports: [number, number];
  readonly destination: string;
  /** The guest's sequence number 0 is its SYN. */
  readonly iss = 0xffff_ff00;
  /** The network's. */
  irs = 0;
  window = 65535;

  constructor(rig: ReturnType<typeof makeRig>, ports: [number, number] = [5000, 80], destination = '10.0.2.2') {
    this.rig = rig;
    this.ports = ports;
    this.destination = destination;
  }

  get stream(): FakeStream {
    return this.rig.sockets.streams.at(-1)!;
  }

  send(
    flags: number,
    seq: number,
    ack: number,
    payload: ArrayLike<number> = [],
    tcpOptions: number[] = [],
  ): ParsedTcp[] {
    this.rig.cable.send(
      tcpFrame(
        {
          destination: this.destination,
          ports: this.ports,
          seq: (this.iss + seq) >>> 0,
          ack: (this.irs + ack) >>> 0,
          flags,
          window: this.window,
          tcpOptions,
        },
        payload,
      ),
    );
    return this.take();
  }

  /** Segments to the guest, with numbers relative to the two SYNs. */
  take(): ParsedTcp[] {
    return this.rig.cable.takeTcp().map(t => ({
      ...t,
      seq: (t.seq - this.irs) >>> 0,
      ack: (t.ack - this.iss) >>> 0,
    }));
  }

  /** Runs what was put off to the end of the burst. */
  settle(): ParsedTcp[] {
    this.rig.time.settle();
    return this.take();
  }

  after(ms: number): ParsedTcp[] {
    this.rig.time.advance(ms);
    return this.take();
  }

  /** Connects, with window scaling if `shift` is given. */
  open(shift?: number, mss = 1460): this {
    const options = [2, 4, ...be16(mss), ...(shift === undefined ? [] : [1, 3, 3, shift])];
    this.send(SYN, 0, 0, [], options);
    this.stream.handler.connected();
    const [synAck] = this.take();
    this.irs = synAck!.seq;
    this.send(ACK, 1, 1);
    return this;
  }
}
