import { describe, expect, it } from 'vitest';
import { fakeChain, joined } from '../../../../test/support/fake-virtio.ts';
import { ops, VsockPeer } from '../../../../test/support/vsock-peer.ts';
import { createVirtualClock } from '../../../time/virtual-clock.ts';
import { BUF_ALLOC } from './connection.ts';
import { VirtioVsock, type VirtioVsockOptions } from './device.ts';
import * as R from './regs.ts';
import type { VsockConnection, VsockHandlers } from './types.ts';

const {
  VIRTIO_VSOCK_OP_REQUEST: REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE: RESPONSE,
  VIRTIO_VSOCK_OP_RST: RST,
  VIRTIO_VSOCK_OP_SHUTDOWN: SHUTDOWN,
  VIRTIO_VSOCK_OP_RW: RW,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE: CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST: CREDIT_REQUEST,
  VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE: RECEIVE,
  VIRTIO_VSOCK_SHUTDOWN_F_SEND: SEND,
  SHUTDOWN_BOTH: BOTH,
} = R;
const CID = 3;
const GUEST_PORT = 1234;
const HOST_PORT = 52;

function setup(options: Partial<VirtioVsockOptions> = {}) {
  const clock = createVirtualClock({ startWall: 0n });
  const device = new VirtioVsock({ guestCid: CID, clock, ...options });
  const pass = (ns: number) => {
    clock.advanceTo(clock.nowNs() + ns);
    clock.runDue();
  };
  return { clock, device, peer: new VsockPeer(device), pass };
}

/** Handlers that write down what happens. */
class Log implements VsockHandlers {
  readonly events: string[] = [];
  readonly chunks: Uint8Array[] = [];
  take = true;

  connected = () => void this.events.push('connected');
  drain = () => void this.events.push('drain');
  ended = () => void this.events.push('ended');
  closed = (reason: string) => void this.events.push(reason);
  data = (bytes: Uint8Array) => {
    this.chunks.push(bytes);
    return this.take;
  };

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
}

/** A connection that the host has made and the guest accepted. */
function connected(options: Partial<VirtioVsockOptions> = {}) {
  const rig = setup(options);
  const log = new Log();
  const connection = rig.device.connect(GUEST_PORT, log);
  rig.peer.offer(1);
  rig.peer.send(GUEST_PORT, connection.localPort, RESPONSE);
  log.events.length = 0;
  return { ...rig, log, connection };
}

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

describe('virtio-vsock configuration', () => {
  it('has the context ID of the guest as le64, read-only', () => {
    const { device } = setup({ guestCid: 0xfffffffe });
    device.writeConfig();
    expect([device.readConfig(0, 4), device.readConfig(4, 4)]).toEqual([0xfffffffe, 0]);
  });

  it('refuses reserved context IDs, ports that are none, and two listeners on one port', () => {
    for (const guestCid of [0, 1, 2, 0xffffffff, 3.5, -1]) {
      expect(() => setup({ guestCid })).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
    }
    const { device } = setup();
    expect(() => device.connect(0xffffffff, new Log())).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
    const first = device.listen(HOST_PORT, () => undefined);
    const again = () => device.listen(HOST_PORT, () => undefined);
    expect(again).toThrow(expect.objectContaining({ code: 'ERR_NETWORK' }));
    first[Symbol.dispose]();
    expect(again).not.toThrow();
  });

  it('offers stream sockets only', () => {
    expect(setup().device.features).toBe(1n);
  });
});

describe('virtio-vsock connections that the host makes', () => {
  it('are asked for with REQUEST, made by RESPONSE', () => {
    const { device, peer } = setup();
    const log = new Log();
    const connection = device.connect(GUEST_PORT, log);
    const [request] = peer.offer(2);
    expect(request).toMatchObject({
      src_cid: 2n,
      dst_cid: 3n,
      src_port: connection.localPort,
      dst_port: GUEST_PORT,
      type: 1,
      op: REQUEST,
      len: 0,
      buf_alloc: BUF_ALLOC,
      fwd_cnt: 0,
    });
    expect(peer.host.queues[R.RX]!.waiting).toBe(1);
    expect(log.events).toEqual([]);
    peer.send(GUEST_PORT, connection.localPort, RESPONSE);
    expect(log.events).toEqual(['connected']);
  });

  it('are refused by RST', () => {
    const { device, peer } = setup();
    const log = new Log();
    const { localPort } = device.connect(GUEST_PORT, log);
    peer.offer(1);
    peer.send(GUEST_PORT, localPort, RST);
    expect(log.events).toEqual(['refused']);
    expect(device.connectionCount).toBe(0);
    expect(peer.offer(1)).toEqual([]);
  });

  it('time out, with RST when the guest has seen REQUEST', () => {
    for (const seen of [true, false]) {
      const { device, peer, pass } = setup();
      const log = new Log();
      device.connect(GUEST_PORT, log);
      if (seen) peer.offer(1);
      pass(10e9);
      expect(log.events).toEqual(['timeout']);
      expect(ops(peer.offer(1))).toEqual(seen ? [RST] : []);
    }
  });

  it('have a port each, and send what was written before they were made', () => {
    const { device, peer } = setup();
    const a = device.connect(GUEST_PORT, new Log());
    const b = device.connect(GUEST_PORT, new Log());
    expect(a.localPort).not.toBe(b.localPort);
    a.write(bytes('early'));
    expect(ops(peer.offer(8))).toEqual([REQUEST, REQUEST]);
    peer.send(GUEST_PORT, a.localPort, RESPONSE);
    const [rw] = peer.take();
    expect(rw).toMatchObject({ op: RW, src_port: a.localPort, len: 5 });
    expect(Buffer.from(rw!.data).toString()).toBe('early');
  });

  it('need a driver, and are limited in number', () => {
    const { device } = setup({ maxConnections: 2 });
    device.connect(1, new Log());
    device.connect(2, new Log());
    expect(() => device.connect(3, new Log())).toThrow(expect.objectContaining({ code: 'ERR_NETWORK' }));
    device.reset();
    expect(() => device.connect(1, new Log())).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
  });
});

describe('virtio-vsock connections that the guest makes', () => {
  it('are answered with RESPONSE when the host listens, else with RST', () => {
    const { device, peer } = setup();
    const log = new Log();
    let connection: VsockConnection | undefined;
    device.listen(HOST_PORT, c => {
      connection = c;
      return log;
    });
    peer.send(GUEST_PORT, HOST_PORT, REQUEST);
    peer.send(GUEST_PORT, HOST_PORT + 1, REQUEST);
    const answers = peer.offer(4).sort((a, b) => a.op - b.op);
    expect(answers).toMatchObject([
      { op: RESPONSE, src_port: HOST_PORT, dst_port: GUEST_PORT, dst_cid: 3n, buf_alloc: BUF_ALLOC },
      { op: RST, src_port: HOST_PORT + 1, dst_port: GUEST_PORT, dst_cid: 3n },
    ]);
    expect(connection).toMatchObject({ localPort: HOST_PORT, peerPort: GUEST_PORT });
    peer.send(GUEST_PORT, HOST_PORT, RW, { data: bytes('hello') });
    expect(log.text).toBe('hello');
    expect(log.events).toEqual([]);
  });

  it('go to the listener of all ports when the port has none of its own', () => {
    const { device, peer } = setup();
    const ports: number[] = [];
    device.listen(R.VMADDR_PORT_ANY, c => {
      ports.push(c.localPort);
      return undefined;
    });
    device.listen(HOST_PORT, () => new Log());
    peer.send(GUEST_PORT, HOST_PORT, REQUEST);
    peer.send(GUEST_PORT, 99, REQUEST);
    expect(ports).toEqual([99]);
    expect(ops(peer.offer(4)).sort()).toEqual([RESPONSE, RST]);
  });

  it('wait for a decision that takes time', async () => {
    const { device, peer } = setup();
    const log = new Log();
    let decide: (handlers: VsockHandlers | undefined) => void = () => {};
    device.listen(
      HOST_PORT,
      () =>
        new Promise(resolve => {
          decide = resolve;
        }),
    );
    const answer = async (handlers: VsockHandlers | undefined) => {
      decide(handlers);
      await Promise.resolve();
      return ops(peer.offer(1));
    };
    peer.send(GUEST_PORT, HOST_PORT, REQUEST);
    expect(peer.offer(1)).toEqual([]);
    expect(await answer(log)).toEqual([RESPONSE]);

    peer.send(GUEST_PORT + 1, HOST_PORT, REQUEST);
    expect(await answer(undefined)).toEqual([RST]);

    // The guest gives up before the host has decided.
    peer.send(GUEST_PORT + 2, HOST_PORT, REQUEST);
    peer.send(GUEST_PORT + 2, HOST_PORT, RST);
    const late = new Log();
    expect(await answer(late)).toEqual([]);
    expect(late.events).toEqual(['reset']);
    expect(device.connectionCount).toBe(1);
  });

  it('are refused beyond the limit', () => {
    const { device, peer } = setup({ maxConnections: 2 });
    device.listen(HOST_PORT, () => new Log());
    for (const port of [1, 2, 3]) peer.send(port, HOST_PORT, REQUEST);
    expect(peer.offer(3).map(p => [p.op, p.dst_port])).toEqual([
      [RST, 3],
      [RESPONSE, 1],
      [RESPONSE, 2],
    ]);
    expect(device.connectionCount).toBe(2);
  });
});

describe('virtio-vsock data to the guest', () => {
  it('fills the buffers of the driver, whatever their pieces', () => {
    const { peer, connection } = connected();
    const data = Uint8Array.from({ length: 10_000 }, (_, i) => i % 251);
    connection.write(data.subarray(0, 3000));
    connection.write(data.subarray(3000));
    const packets = peer.offer(8);
    expect(packets.map(p => p.len)).toEqual([4052, 4052, 1896]);
    expect(joined(packets.map(p => p.data))).toEqual(data);
  });

  it('stops when the credit is used up, asks once, and goes on with new credit', () => {
    const { peer, connection } = connected();
    peer.bufAlloc = 10_000;
    peer.send(GUEST_PORT, connection.localPort, CREDIT_UPDATE);
    connection.write(new Uint8Array(25_000));
    const sum = (packets: { len: number }[]) => packets.reduce((n, p) => n + p.len, 0);
    const first = peer.offer(20);
    expect(sum(first)).toBe(10_000);
    expect(ops(first)).toEqual([RW, RW, RW, CREDIT_REQUEST]);
    expect(peer.offer(1)).toEqual([]);

    peer.consume(connection.localPort, 4000);
    peer.send(GUEST_PORT, connection.localPort, CREDIT_UPDATE);
    const second = peer.take();
    expect(sum(second)).toBe(4000);
    expect(ops(second)).toEqual([RW, CREDIT_REQUEST]);

    peer.consume(connection.localPort, 10_000);
    peer.send(GUEST_PORT, connection.localPort, CREDIT_UPDATE);
    expect(sum(peer.take())).toBe(10_000);
    // A guest that claims to have received more than was sent, or that has shrunk its buffer, gets nothing.
    for (const over of [{ fwd_cnt: 30_000 }, { fwd_cnt: 14_000, buf_alloc: 5000 }]) {
      peer.send(GUEST_PORT, connection.localPort, CREDIT_UPDATE, over);
      expect(ops(peer.take()).filter(op => op === RW)).toEqual([]);
    }
    peer.consume(connection.localPort, 10_000);
    peer.send(GUEST_PORT, connection.localPort, CREDIT_UPDATE);
    expect(sum(peer.take())).toBe(1000);
  });

  it('asks the host to wait at 256 KiB, and to go on at half of it', () => {
    const { peer, connection, log } = connected();
    peer.bufAlloc = 1 << 20;
    peer.send(GUEST_PORT, connection.localPort, CREDIT_UPDATE);
    expect(connection.write(new Uint8Array(256 * 1024 - 1))).toBe(true);
    expect(connection.write(new Uint8Array(1))).toBe(false);
    peer.offer(2, 65536 + 44);
    expect(log.events).toEqual([]);
    peer.offer(1, 65536 + 44);
    expect(log.events).toEqual(['drain']);
    peer.offer(4, 65536 + 44);
    expect(log.events).toEqual(['drain']);
    expect(peer.received.reduce((n, p) => n + p.len, 0)).toBe(256 * 1024);
  });

  it('lets connections take turns, and replies go first', () => {
    const { device, peer } = setup();
    const made = [1, 2].map(port => {
      const connection = device.connect(port, new Log());
      connection.write(new Uint8Array(5000));
      return connection;
    });
    peer.offer(2);
    for (const c of made) peer.send(c.peerPort, c.localPort, RESPONSE);
    peer.send(9, 9, REQUEST);
    expect(peer.offer(9, 2044).map(p => (p.op === RST ? 'rst' : p.dst_port))).toEqual(['rst', 1, 2, 1, 2, 1, 2]);
  });

  it('returns buffers that hold no packet unused and takes the next', () => {
    const { peer, connection } = connected();
    connection.write(bytes('x'));
    const rx = peer.host.queues[R.RX]!;
    rx.offer([], [20]);
    rx.offer([], [44]);
    rx.offer([], [45]);
    peer.device.notify(R.RX);
    expect(rx.pushed.map(p => p.written)).toEqual([0, 0, 45]);
  });
});

describe('virtio-vsock data from the guest', () => {
  it('comes as it was sent, wherever the borders of descriptors are; bytes behind len do not', () => {
    const { peer, connection, log } = connected();
    for (const cut of [10, 44, 46]) peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('abc'), cut });
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('abc'), len: 1 });
    peer.send(GUEST_PORT, connection.localPort, RW);
    expect(log.chunks.map(c => Buffer.from(c).toString())).toEqual(['abc', 'abc', 'abc', 'a']);
    expect(log.chunks.every(c => c.buffer instanceof ArrayBuffer)).toBe(true);
    expect(peer.host.queues[R.TX]!.pushed.every(p => p.written === 0)).toBe(true);
  });

  it('gets new credit each time the host has taken half of the buffer, and on request', () => {
    const { peer, connection } = connected();
    const chunk = new Uint8Array(BUF_ALLOC / 4);
    peer.offer(2);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: chunk });
    expect(peer.take()).toEqual([]);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: chunk });
    expect(peer.take()).toMatchObject([{ op: CREDIT_UPDATE, fwd_cnt: BUF_ALLOC / 2, buf_alloc: BUF_ALLOC }]);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('x') });
    peer.send(GUEST_PORT, connection.localPort, CREDIT_REQUEST);
    expect(peer.take()).toMatchObject([{ op: CREDIT_UPDATE, fwd_cnt: BUF_ALLOC / 2 + 1 }]);
  });

  it('is kept while the host pauses, without new credit, up to the buffer and no byte more', () => {
    const { device, peer, connection, log } = connected();
    const chunk = new Uint8Array(BUF_ALLOC / 4);
    log.take = false; // pauses with the first
    for (let i = 0; i < 5; i++) peer.send(GUEST_PORT, connection.localPort, RW, { data: chunk });
    expect(log.chunks).toHaveLength(1);
    peer.send(GUEST_PORT, connection.localPort, CREDIT_REQUEST);
    expect(peer.offer(1)).toMatchObject([{ op: CREDIT_UPDATE, fwd_cnt: BUF_ALLOC / 4 }]);
    log.take = true;
    connection.resume();
    expect(log.chunks.reduce((n, c) => n + c.length, 0)).toBe((5 * BUF_ALLOC) / 4);
    expect(peer.offer(1)).toMatchObject([{ op: CREDIT_UPDATE, fwd_cnt: (5 * BUF_ALLOC) / 4 }]);

    connection.pause();
    for (let i = 0; i < 4; i++) peer.send(GUEST_PORT, connection.localPort, RW, { data: chunk });
    expect(log.events).toEqual([]);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('x') });
    expect(log.events).toEqual(['protocol']);
    expect(ops(peer.offer(1))).toEqual([RST]);
    expect(device.connectionCount).toBe(0);
  });

  it('keeps its order when handlers pause and resume as they like', () => {
    const { peer, connection, log } = connected();
    let n = 0;
    log.data = chunk => {
      log.chunks.push(chunk);
      if (++n % 2) connection.pause();
      if (n % 3 === 0) connection.resume();
      return n % 5 !== 0;
    };
    let sent = '';
    for (let i = 0; i < 50; i++) {
      sent += `${i},`;
      peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes(`${i},`) });
      if (i % 4 === 0) connection.resume();
    }
    while (log.text.length < sent.length) connection.resume();
    expect(log.text).toBe(sent);
  });
});

describe('virtio-vsock ends of connections', () => {
  it('the host ends after its data, still receives, and the guest ends later', () => {
    const { device, peer, connection, log, clock } = connected();
    connection.write(bytes('last words'));
    connection.end();
    connection.write(bytes('too late'));
    const sent = peer.offer(4);
    expect(ops(sent)).toEqual([RW, SHUTDOWN]);
    expect(sent[0]!.len).toBe(10);
    expect(sent[1]!.flags).toBe(SEND);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('reply') });
    expect(log.text).toBe('reply');
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: SEND });
    expect(log.events).toEqual(['ended']);
    expect(peer.take()).toMatchObject([{ op: SHUTDOWN, flags: BOTH }]);
    peer.send(GUEST_PORT, connection.localPort, RST);
    expect(log.events).toEqual(['ended', 'ended']);
    expect(device.connectionCount).toBe(0);
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
  });

  it('the guest ends first; the host may send on', () => {
    const { peer, connection, log } = connected();
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: SEND });
    expect(log.events).toEqual(['ended']);
    connection.write(bytes('more'));
    connection.end();
    const sent = peer.offer(4);
    expect(sent.map(p => [p.op, p.flags])).toEqual([
      [RW, 0],
      [SHUTDOWN, BOTH],
    ]);
  });

  it('a guest that does not confirm is forced', () => {
    const { peer, connection, log, pass } = connected();
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: SEND });
    connection.end();
    peer.offer(2);
    pass(8e9 - 1);
    expect(log.events).toEqual(['ended']);
    pass(1);
    expect(log.events).toEqual(['ended', 'ended']);
    expect(ops(peer.take())).toEqual([RST]);
  });

  it('a guest that closes its socket gets RST once the host has all its data', () => {
    const { peer, connection, log } = connected();
    connection.pause();
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('abc') });
    // Section 5.10.6.5: hints are permanent, so two packets are as good as one.
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: SEND });
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: RECEIVE });
    expect(log.events).toEqual([]);
    expect(peer.offer(1)).toEqual([]);
    connection.resume();
    expect(log.text).toBe('abc');
    expect(log.events).toEqual(['ended', 'ended']);
    expect(ops(peer.take())).toEqual([RST]);
  });

  it('data of a guest that has gone reaches the host, later', () => {
    const { device, peer, connection, log } = connected();
    connection.pause();
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('abc') });
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: BOTH });
    peer.send(GUEST_PORT, connection.localPort, RST);
    expect(device.connectionCount).toBe(1);
    expect(connection.write(bytes('nobody reads this'))).toBe(true);
    connection.resume();
    expect([log.text, log.events]).toEqual(['abc', ['ended', 'ended']]);
    expect(device.connectionCount).toBe(0);
    expect(peer.offer(2)).toEqual([]);
  });

  it('a guest that receives no more makes writes go nowhere', () => {
    const { peer, connection, log } = connected();
    expect(connection.write(new Uint8Array(300_000))).toBe(false);
    peer.send(GUEST_PORT, connection.localPort, SHUTDOWN, { flags: RECEIVE });
    expect(log.events).toEqual(['drain']);
    expect(connection.write(new Uint8Array(300_000))).toBe(true);
    expect(peer.offer(4)).toEqual([]);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('still talks') });
    expect(log.text).toBe('still talks');
  });

  it('RST loses what was under way', () => {
    const { device, peer, connection, log } = connected();
    connection.pause();
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('abc') });
    connection.write(bytes('def'));
    peer.send(GUEST_PORT, connection.localPort, RST);
    expect(log.events).toEqual(['reset']);
    expect(log.text).toBe('');
    expect(peer.offer(2)).toEqual([]);
    expect(device.connectionCount).toBe(0);
  });

  it('destroy() sends RST and tells handlers once', () => {
    const { peer, connection, log } = connected();
    connection.write(bytes('lost'));
    connection.destroy();
    connection.destroy();
    connection.end();
    connection.resume();
    expect(log.events).toEqual(['destroyed']);
    expect(ops(peer.offer(3))).toEqual([RST]);
    peer.send(GUEST_PORT, connection.localPort, RW, { data: bytes('crossing') });
    expect(ops(peer.take())).toEqual([RST]);
  });

  it('handlers may end and destroy from inside of any call', () => {
    const { device, peer, connection, log } = connected();
    log.data = () => {
      connection.destroy();
      return true;
    };
    peer.send(GUEST_PORT, connection.localPort, RW, { data: new Uint8Array(BUF_ALLOC) });
    expect(log.events).toEqual(['destroyed']);
    const other = new Log();
    const second = device.connect(GUEST_PORT, other);
    other.connected = () => {
      second.destroy();
      return undefined;
    };
    peer.offer(4);
    peer.send(GUEST_PORT, second.localPort, RESPONSE);
    expect(other.events).toEqual(['destroyed']);
    expect(device.connectionCount).toBe(0);
    peer.take();
    expect(ops(peer.received)).toEqual([REQUEST, RST, REQUEST, RST]);
  });
});

describe('virtio-vsock packets that break the rules', () => {
  it('get RST to the address they came from when another context ID, type or port is meant', () => {
    const { peer } = setup();
    peer.send(7, 8, RW, { dst_cid: 5n });
    peer.send(7, 8, REQUEST, { dst_cid: (1n << 32n) | 2n });
    peer.send(7, 8, REQUEST, { src_cid: 4n });
    peer.send(7, 8, REQUEST, { type: 2 });
    peer.send(7, 8, RW);
    expect(peer.offer(8)).toMatchObject([
      { op: RST, src_cid: 5n, dst_cid: 3n, src_port: 8, dst_port: 7, type: 1 },
      { op: RST, src_cid: (1n << 32n) | 2n, dst_cid: 3n },
      { op: RST, src_cid: 2n, dst_cid: 4n },
      { op: RST, src_cid: 2n, dst_cid: 3n, type: 2 },
      { op: RST, src_port: 8, dst_port: 7 },
    ]);
  });

  it('are dropped when they are RST or shorter than a header, and never harm a connection of the same ports', () => {
    const { device, peer, connection, log } = connected();
    peer.send(7, 8, RST);
    peer.send(GUEST_PORT, connection.localPort, RST, { src_cid: 4n });
    peer.host.queues[R.TX]!.offer([new Uint8Array(43)]);
    peer.host.queues[R.TX]!.offer([], [100]);
    device.notify(R.TX);
    expect(peer.offer(4)).toEqual([]);
    expect(peer.host.queues[R.TX]!.waiting).toBe(0);
    expect(log.events).toEqual([]);
  });

  it('break the connection that they belong to', () => {
    const bad: [number, object][] = [
      [REQUEST, {}],
      [RESPONSE, {}],
      [0, {}],
      [8, {}],
      [0xffff, {}],
      [RW, { data: bytes('abc'), len: 4 }],
      [RW, { len: 0xffff_ffff }],
    ];
    for (const [op, over] of bad) {
      const { peer, connection, log } = connected();
      peer.send(GUEST_PORT, connection.localPort, op, over);
      expect([op, ...log.events]).toEqual([op, 'protocol']);
      expect(ops(peer.offer(2))).toEqual([RST]);
    }
  });

  it('break one that is not made yet, and data after SHUTDOWN does, too', () => {
    const { device, peer } = setup();
    const log = new Log();
    const { localPort } = device.connect(GUEST_PORT, log);
    peer.offer(1);
    peer.send(GUEST_PORT, localPort, RW, { data: bytes('abc') });
    expect(log.events).toEqual(['protocol']);

    const made = connected();
    made.peer.send(GUEST_PORT, made.connection.localPort, SHUTDOWN, { flags: SEND });
    made.peer.send(GUEST_PORT, made.connection.localPort, RW, { data: bytes('abc') });
    expect(made.log.events).toEqual(['ended', 'protocol']);
  });

  it('are not taken any more when too many replies wait for buffers', () => {
    const { peer } = setup();
    for (let i = 0; i < 300; i++) peer.send(7, i, RW);
    expect(peer.host.queues[R.TX]!.waiting).toBe(300 - 256);
    expect(peer.offer(10)).toHaveLength(10);
    expect(peer.host.queues[R.TX]!.waiting).toBe(300 - 266);
    expect(peer.offer(500).map(p => p.src_port)).toEqual(Array.from({ length: 290 }, (_, i) => i + 10));
    expect(peer.host.queues[R.TX]!.waiting).toBe(0);
  });
});

describe('virtio-vsock resets', () => {
  it('of the device close all connections and keep listeners', () => {
    const { device, log, connection, clock } = connected();
    device.listen(HOST_PORT, () => new Log());
    device.connect(5, new Log());
    connection.write(bytes('x'));
    device.reset();
    expect(log.events).toEqual(['reset']);
    expect([device.connectionCount, device.active]).toEqual([0, false]);
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
    const after = new VsockPeer(device);
    expect(after.offer(4)).toEqual([]);
    after.send(GUEST_PORT, HOST_PORT, REQUEST);
    expect(ops(after.take())).toEqual([RESPONSE]);
  });

  it('of the transport send the event as soon as there is a buffer, and change the context ID', () => {
    const { device, peer, log } = connected();
    device.resetTransport(77);
    expect(log.events).toEqual(['reset']);
    expect(device.readConfig(0, 4)).toBe(77);
    const queue = peer.host.queues[R.EVENT]!;
    queue.offer([], [2]); // too small
    const chain = queue.offer([], [1, 3]);
    chain.writable[1]!.fill(0xff);
    queue.offer([], [4]);
    device.notify(R.EVENT);
    expect(queue.pushed.map(p => p.written)).toEqual([0, 4]);
    expect([...joined(chain.writable)]).toEqual([0, 0, 0, 0]);
    expect(queue.interrupts).toBe(1);
    device.notify(R.EVENT);
    expect(queue.waiting).toBe(1);
    expect(() => device.resetTransport(1)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});

describe('a hostile guest', () => {
  it.each([
    ['one reply', 45],
    ['no reply', 44],
  ])(
    'whose rings look full again and again is heard as often at once as fits, with room for %s in a buffer',
    (_, room) => {
      const { device, peer } = setup();
      const [rx, tx] = peer.host.queues;
      tx!.pop = () => fakeChain([new Uint8Array(44)], []);
      rx!.pop = () => fakeChain([], [room]);
      device.notify(R.TX);
      expect(tx!.pushed).toHaveLength(tx!.size);
      expect(rx!.pushed).toHaveLength(tx!.size);
    },
  );
});
