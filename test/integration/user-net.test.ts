import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import dns from 'node:dns';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { createUserNetwork, type UserNetworkBackend, type UserNetworkOptions } from '../../src/backends/net/index.ts';
import { parseServer } from '../../src/backends/net/user/host-sockets.ts';
import { hostScheduler } from '../../src/backends/net/user/timers.ts';
import type { ReceiveOffloads } from '../../src/devices/virtio/net/backend.ts';
import { VmError } from '../../src/util/errors.ts';
import {
  ACK,
  GuestTcp,
  type GuestTcpOptions,
  joined,
  type Parsed,
  parse,
  RST,
  SYN,
  tcpFrame,
  udpFrame,
} from '../support/user-net.ts';

// The user-mode network over real sockets of the loopback, with a small guest that loses frames.

const cleanup: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const f of cleanup.splice(0).reverse()) await f();
});

/** A network with a guest of test/support; frames are lost at `loss` in both directions, always the same ones. */
async function makeGuest(options: UserNetworkOptions & { loss?: number; accepts?: ReceiveOffloads } = {}) {
  const net = await createUserNetwork(options);
  cleanup.push(() => net.close());
  let seed = 12345;
  const lost = (): boolean => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return seed / 2 ** 32 < (options.loss ?? 0);
  };
  const inbox: Parsed[] = [];
  const waiting = new Set<() => void>();
  const connections = new Map<number, GuestTcp>();
  let full = 0;
  net.start((frame, info) => {
    // Now and then the guest's ring is full for a moment.
    if (options.loss !== undefined && ++full % 97 === 0) {
      setTimeout(() => net.roomAvailable(), 1);
      return false;
    }
    if (lost()) return true;
    const parsed = parse(joined(frame), info.needsChecksum);
    const tcp = parsed.tcp && connections.get(parsed.tcp.ports[1]);
    // As with a real ring, the guest looks at frames later.
    if (tcp) queueMicrotask(() => tcp.input(parsed.tcp!));
    else inbox.push(parsed);
    for (const f of waiting) f();
    return true;
  }, options.accepts ?? { checksum: false, tso4: false });
  const send: GuestTcpOptions['send'] = (frame, info) => {
    // In pieces, as a guest's rings have them.
    if (!lost()) net.send([frame.subarray(0, 70), frame.subarray(70)], info);
  };
  return {
    net,
    send: (frame: Uint8Array) =>
      net.send([frame], { needsChecksum: false, checksumStart: 0, checksumOffset: 0, gso: 'none', segmentSize: 0 }),
    /** Waits for a frame that is none of a {@link tcp} connection's. */
    async next(wanted: (p: Parsed) => boolean): Promise<Parsed> {
      for (;;) {
        const at = inbox.findIndex(wanted);
        if (at >= 0) return inbox.splice(at, 1)[0]!;
        await new Promise<void>(resolve => {
          const f = () => {
            waiting.delete(f);
            resolve();
          };
          waiting.add(f);
        });
      }
    },
    /** Connects, sends, and receives all; resolves when both sides have ended. */
    async transfer(port: number, data: Uint8Array, more: Partial<GuestTcpOptions> = {}) {
      const hash = createHash('sha256');
      let bytes = 0;
      const local = 40_000 + connections.size;
      const tcp = new GuestTcp({
        send,
        time: hostScheduler,
        ports: [local, port],
        data,
        received: b => {
          bytes += b.length;
          hash.update(b);
        },
        shift: 4,
        window: 200_000,
        ...more,
      });
      connections.set(local, tcp);
      const end = new Promise<void>(resolve => {
        tcp.onChange = () => (tcp.state === 'done' || tcp.state === 'reset') && resolve();
      });
      tcp.connect();
      await end;
      return { state: tcp.state, sha256: hash.digest('hex'), bytes, retransmissions: tcp.retransmissions };
    },
  };
}

async function serve(handler: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, socket => {
    sockets.add(socket);
    handler(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise(resolve => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A server that sends `answer` while it takes the sha256 of what it gets. */
async function exchange(answer: Uint8Array): Promise<{ port: number; got: Promise<string> }> {
  let resolve: (hash: string) => void;
  const got = new Promise<string>(r => {
    resolve = r;
  });
  const port = await serve(socket => {
    const hash = createHash('sha256');
    socket.on('data', b => hash.update(b));
    socket.on('end', () => resolve(hash.digest('hex')));
    socket.end(answer);
  });
  return { port, got };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const MIB = 1024 * 1024;

async function idle(net: UserNetworkBackend): Promise<void> {
  for (let i = 0; i < 100 && net.active; i++) await new Promise(r => setTimeout(r, 50));
}

test.each([
  ['plain segments', {}, {}],
  ['large segments both ways', { accepts: { checksum: true, tso4: true } }, { tso: 60_000 }],
])(
  '8 MiB each way with 5 %% loss: %s',
  async (_name, options, more) => {
    const up = randomBytes(8 * MIB);
    const down = randomBytes(8 * MIB);
    const server = await exchange(down);
    const guest = await makeGuest({ loss: 0.05, ...options });
    const result = await guest.transfer(server.port, up, more);
    expect(result).toMatchObject({ state: 'done', bytes: down.length, sha256: sha256(down) });
    expect(await server.got).toBe(sha256(up));
    expect(result.retransmissions).toBeGreaterThan(5);
    await idle(guest.net);
    expect(guest.net.usage).toEqual({ tcpConnections: 0, tcpBytes: 0, udpFlows: 0, dnsQueries: 0, reassemblies: 0 });
  },
  120_000,
);

test('a port that nobody listens on is refused', async () => {
  const port = await serve(() => undefined);
  await cleanup.pop()!();
  const guest = await makeGuest();
  expect(await guest.transfer(port, new Uint8Array(10))).toMatchObject({ state: 'reset', bytes: 0 });
  expect(guest.net.active).toBe(false);
});

test('a server that ends the connection at once ends it for the guest', async () => {
  const port = await serve(socket => socket.once('data', () => socket.resetAndDestroy()));
  const guest = await makeGuest();
  expect(await guest.transfer(port, new Uint8Array(MIB))).toMatchObject({ state: 'reset' });
});

test('a server that does not read stops the guest, and the memory stays bounded', async () => {
  let server: Socket | undefined;
  const hash = createHash('sha256');
  const port = await serve(socket => {
    socket.pause();
    server = socket;
  });
  const guest = await makeGuest();
  const data = randomBytes(32 * MIB);
  const before = process.memoryUsage().arrayBuffers;
  const transfer = guest.transfer(port, data);
  await new Promise(r => setTimeout(r, 1000));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * MIB);
  server!.on('data', b => hash.update(b));
  server!.on('end', () => server!.end());
  server!.resume();
  expect(await transfer).toMatchObject({ state: 'done' });
  expect(hash.digest('hex')).toBe(sha256(data));
}, 60_000);

test('datagrams reach a server and come back; a port without one is unreachable', async () => {
  const server = createSocket('udp4', (bytes, from) => server.send(bytes.reverse(), from.port, from.address));
  await new Promise<void>(resolve => server.bind(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const guest = await makeGuest();
  const big = randomBytes(1400);
  for (const payload of [Uint8Array.of(1, 2, 3), big]) {
    guest.send(udpFrame({ destination: '10.0.2.2', ports: [4000, port] }, payload));
    const answer = await guest.next(p => p.udp !== undefined);
    expect({ ...answer.udp, payload: Uint8Array.from(answer.udp!.payload) }).toEqual({
      ports: [port, 4000],
      payload: Uint8Array.from(payload).reverse(),
    });
  }
  await new Promise<void>(resolve => server.close(resolve));
  guest.send(udpFrame({ destination: '10.0.2.2', ports: [4001, port] }, [1]));
  const unreachable = await guest.next(p => p.icmp !== undefined);
  expect(unreachable.icmp).toMatchObject({ type: 3, code: 3 });
});

test('DNS goes to the servers that Node knows', async () => {
  const server = createSocket('udp4', (query, from) => {
    query[2] = 0x81;
    server.send(Buffer.concat([query, Buffer.from('answer')]), from.port, from.address);
  });
  await new Promise<void>(resolve => server.bind(0, '127.0.0.1', resolve));
  cleanup.push(() => new Promise<void>(resolve => server.close(resolve)));
  const before = dns.getServers();
  cleanup.push(() => dns.setServers(before));
  dns.setServers([`127.0.0.1:${server.address().port}`]);
  const guest = await makeGuest();
  const query = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
  guest.send(udpFrame({ destination: '10.0.2.3', ports: [4000, 53] }, query));
  const { udp } = await guest.next(p => p.udp !== undefined);
  expect(udp!.payload).toEqual(Uint8Array.of(0xab, 0xcd, 0x81, ...query.slice(3), ...Buffer.from('answer')));
  expect(guest.net.active).toBe(false);
});

test('a connection to a forwarded port arrives in the guest, with data in both directions', async () => {
  const guest = await makeGuest({ forward: [{ proto: 'tcp', hostPort: 0, guestPort: 22 }] });
  const [forward] = guest.net.forwards;
  expect(forward!.hostPort).toBeGreaterThan(0);
  guest.send(udpFrame({ destination: '10.0.2.2', ports: [1, 67] }, [])); // shows where the guest is
  const client = connect(forward!.hostPort, '127.0.0.1');
  cleanup.push(() => client.destroy());
  client.write('hello');
  const syn = (await guest.next(p => p.tcp !== undefined)).tcp!;
  expect(syn.flags).toBe(SYN);
  const f = { destination: '10.0.2.2', ports: [22, syn.ports[0]] as [number, number] };
  guest.send(tcpFrame({ ...f, seq: 1000, ack: syn.seq + 1, flags: SYN | ACK }));
  const data = (await guest.next(p => p.tcp?.payload.length === 5)).tcp!;
  expect(Buffer.from(data.payload).toString()).toBe('hello');
  guest.send(tcpFrame({ ...f, seq: 1001, ack: data.seq + 5, flags: ACK }, Buffer.from('welcome')));
  expect(String((await once(client, 'data'))[0])).toBe('welcome');
  const gone = once(client, 'error');
  guest.send(tcpFrame({ ...f, seq: 1008, ack: 0, flags: RST }));
  expect((await gone)[0]).toMatchObject({ code: 'ECONNRESET' });
});

test('a port that is in use is an error that says what to do', async () => {
  const port = await serve(() => undefined);
  for (const proto of ['tcp', 'udp'] as const) {
    const taken = createSocket('udp4');
    await new Promise<void>(resolve => taken.bind(port, '127.0.0.1', resolve));
    const made = createUserNetwork({ forward: [{ proto, hostPort: port, guestPort: 22 }] });
    const error = await made.then(
      () => undefined,
      e => e,
    );
    await new Promise<void>(resolve => taken.close(resolve));
    expect(error).toBeInstanceOf(VmError);
    expect(error).toMatchObject({ code: 'ERR_NETWORK', details: { code: 'EADDRINUSE' } });
    expect(error.hint).toMatch(/another port/);
  }
});

test('close() ends what is open, at once', async () => {
  const sockets: Socket[] = [];
  const port = await serve(socket => sockets.push(socket.pause()));
  const guest = await makeGuest({ forward: [{ proto: 'tcp', hostPort: 0, guestPort: 22 }] });
  void guest.transfer(port, new Uint8Array(32 * MIB)); // more than the system takes for a server that does not read
  await new Promise(r => setTimeout(r, 500));
  const client = connect(guest.net.forwards[0]!.hostPort, '127.0.0.1');
  await once(client, 'connect');
  const clientGone = new Promise(resolve => client.on('error', resolve));
  // Systems differ in what they tell of a reset behind bytes that were not read.
  const serverGone = new Promise(resolve => sockets[0]!.on('error', resolve).on('end', resolve));
  await guest.net.close();
  expect(guest.net.active).toBe(false);
  sockets[0]!.resume();
  expect(await clientGone).toMatchObject({ code: 'ECONNRESET' });
  await serverGone;
});

test('parses what dns.getServers() gives', () => {
  expect(
    ['1.1.1.1', '1.1.1.1:5353', '::1', '[::1]:5353', 'fe80::1%lo', '[fe80::1%lo]:53', 'x', '1.2.3:4'].map(parseServer),
  ).toEqual([
    { address: '1.1.1.1', port: 53 },
    { address: '1.1.1.1', port: 5353 },
    { address: '::1', port: 53 },
    { address: '::1', port: 5353 },
    { address: 'fe80::1%lo', port: 53 },
    { address: 'fe80::1%lo', port: 53 },
    undefined,
    undefined,
  ]);
});
