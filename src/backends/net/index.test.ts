import { describe, expect, it } from 'vitest';
import {
  ACK,
  ALL_MAC,
  Cable,
  FakeSockets,
  FakeTime,
  FIN,
  ROUTER_MAC,
  RST,
  SYN,
  tcpFrame,
  udpFrame,
} from '../../../test/support/user-net.ts';
import { VmError } from '../../util/errors.ts';
import { createUserNetwork, type PortForward } from './index.ts';

async function makeForward(...forward: PortForward[]) {
  const sockets = new FakeSockets();
  const time = new FakeTime();
  let random = 7;
  const net = await createUserNetwork({ forward, sockets, scheduler: time, random: () => random++ });
  return { net, sockets, time, cable: new Cable(net) };
}

/** The guest has an address: it is known from its first packet. */
const hello = (): Uint8Array => udpFrame({ destination: '10.0.2.2', ports: [1, 9] }, []);

const ssh: PortForward = { proto: 'tcp', hostPort: 0, guestPort: 22 };

describe('createUserNetwork', () => {
  it('says which ports it listens on, and is active as long as it does', async () => {
    const { net, sockets } = await makeForward(ssh, { ...ssh, hostAddress: '0.0.0.0', hostPort: 8022 });
    expect(net.forwards).toEqual([
      { proto: 'tcp', hostAddress: '127.0.0.1', hostPort: 40_000, guestPort: 22 },
      { proto: 'tcp', hostAddress: '0.0.0.0', hostPort: 8022, guestPort: 22 },
    ]);
    expect([net.active, sockets.listening]).toEqual([true, 2]);
    await net.close();
    expect([net.active, sockets.listening]).toEqual([false, 0]);
  });

  it('connects the guest to who comes to a TCP port', async () => {
    const { net, sockets, time, cable } = await makeForward(ssh);
    const stream = sockets.arrive({ address: '127.0.0.1', port: 51_000 })!;
    // Where the guest is has to be asked first.
    const [question] = cable.take();
    expect([question!.etherType, question!.macs]).toEqual([0x0806, { source: ROUTER_MAC, destination: ALL_MAC }]);
    expect([...question!.packet.subarray(6, 8), ...question!.packet.subarray(24)]).toEqual([0, 1, 10, 0, 2, 15]);
    cable.send(hello());
    time.advance(1_000);
    const [syn] = cable.take();
    expect(syn!.ip).toMatchObject({ source: '10.0.2.2', destination: '10.0.2.15' });
    expect(syn!.tcp).toMatchObject({ flags: SYN, ports: [51_000, 22], options: [2, 4, 5, 180, 1, 3, 3, 3] });
    const f = { destination: '10.0.2.2', ports: [22, 51_000] as [number, number] };
    const iss = syn!.tcp!.seq;
    // An answer to something else
    cable.send(tcpFrame({ ...f, seq: 500, ack: iss + 2, flags: SYN | ACK }));
    expect(cable.takeTcp()).toMatchObject([{ flags: RST, seq: iss + 2 }]);
    cable.send(tcpFrame({ ...f, seq: 500, ack: iss + 1, flags: SYN | ACK, tcpOptions: [2, 4, 1, 0] }));
    expect(cable.takeTcp()).toMatchObject([{ flags: ACK, seq: iss + 1, ack: 501 }]);
    expect(stream.paused).toBe(false);
    stream.handler.data(new Uint8Array(300));
    expect(cable.takeTcp().map(s => s.payload.length)).toEqual([256, 44]);
    cable.send(tcpFrame({ ...f, seq: 501, ack: iss + 301, flags: ACK | FIN }, [1, 2]));
    time.settle();
    expect([stream.written, stream.ended]).toEqual([[1, 2], true]);
    expect(net.usage.tcpConnections).toBe(1);
  });

  it('refuses with the guest, and when nobody answers', async () => {
    const { sockets, time, cable, net } = await makeForward(ssh);
    cable.send(hello());
    const refused = sockets.arrive({ address: '127.0.0.1', port: 51_000 })!;
    const [syn] = cable.takeTcp();
    const f = { destination: '10.0.2.2', ports: [22, 51_000] as [number, number] };
    cable.send(tcpFrame({ ...f, seq: 0, ack: syn!.seq + 9, flags: RST | ACK })); // not about this SYN
    expect(refused.wasReset).toBe(false);
    cable.send(tcpFrame({ ...f, seq: 0, ack: syn!.seq + 1, flags: RST | ACK }));
    expect(refused.wasReset).toBe(true);
    const silent = sockets.arrive({ address: '127.0.0.1', port: 51_000 })!;
    time.advance(200_000);
    expect([silent.wasReset, net.usage.tcpConnections]).toEqual([true, 0]);
  });

  it('tells two hosts with the same port apart', async () => {
    const { sockets, cable } = await makeForward(ssh);
    cable.send(hello());
    for (const address of ['192.0.2.1', '192.0.2.2']) sockets.arrive({ address, port: 51_000 });
    const [a, b] = cable.takeTcp();
    expect(a!.ports[0]).toBe(51_000);
    expect(b!.ports[0]).toBeGreaterThanOrEqual(49_152);
    expect(b!.ports[0]).not.toBe(51_000);
  });

  it('passes datagrams to the guest and its answers back to who sent them', async () => {
    const { sockets, cable, net, time } = await makeForward({ proto: 'udp', hostPort: 5300, guestPort: 53 });
    cable.send(hello());
    const [listener] = sockets.datagrams;
    const peers = [
      { address: '192.0.2.1', port: 6000 },
      { address: '192.0.2.2', port: 6000 },
    ];
    for (const [i, peer] of peers.entries()) listener!.handler.message(Uint8Array.of(i), peer);
    listener!.handler.message(Uint8Array.of(9), peers[0]!);
    const datagrams = cable.take().map(p => p.udp!);
    expect(datagrams.map(d => [...d.payload])).toEqual([[0], [1], [9]]);
    expect(datagrams[0]!.ports).toEqual([6000, 53]);
    expect(datagrams[2]!.ports).toEqual([6000, 53]);
    const second = datagrams[1]!.ports[0];
    cable.send(udpFrame({ destination: '10.0.2.2', ports: [53, second] }, [5]));
    cable.send(udpFrame({ destination: '10.0.2.2', ports: [53, 6000] }, [6]));
    expect(listener!.sent.map(s => [[...s.bytes], s.to])).toEqual([
      [[5], peers[1]],
      [[6], peers[0]],
    ]);
    time.advance(61_000);
    expect(net.usage.udpFlows).toBe(0);
    expect(listener!.closed).toBe(false);
    listener!.handler.message(Uint8Array.of(0), peers[0]!);
    expect(cable.take()[0]!.udp!.ports).toEqual([6000, 53]);
  });

  it.each([
    ['EADDRINUSE', /choose another port/],
    ['EACCES', /1024/],
    ['EADDRNOTAVAIL', /127\.0\.0\.1/],
  ])('explains %s', async (code, hint) => {
    const sockets = new FakeSockets();
    const first = await createUserNetwork({ forward: [ssh], sockets });
    await first.close();
    sockets.listenError = Object.assign(new Error(code), { code });
    const made = createUserNetwork({ forward: [{ ...ssh, hostPort: 80 }], sockets });
    const error = await made.then(
      () => undefined,
      e => e,
    );
    expect(error).toBeInstanceOf(VmError);
    expect(error).toMatchObject({ code: 'ERR_NETWORK', message: `cannot listen on tcp 127.0.0.1:80 (${code})` });
    expect(error.hint).toMatch(hint);
  });

  it('closes the ports that it has when another fails', async () => {
    const sockets = new FakeSockets();
    const bad = { ...ssh, guestPort: 0 };
    await expect(createUserNetwork({ forward: [ssh, bad], sockets })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    expect(sockets.listening).toBe(0);
  });

  it.each([
    { mtu: 500 },
    { mtu: 70_000 },
    { mtu: 1500.5 },
    { forward: [{ ...ssh, hostPort: 65_536 }] },
    { forward: [{ ...ssh, hostAddress: 'localhost' }] },
  ])('refuses %j', async options => {
    const made = createUserNetwork({ ...options, sockets: new FakeSockets() });
    await expect(made).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });
});
