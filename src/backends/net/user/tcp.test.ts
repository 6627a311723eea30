import { describe, expect, it } from 'vitest';
import {
  ACK,
  be16,
  be32,
  FIN,
  makeRig,
  type ParsedTcp,
  PSH,
  RawTcp,
  RST,
  SYN,
  tcpFrame,
} from '../../../../test/support/user-net.ts';

const bytes = (n: number, from = 0): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (from + i) & 255);
/** What matters of segments. */
const brief = (segments: ParsedTcp[]) => segments.map(s => [s.flags, s.seq, s.ack, s.payload.length]);

describe('opening', () => {
  it('answers a SYN when the host is connected, not before', () => {
    const tcp = new RawTcp(makeRig());
    expect(tcp.send(SYN, 0, 0, [], [2, 4, ...be16(1460), 1, 3, 3, 7])).toEqual([]);
    expect(tcp.stream.to).toEqual({ address: '127.0.0.1', port: 80 });
    expect(tcp.send(SYN, 0, 0)).toEqual([]); // the guest's repetition
    expect(tcp.rig.sockets.streams).toHaveLength(1);
    tcp.stream.handler.connected();
    const [synAck] = tcp.take();
    expect(synAck).toMatchObject({ flags: SYN | ACK, ack: 1, window: 65535, ports: [80, 5000] });
    expect(synAck!.options).toEqual([2, 4, ...be16(1460), 1, 3, 3, 3]);
    tcp.irs = synAck!.seq;
    expect(tcp.stream.paused).toBe(true);
    expect(tcp.send(ACK, 1, 1)).toEqual([]);
    expect(tcp.stream.paused).toBe(false);
  });

  it('says nothing of window scaling to a guest that does not', () => {
    const tcp = new RawTcp(makeRig({ mtu: 1400 }));
    tcp.send(SYN, 0, 0);
    tcp.stream.handler.connected();
    expect(tcp.take()[0]!.options).toEqual([2, 4, ...be16(1360)]);
  });

  it('repeats its SYN/ACK, ever more slowly, then gives up', () => {
    const tcp = new RawTcp(makeRig());
    tcp.send(SYN, 0, 0);
    tcp.stream.handler.connected();
    tcp.irs = tcp.take()[0]!.seq;
    expect(brief(tcp.send(SYN, 0, 0))).toEqual([[SYN | ACK, 0, 1, 0]]);
    expect(brief(tcp.after(1_000))).toEqual([[SYN | ACK, 0, 1, 0]]);
    expect(tcp.after(1_999)).toEqual([]);
    expect(tcp.after(1)).toHaveLength(1);
    expect(tcp.after(200_000).at(-1)!.flags).toBe(RST | ACK);
    expect(tcp.stream.wasReset).toBe(true);
    expect([tcp.rig.net.usage.tcpConnections, tcp.rig.time.timers]).toEqual([0, 0]);
  });

  it.each([
    ['ECONNREFUSED', RST | ACK],
    ['EMFILE', RST | ACK],
  ])('answers %s of the host with a reset', (error, flags) => {
    const tcp = new RawTcp(makeRig());
    tcp.send(SYN, 0, 0);
    tcp.stream.handler.closed(error);
    expect(tcp.take()).toMatchObject([{ flags, seq: 0, ack: 1 }]);
    expect(tcp.rig.net.active).toBe(false);
  });

  it.each([
    ['EHOSTUNREACH', 1],
    ['ENETUNREACH', 0],
    ['ETIMEDOUT', 1],
    ['EACCES', 13],
  ])('answers %s of the host as a router would', (error, code) => {
    const tcp = new RawTcp(makeRig(), [5000, 80], '192.0.2.1');
    tcp.send(SYN, 0, 0);
    tcp.stream.handler.closed(error);
    const [icmp] = tcp.rig.cable.take();
    expect(icmp!.icmp).toMatchObject({ type: 3, code });
    const quoted = icmp!.icmp!.rest.subarray(4);
    expect([...quoted.subarray(9, 10), ...quoted.subarray(12)]).toEqual([
      ...[6, 10, 0, 2, 15, 192, 0, 2, 1],
      ...be16(5000),
      ...be16(80),
      ...be32(tcp.iss),
    ]);
  });

  it('ends an attempt of the host that takes too long', () => {
    const tcp = new RawTcp(makeRig(), [5000, 80], '192.0.2.1');
    tcp.send(SYN, 0, 0);
    tcp.rig.time.advance(76_000);
    expect(tcp.rig.cable.take()[0]!.icmp).toMatchObject({ type: 3, code: 1 });
    expect([tcp.stream.wasReset, tcp.rig.net.active]).toEqual([true, false]);
  });

  it('does not connect where the guest may not go', () => {
    for (const destination of ['127.0.0.1', '10.0.2.77']) {
      const tcp = new RawTcp(makeRig(), [5000, 80], destination);
      expect(tcp.send(SYN, 0, 0)).toMatchObject([{ flags: RST | ACK, ack: 1 }]);
      expect(tcp.rig.sockets.streams).toEqual([]);
    }
  });

  it('connects port 53 of the name server to the first of the host’s that answers', () => {
    const rig = makeRig();
    rig.sockets.servers = ['192.0.2.1', '192.0.2.2'].map(address => ({ address, port: 5353 }));
    const tcp = new RawTcp(rig, [5000, 53], '10.0.2.3');
    tcp.send(SYN, 0, 0);
    tcp.stream.handler.closed('ECONNREFUSED');
    expect(tcp.take()).toEqual([]);
    expect(rig.sockets.streams.map(s => s.to.address)).toEqual(['192.0.2.1', '192.0.2.2']);
    tcp.stream.handler.connected();
    expect(tcp.take()).toMatchObject([{ flags: SYN | ACK }]);
  });

  it('answers segments of unknown connections with resets (RFC 9293 section 3.10.7.1)', () => {
    const tcp = new RawTcp(makeRig());
    expect(brief(tcp.send(ACK, 5, 77))).toEqual([[RST, 77, (0 - tcp.iss) >>> 0, 0]]);
    expect(brief(tcp.send(FIN, 5, 0, [1, 2]))).toEqual([[RST | ACK, 0, 8, 0]]);
    expect(tcp.send(RST, 5, 0)).toEqual([]);
  });

  it('gives up with the guest', () => {
    const tcp = new RawTcp(makeRig());
    tcp.send(SYN, 0, 0);
    tcp.send(RST, 1, 0);
    expect([tcp.stream.wasReset, tcp.rig.net.active]).toEqual([true, false]);
  });

  it('has at most 1024 connections', () => {
    const rig = makeRig();
    for (let port = 1; port <= 1100; port++) new RawTcp(rig, [port, 80]).send(SYN, 0, 0);
    expect([rig.net.usage.tcpConnections, rig.sockets.streams.length]).toEqual([1024, 1024]);
  });
});

describe('from the guest', () => {
  it('collects a burst for the host and acknowledges it at once', () => {
    const tcp = new RawTcp(makeRig()).open();
    expect(tcp.send(ACK | PSH, 1, 1, bytes(1000))).toEqual([]);
    expect(tcp.send(ACK | PSH, 1001, 1, bytes(500))).toEqual([]);
    expect(tcp.stream.written).toEqual([]);
    expect(brief(tcp.settle())).toEqual([[ACK, 1, 1501, 0]]);
    expect(tcp.stream.written).toEqual([...bytes(1000), ...bytes(500)]);
  });

  it('puts segments into order and says where a hole is', () => {
    const tcp = new RawTcp(makeRig()).open();
    expect(brief(tcp.send(ACK, 101, 1, bytes(100, 100)))).toEqual([[ACK, 1, 1, 0]]);
    expect(brief(tcp.send(ACK, 301, 1, bytes(100, 300)))).toEqual([[ACK, 1, 1, 0]]);
    expect(brief(tcp.send(ACK | FIN, 401, 1, bytes(10, 400)))).toEqual([[ACK, 1, 1, 0]]);
    expect(tcp.rig.net.usage.tcpBytes).toBe(210);
    // Overlaps what came before and what follows
    expect(brief(tcp.send(ACK, 1, 1, bytes(150)))).toEqual([[ACK, 1, 201, 0]]);
    // Again: nothing new
    for (let i = 0; i < 5; i++) tcp.send(ACK, 301, 1, bytes(100, 300));
    expect(tcp.rig.net.usage.tcpBytes).toBe(110);
    expect(brief(tcp.send(ACK, 151, 1, bytes(160, 150)))).toEqual([[ACK, 1, 412, 0]]);
    expect(tcp.stream.written).toEqual([...bytes(410)]);
    expect(tcp.stream.ended).toBe(true);
    expect(tcp.rig.net.usage.tcpBytes).toBe(0);
  });

  it('answers what it had already, and what is beyond its window, with an acknowledgment', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.send(ACK, 1, 1, bytes(100));
    tcp.settle();
    for (const seq of [1, 0, 80_000]) expect(brief(tcp.send(ACK, seq, 1, bytes(100)))).toEqual([[ACK, 1, 101, 0]]);
    expect(brief(tcp.send(ACK, 0, 1))).toEqual([[ACK, 1, 101, 0]]); // keepalive
    expect(tcp.stream.written).toHaveLength(100);
  });

  it('drops a segment with a wrong checksum', () => {
    const tcp = new RawTcp(makeRig()).open();
    const f = { destination: '10.0.2.2', ports: tcp.ports, seq: tcp.iss + 1, ack: tcp.irs + 1, flags: ACK };
    const frame = tcpFrame(f, bytes(200));
    frame[200] = frame[200]! ^ 1;
    tcp.rig.cable.send(frame);
    expect([tcp.settle(), tcp.stream.written]).toEqual([[], []]);
  });

  it('finds the checksum over pieces of odd length', () => {
    const tcp = new RawTcp(makeRig()).open();
    const f = { destination: '10.0.2.2', ports: tcp.ports, seq: tcp.iss + 1, ack: tcp.irs + 1, flags: ACK };
    const frame = tcpFrame(f, bytes(701));
    const info = { needsChecksum: false, checksumStart: 0, checksumOffset: 0, gso: 'none', segmentSize: 0 } as const;
    tcp.rig.net.send(
      [frame.subarray(0, 201), frame.subarray(201, 202), frame.subarray(202, 505), frame.subarray(505)],
      info,
    );
    tcp.settle();
    expect(tcp.stream.written).toEqual([...bytes(701)]);
  });

  it('closes its window while the host does not take anything, and opens it after', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.slow = true;
    let seq = 1;
    let window = 65535;
    for (let i = 0; i < 200 && window > 0; i++) {
      const n = Math.min(1460, window);
      tcp.send(ACK, seq, 1, bytes(n));
      seq += n;
      const [ack] = tcp.settle();
      if (ack) {
        // Its right edge stays where it was.
        expect(ack.ack + ack.window).toBe(65536);
        window = ack.window;
      }
    }
    expect([seq, window, tcp.stream.buffered]).toEqual([65536, 0, 65535]);
    // A probe gets an answer and is not taken.
    expect(brief(tcp.send(ACK, seq, 1, bytes(1)))).toEqual([[ACK, 1, seq, 0]]);
    expect(tcp.settle()).toEqual([]);
    expect(tcp.stream.written).toHaveLength(65535);
    // Room for less than a segment is not worth saying.
    tcp.stream.buffered -= 1000;
    expect(tcp.send(ACK, seq, 1, bytes(1))).toMatchObject([{ window: 0 }]);
    tcp.stream.buffered += 1000;
    tcp.stream.slow = false;
    tcp.stream.drain();
    expect(tcp.take()).toMatchObject([{ flags: ACK, ack: seq, window: 65535 }]);
  });

  it('scales its window', () => {
    const tcp = new RawTcp(makeRig()).open(7);
    tcp.send(ACK, 1, 1, bytes(1));
    const [ack] = tcp.settle();
    expect(ack!.window).toBe(32768); // 256 KiB in units of 8
    // Half of it is acknowledged without waiting for the end of the burst.
    const acks = [0, 1, 2, 3].flatMap(i => tcp.send(ACK, 2 + i * 60_000, 1, bytes(60_000)));
    expect(brief(acks)).toEqual([[ACK, 1, 180_002, 0]]);
    expect(brief(tcp.settle())).toEqual([[ACK, 1, 240_002, 0]]);
    expect(tcp.stream.written).toHaveLength(240_001);
  });

  it('takes 64 KiB in one frame whose checksum is not made', () => {
    const tcp = new RawTcp(makeRig()).open(7);
    const f = { destination: '10.0.2.2', ports: tcp.ports, seq: tcp.iss + 1, ack: tcp.irs + 1, flags: ACK };
    const frame = tcpFrame(f, bytes(65_000));
    frame[50] = frame[50]! ^ 0xff;
    const info = {
      needsChecksum: true,
      checksumStart: 34,
      checksumOffset: 16,
      gso: 'tcp4',
      segmentSize: 1460,
    } as const;
    tcp.rig.net.send([frame.subarray(0, 54), frame.subarray(54, 4096), frame.subarray(4096)], info);
    expect(brief(tcp.settle())).toEqual([[ACK, 1, 65_001, 0]]);
    expect(tcp.stream.written).toEqual([...bytes(65_000)]);
  });

  it('repeats an acknowledgment that found no room', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.rig.cable.room = false;
    tcp.send(ACK, 1, 1, bytes(10));
    expect(tcp.settle()).toEqual([]);
    tcp.rig.cable.room = true;
    tcp.rig.net.roomAvailable();
    expect(brief(tcp.take())).toEqual([[ACK, 1, 11, 0]]);
  });
});

describe('to the guest', () => {
  it('cuts at the MSS, and pushes the end', () => {
    const tcp = new RawTcp(makeRig()).open(undefined, 1000);
    tcp.stream.handler.data(bytes(2500));
    const segments = tcp.take();
    expect(brief(segments)).toEqual([
      [ACK, 1, 1, 1000],
      [ACK, 1001, 1, 1000],
      [ACK | PSH, 2001, 1, 500],
    ]);
    expect(Buffer.concat(segments.map(s => s.payload))).toEqual(Buffer.from(bytes(2500)));
    tcp.send(ACK, 1, 2501);
    expect([tcp.rig.net.usage.tcpBytes, tcp.after(60_000)]).toEqual([0, []]);
  });

  it('gives large segments to be cut by a guest that takes them', () => {
    const rig = makeRig({ accepts: { checksum: true, tso4: true } });
    const tcp = new RawTcp(rig).open(7);
    tcp.stream.handler.data(bytes(65_536));
    const frames = rig.cable.received.map(r => [r.frame.length - 54, r.info]);
    const info = { needsChecksum: true, checksumStart: 34, checksumOffset: 16, gso: 'tcp4', segmentSize: 1460 };
    expect(frames).toEqual([
      [44 * 1460, info],
      [65_536 - 44 * 1460, { ...info, gso: 'none', segmentSize: 0 }],
    ]);
    expect(Buffer.concat(tcp.take().map(s => s.payload))).toEqual(Buffer.from(bytes(65_536)));
  });

  it('cuts no large segment short for want of window', () => {
    const rig = makeRig({ accepts: { checksum: true, tso4: true } });
    const tcp = new RawTcp(rig);
    tcp.window = 10_000;
    tcp.open();
    tcp.stream.handler.data(bytes(65_536));
    expect(tcp.take().map(s => s.payload.length)).toEqual([6 * 1460]);
  });

  it('sums up pieces of odd length', () => {
    const tcp = new RawTcp(makeRig());
    tcp.window = 0;
    tcp.open();
    for (const n of [3, 5, 1, 8]) tcp.stream.handler.data(bytes(n, n));
    tcp.window = 1000;
    const [segment] = tcp.send(ACK, 1, 1); // parse() has verified its checksum
    expect([...segment!.payload]).toEqual([3, 5, 1, 8].flatMap(n => [...bytes(n, n)]));
  });

  it('reads no more from the host than the guest takes', () => {
    const tcp = new RawTcp(makeRig()).open();
    for (let i = 0; i < 3; i++) tcp.stream.handler.data(new Uint8Array(65_536));
    expect(tcp.stream.paused).toBe(false);
    tcp.stream.handler.data(new Uint8Array(65_536));
    expect(tcp.stream.paused).toBe(true);
    const count = (segments: ParsedTcp[]) => segments.reduce((n, s) => n + s.payload.length, 0);
    let sent = count(tcp.take());
    expect(sent).toBe(44 * 1460);
    // It goes on when half of the 256 KiB have room.
    for (const paused of [true, true, false]) {
      sent += count(tcp.send(ACK, 1, 1 + sent));
      expect(tcp.stream.paused).toBe(paused);
    }
    // Single bytes count too.
    for (let i = 0; i < 256; i++) tcp.stream.handler.data(Uint8Array.of(i));
    expect(tcp.stream.paused).toBe(true);
  });

  it('waits for a window worth a segment', () => {
    const tcp = new RawTcp(makeRig());
    tcp.window = 2000;
    tcp.open(undefined, 1000);
    tcp.stream.handler.data(bytes(5000));
    expect(brief(tcp.take())).toEqual([
      [ACK, 1, 1, 1000],
      [ACK, 1001, 1, 1000],
    ]);
    tcp.window = 1500;
    expect(brief(tcp.send(ACK, 1, 1001))).toEqual([]); // room for 500
    expect(brief(tcp.send(ACK, 1, 2001))).toEqual([[ACK, 2001, 1, 1000]]);
  });

  it('asks for a closed window, for as long as the guest answers', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.window = 0;
    tcp.stream.handler.data(bytes(100));
    expect(tcp.send(ACK, 1, 101).map(s => s.payload.length)).toEqual([100]);
    tcp.stream.handler.data(bytes(5000, 100));
    expect(tcp.take()).toEqual([]);
    let probes = 0;
    for (let minutes = 0; minutes < 30; minutes++) {
      for (const probe of tcp.after(60_000)) {
        expect([probe.seq, probe.payload.length]).toEqual([101, 1]);
        expect(tcp.send(ACK, 1, 101)).toEqual([]);
        probes++;
      }
    }
    expect(probes).toBeGreaterThan(15);
    tcp.window = 65535;
    const segments = tcp.send(ACK, 1, 101);
    expect(Buffer.concat(segments.map(s => s.payload))).toEqual(Buffer.from(bytes(5000, 100)));
    expect(segments[0]!.seq).toBe(101);
  });

  it('repeats what is not acknowledged after a timeout that doubles, then gives up', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.data(bytes(3000));
    expect(tcp.take()).toHaveLength(3);
    // The first and one more for each doubling
    expect(brief(tcp.after(1_000))).toEqual([[ACK, 1, 1, 1460]]);
    expect(tcp.after(1_999)).toEqual([]);
    expect(brief(tcp.after(1))).toEqual([[ACK, 1, 1, 1460]]);
    // An acknowledgment lets it go on, slowly.
    expect(brief(tcp.send(ACK, 1, 1461))).toEqual([
      [ACK, 1461, 1, 1460],
      [ACK | PSH, 2921, 1, 80],
    ]);
    // And the timeout is short again.
    expect(tcp.after(999)).toEqual([]);
    expect(tcp.after(1)).toHaveLength(1);
    expect(tcp.after(900_000).at(-1)!.flags & RST).toBe(RST);
    expect([tcp.stream.wasReset, tcp.rig.net.active, tcp.rig.time.timers]).toEqual([true, false, 0]);
  });

  it('measures the round trip', () => {
    const tcp = new RawTcp(makeRig()).open();
    for (let i = 1; i <= 20; i++) {
      tcp.stream.handler.data(bytes(10));
      tcp.after(10);
      tcp.send(ACK, 1, 1 + 10 * i);
    }
    tcp.stream.handler.data(bytes(10));
    tcp.take();
    expect(tcp.after(249)).toEqual([]);
    expect(tcp.after(2)).toHaveLength(1); // the floor of 250 ms, not the initial second
  });

  it('repeats a lost segment after three duplicate acknowledgments, and the next hole after a partial one', () => {
    const tcp = new RawTcp(makeRig()).open(undefined, 1000);
    tcp.stream.handler.data(bytes(10_000));
    tcp.take();
    expect(tcp.send(ACK, 1, 1)).toEqual([]);
    expect(tcp.send(ACK, 1, 1)).toEqual([]);
    expect(brief(tcp.send(ACK, 1, 1))).toEqual([[ACK, 1, 1, 1000]]);
    expect(tcp.send(ACK, 1, 1)).toEqual([]);
    expect(brief(tcp.send(ACK, 1, 3001))).toEqual([[ACK, 3001, 1, 1000]]);
    expect(tcp.send(ACK, 1, 10_001)).toEqual([]);
    expect(tcp.after(10_000)).toEqual([]);
  });

  it('repeats a lost segment when there is room, if there was none before', () => {
    const tcp = new RawTcp(makeRig()).open(undefined, 1000);
    tcp.stream.handler.data(bytes(5000));
    tcp.take();
    tcp.rig.cable.room = false;
    for (let i = 0; i < 3; i++) tcp.send(ACK, 1, 1);
    tcp.rig.cable.room = true;
    tcp.rig.net.roomAvailable();
    expect(brief(tcp.take())).toEqual([[ACK, 1, 1, 1000]]);
  });

  it('does not take data or window updates for duplicate acknowledgments', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.data(bytes(5000));
    tcp.take();
    for (let i = 0; i < 5; i++) tcp.send(ACK, 1 + i, 1, [i]);
    for (let i = 0; i < 5; i++) {
      tcp.window -= 10;
      tcp.send(ACK, 6, 1);
    }
    expect(tcp.settle().filter(s => s.payload.length > 0)).toEqual([]);
  });

  it('goes on when the ring has room, without a loss', () => {
    const rig = makeRig();
    const tcp = new RawTcp(rig).open();
    const other = new RawTcp(rig, [6000, 80]).open();
    rig.cable.room = false;
    rig.sockets.streams[0]!.handler.data(bytes(3000));
    rig.sockets.streams[1]!.handler.data(bytes(10));
    rig.time.advance(600_000); // a guest that is stopped is not gone
    rig.cable.room = true;
    rig.net.roomAvailable();
    const all = tcp.take();
    expect(all.filter(s => s.ports[1] === 5000).map(s => s.payload.length)).toEqual([1460, 1460, 80]);
    expect(all.filter(s => s.ports[1] === 6000)).toHaveLength(1);
    other.send(ACK, 1, 11);
    tcp.send(ACK, 1, 3001);
    expect(rig.net.usage).toMatchObject({ tcpConnections: 2, tcpBytes: 0 });
  });

  it('does not believe an acknowledgment of what was never sent', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.data(bytes(10));
    tcp.take();
    expect(brief(tcp.send(ACK, 1, 12))).toEqual([[ACK, 11, 1, 0]]);
    expect(tcp.rig.net.usage.tcpBytes).toBe(10);
  });
});

describe('closing', () => {
  it('guest first: the host still sends (CLOSE-WAIT, LAST-ACK)', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.send(ACK | FIN, 1, 1, [7]);
    expect(brief(tcp.settle())).toEqual([[ACK, 1, 3, 0]]);
    expect([tcp.stream.written, tcp.stream.ended]).toEqual([[7], true]);
    tcp.stream.handler.data(bytes(5));
    tcp.stream.handler.end();
    tcp.stream.handler.closed(undefined);
    expect(brief(tcp.take())).toEqual([
      [ACK | PSH, 1, 3, 5],
      [ACK | FIN, 6, 3, 0],
    ]);
    expect(tcp.send(ACK, 3, 7)).toEqual([]);
    expect([tcp.rig.net.active, tcp.rig.time.timers, tcp.stream.wasReset]).toEqual([false, 0, false]);
  });

  it('host first: the guest still sends (FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT)', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.end();
    expect(brief(tcp.take())).toEqual([[ACK | FIN, 1, 1, 0]]);
    expect(tcp.send(ACK, 1, 2)).toEqual([]);
    tcp.send(ACK | PSH, 1, 2, bytes(5));
    expect(brief(tcp.settle())).toEqual([[ACK, 2, 6, 0]]);
    expect(brief(tcp.send(ACK | FIN, 6, 2))).toEqual([[ACK, 2, 7, 0]]);
    expect([tcp.stream.written.length, tcp.stream.ended]).toEqual([5, true]);
    tcp.stream.handler.closed(undefined);
    // The guest did not get the last acknowledgment.
    expect(brief(tcp.send(ACK | FIN, 6, 2))).toEqual([[ACK, 2, 7, 0]]);
    tcp.after(1_900);
    expect(tcp.rig.net.active).toBe(true);
    tcp.after(200);
    expect([tcp.rig.net.active, tcp.rig.time.timers]).toEqual([false, 0]);
  });

  it('both at once (CLOSING)', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.end();
    tcp.take();
    tcp.send(ACK | FIN, 1, 1);
    expect(brief(tcp.settle())).toEqual([[ACK, 2, 2, 0]]);
    tcp.send(ACK, 2, 2);
    tcp.stream.handler.closed(undefined);
    tcp.after(2_100);
    expect(tcp.rig.net.active).toBe(false);
  });

  it('sends its FIN behind all data, and repeats it', () => {
    const tcp = new RawTcp(makeRig());
    tcp.window = 1000;
    tcp.open(undefined, 1000);
    tcp.stream.handler.data(bytes(1500));
    tcp.stream.handler.end();
    tcp.stream.handler.closed(undefined);
    expect(brief(tcp.take())).toEqual([[ACK, 1, 1, 1000]]);
    expect(brief(tcp.send(ACK, 1, 1001))).toEqual([[ACK | PSH | FIN, 1001, 1, 500]]);
    expect(brief(tcp.after(1_100))).toEqual([[ACK | PSH | FIN, 1001, 1, 500]]);
    expect(brief(tcp.send(ACK | FIN, 1, 1502))).toEqual([[ACK, 1502, 2, 0]]);
  });

  it('lets a new SYN take the place of one in TIME-WAIT', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.end();
    tcp.send(ACK | FIN, 1, 2);
    tcp.stream.handler.closed(undefined);
    tcp.take();
    tcp.send(SYN, 100, 0);
    expect([tcp.rig.sockets.streams.length, tcp.rig.net.usage.tcpConnections]).toEqual([2, 1]);
  });

  it('counts a socket that has bytes left until they are gone, but not forever', () => {
    for (const gone of [true, false]) {
      const tcp = new RawTcp(makeRig()).open();
      tcp.stream.slow = true;
      tcp.send(ACK | FIN, 1, 1, bytes(100));
      tcp.settle();
      tcp.stream.handler.end();
      tcp.take();
      tcp.send(ACK, 102, 2);
      expect(tcp.rig.net.usage.tcpConnections).toBe(1);
      if (gone) tcp.stream.handler.closed(undefined);
      else tcp.after(61_000);
      expect([tcp.rig.net.usage.tcpConnections, tcp.stream.wasReset]).toEqual([0, !gone]);
    }
  });

  it('passes on a reset of the host', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.data(bytes(10));
    tcp.take();
    tcp.stream.handler.closed('ECONNRESET');
    expect(brief(tcp.take())).toEqual([[RST | ACK, 11, 1, 0]]);
    expect(tcp.rig.net.active).toBe(false);
  });

  it('resets a guest that sends to a host that is gone', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.stream.handler.end();
    tcp.stream.handler.closed(undefined);
    tcp.take();
    expect(tcp.send(ACK, 1, 2, bytes(10))).toMatchObject([{ flags: RST | ACK, seq: 2 }]);
    expect(tcp.rig.net.active).toBe(false);
  });

  it('passes on a reset of the guest, with what came before it; only with the exact number (RFC 5961)', () => {
    const tcp = new RawTcp(makeRig()).open();
    tcp.send(ACK, 1, 1, [1, 2, 3]);
    tcp.settle();
    expect(brief(tcp.send(RST, 5, 0))).toEqual([[ACK, 1, 4, 0]]);
    expect(brief(tcp.send(SYN, 5, 0))).toEqual([[ACK, 1, 4, 0]]);
    expect(tcp.send(RST, 80_000, 0)).toEqual([]);
    expect(tcp.rig.net.active).toBe(true);
    tcp.send(ACK, 4, 1, [4]);
    tcp.send(RST, 5, 0);
    expect([tcp.stream.written, tcp.stream.wasReset]).toEqual([[1, 2, 3, 4], true]);
    expect(tcp.rig.net.active).toBe(false);
  });

  it('asks an idle guest after two hours, and forgets it when it is gone', () => {
    const tcp = new RawTcp(makeRig()).open();
    expect(brief(tcp.after(7_201_000))).toEqual([[ACK, 0, 1, 0]]);
    tcp.send(ACK, 1, 1);
    expect(brief(tcp.after(7_201_000))).toEqual([[ACK, 0, 1, 0]]);
    expect(tcp.after(800_000).at(-1)!.flags).toBe(RST | ACK);
    expect([tcp.rig.net.active, tcp.stream.wasReset]).toEqual([false, true]);
  });

  it('leaves nothing behind', async () => {
    const rig = makeRig();
    const tcp = new RawTcp(rig).open();
    new RawTcp(rig, [5001, 80]).send(SYN, 0, 0);
    tcp.stream.handler.data(bytes(10));
    await rig.net.close();
    expect(rig.sockets.streams.every(s => s.wasReset)).toBe(true);
    expect([rig.net.active, rig.time.timers]).toEqual([false, 0]);
    tcp.send(SYN, 0, 0);
    expect(rig.sockets.streams).toHaveLength(2);
  });
});
