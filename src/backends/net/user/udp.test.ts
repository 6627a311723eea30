import { describe, expect, it } from 'vitest';
import { be16, makeRig, udpFrame } from '../../../../test/support/user-net.ts';
import { serverFailure } from './dns.ts';

const outside = { destination: '192.0.2.1', ports: [1000, 2000] as [number, number] };

describe('UDP', () => {
  it('has one socket for each pair of ends, and passes on what it gets', () => {
    const { cable, sockets, net } = makeRig();
    cable.send(udpFrame(outside, [1]));
    cable.send(udpFrame(outside, [2]));
    cable.send(udpFrame({ ...outside, ports: [1001, 2000] }, [3]));
    expect(sockets.datagrams.map(d => [d.to, d.sent.map(s => [...s.bytes])])).toEqual([
      [{ address: '192.0.2.1', port: 2000 }, [[1], [2]]],
      [{ address: '192.0.2.1', port: 2000 }, [[3]]],
    ]);
    expect(net.active).toBe(true);
    sockets.datagrams[1]!.handler.message(Uint8Array.of(9, 8, 7), { address: '192.0.2.1', port: 2000 });
    const [answer] = cable.take();
    expect(answer!.ip).toMatchObject({ source: '192.0.2.1', destination: '10.0.2.15' });
    expect(answer!.udp).toEqual({ ports: [2000, 1001], payload: Uint8Array.of(9, 8, 7) });
  });

  it('takes empty datagrams and the largest', () => {
    const { cable, sockets } = makeRig();
    cable.send(udpFrame(outside, []));
    cable.send(udpFrame(outside, new Uint8Array(65_507)));
    expect(sockets.datagrams[0]!.sent.map(s => s.bytes.length)).toEqual([0, 65_507]);
    const from = { address: '192.0.2.1', port: 2000 };
    sockets.datagrams[0]!.handler.message(new Uint8Array(65_507).fill(3), from);
    const fragments = cable.take();
    expect(fragments).toHaveLength(45);
    expect(fragments.every(f => f.packet.length <= 1500)).toBe(true);
    expect(new Set(fragments.map(f => f.ip!.id)).size).toBe(1);
    const whole = Buffer.concat(fragments.map(f => f.ip!.payload));
    expect([whole.length, whole.readUInt16BE(4), whole.at(-1)]).toEqual([65_515, 65_515, 3]);
    // One that IPv4 cannot carry, as IPv6's jumbograms
    sockets.datagrams[0]!.handler.message(new Uint8Array(65_508), from);
    expect(cable.take()).toEqual([]);
  });

  it('never sends the checksum 0, which would mean none', () => {
    const { cable, sockets } = makeRig();
    cable.send(udpFrame(outside, [1]));
    const answer = (payload: number[]): number => {
      sockets.datagrams[0]!.handler.message(Uint8Array.from(payload), { address: '192.0.2.1', port: 2000 });
      return Buffer.from(cable.take()[0]!.packet).readUInt16BE(26);
    };
    const sum = answer([0, 0]);
    expect(answer(be16(sum))).toBe(0xffff);
  });

  it('tells the guest why a datagram did not arrive', () => {
    const { cable, sockets } = makeRig();
    cable.send(udpFrame(outside, [1]));
    for (const [error, code] of [
      ['ECONNREFUSED', 3],
      ['EHOSTUNREACH', 1],
      ['ENETUNREACH', 0],
      ['EACCES', 13],
    ] as const) {
      sockets.datagrams[0]!.handler.error(error);
      const [icmp] = cable.take();
      expect(icmp!.icmp).toMatchObject({ type: 3, code });
      const quoted = icmp!.icmp!.rest.subarray(4);
      expect(quoted.subarray(12, 24)).toEqual(Uint8Array.of(10, 0, 2, 15, 192, 0, 2, 1, ...be16(1000), ...be16(2000)));
    }
    sockets.datagrams[0]!.handler.error('EMSGSIZE');
    expect(cable.take()).toEqual([]);
  });

  it('ends flows that are idle for a minute', () => {
    const { cable, sockets, net, time } = makeRig();
    cable.send(udpFrame(outside, [1]));
    time.advance(59_000);
    sockets.datagrams[0]!.handler.message(Uint8Array.of(1), { address: '192.0.2.1', port: 2000 });
    time.advance(59_000);
    expect(sockets.datagrams[0]!.closed).toBe(false);
    time.advance(2_000);
    expect(sockets.datagrams[0]!.closed).toBe(true);
    expect([net.active, net.usage.udpFlows, time.timers]).toEqual([false, 0, 0]);
  });

  it('has at most 256 flows; the longest idle one gives way', () => {
    const { cable, sockets, net, time } = makeRig();
    for (let port = 1; port <= 300; port++) {
      cable.send(udpFrame({ ...outside, ports: [port, 2000] }, [1]));
      time.advance(1);
      cable.send(udpFrame({ ...outside, ports: [1, 2000] }, [1])); // never idle
      time.advance(1);
    }
    expect(net.usage.udpFlows).toBe(256);
    expect(sockets.datagrams.filter(d => d.closed)).toHaveLength(44);
    expect(sockets.datagrams.slice(1, 45).every(d => d.closed)).toBe(true);
  });

  it('drops what the guest has no room for', () => {
    const { cable, sockets } = makeRig();
    cable.send(udpFrame(outside, [1]));
    cable.room = false;
    sockets.datagrams[0]!.handler.message(new Uint8Array(3000), { address: '192.0.2.1', port: 2000 });
    cable.room = true;
    cable.net.roomAvailable();
    expect(cable.take()).toEqual([]);
    sockets.datagrams[0]!.handler.message(Uint8Array.of(5), { address: '192.0.2.1', port: 2000 });
    expect(cable.take()).toHaveLength(1);
  });
});

/** A query for the address of a.example. */
const query = (id: number): Uint8Array =>
  Uint8Array.from([...be16(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 7, ...Buffer.from('example'), 0, 0, 1, 0, 1]);
const ask = (id: number, port = 4000): Uint8Array =>
  udpFrame({ destination: '10.0.2.3', ports: [port, 53] }, query(id));

describe('DNS', () => {
  it('passes a query on under another ID, and the answer back', () => {
    const { cable, sockets, net } = makeRig();
    cable.send(ask(0x1234));
    cable.send(ask(0x1234)); // repeated
    expect(sockets.datagrams).toHaveLength(1);
    const [server] = sockets.datagrams;
    expect(server!.to).toEqual({ address: '192.0.2.53', port: 53 });
    const sent = server!.sent[0]!.bytes;
    expect([...sent.subarray(2)]).toEqual([...query(0).subarray(2)]);
    expect([sent[0], sent[1]]).not.toEqual([0x12, 0x34]);
    const answer = sent.slice();
    answer[2] = 0x81;
    const other = answer.slice();
    other[0] = sent[0]! ^ 1;
    const from = { address: '192.0.2.53', port: 53 };
    server!.handler.message(other, from);
    server!.handler.message(sent, from); // no answer at all
    server!.handler.message(answer.subarray(0, 11), from);
    expect(cable.take()).toEqual([]);
    server!.handler.message(answer, from);
    const [reply] = cable.take();
    expect(reply!.ip!.source).toBe('10.0.2.3');
    expect(reply!.udp).toEqual({
      ports: [53, 4000],
      payload: Uint8Array.of(0x12, 0x34, 0x81, ...answer.subarray(3)),
    });
    expect([server!.closed, net.usage.dnsQueries]).toEqual([true, 0]);
  });

  it('asks the next server when one is silent or not there, then gives up', () => {
    const { cable, sockets, time } = makeRig();
    sockets.servers = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map(address => ({ address, port: 53 }));
    cable.send(ask(7));
    time.advance(2_000);
    expect(sockets.datagrams.map(d => [d.to!.address, d.closed])).toEqual([
      ['192.0.2.1', true],
      ['192.0.2.2', false],
    ]);
    expect(cable.take()).toEqual([]);
    sockets.datagrams[1]!.handler.error('ECONNREFUSED');
    const [failed] = cable.take();
    expect([...failed!.udp!.payload]).toEqual([0, 7, 0x81, 0x82, ...query(7).subarray(4)]);
    expect([sockets.datagrams.length, time.timers]).toEqual([2, 0]);
  });

  it('answers SERVFAIL where the host has no server', () => {
    const { cable, sockets } = makeRig();
    sockets.servers = [];
    cable.send(ask(7));
    expect([...cable.take()[0]!.udp!.payload.subarray(0, 4)]).toEqual([0, 7, 0x81, 0x82]);
  });

  it('has at most 128 queries', () => {
    const { cable, sockets, net } = makeRig();
    for (let id = 0; id < 200; id++) cable.send(ask(id));
    expect(net.usage.dnsQueries).toBe(128);
    expect(sockets.datagrams.filter(d => !d.closed)).toHaveLength(128);
    expect(cable.take()).toHaveLength(72);
  });

  it('makes a SERVFAIL of anything', () => {
    const two = query(1);
    two[5] = 2;
    const compressed = query(1);
    compressed[12] = 0xc0;
    for (const q of [two, compressed, query(1).subarray(0, 20)]) {
      expect([...serverFailure(q)]).toEqual([0, 1, 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
  });
});
