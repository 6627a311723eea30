import { describe, expect, it } from 'vitest';
import {
  ALL_MAC,
  be16,
  be32,
  GUEST_MAC,
  internetChecksum,
  ip,
  ipv4Frame,
  makeRig,
  parse,
  ROUTER_MAC,
  udpFrame,
  udpPacket,
} from '../../../../test/support/user-net.ts';

const arp = (sender: string, target: string, operation = 1, destination = ALL_MAC): Uint8Array =>
  Uint8Array.from([
    ...destination,
    ...GUEST_MAC,
    ...[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
    ...GUEST_MAC,
    ...ip(sender),
    ...[0, 0, 0, 0, 0, 0],
    ...ip(target),
  ]);

describe('ARP', () => {
  it('answers for all of the subnet but the guest', () => {
    const { cable } = makeRig();
    for (const target of ['10.0.2.2', '10.0.2.3', '10.0.2.77']) {
      cable.send(arp('10.0.2.15', target));
      const [reply, ...more] = cable.take();
      expect(more).toEqual([]);
      expect(reply!.macs).toEqual({ destination: GUEST_MAC, source: ROUTER_MAC });
      expect(reply!.etherType).toBe(0x0806);
      const head = [0, 1, 8, 0, 6, 4, 0, 2];
      expect([...reply!.packet]).toEqual([...head, ...ROUTER_MAC, ...ip(target), ...GUEST_MAC, ...ip('10.0.2.15')]);
    }
  });

  it.each([
    ['the guest itself', arp('10.0.2.15', '10.0.2.15')],
    ['the address that DHCP gives the guest', arp('10.0.2.16', '10.0.2.15')],
    ['a probe for a free address (RFC 5227)', arp('0.0.0.0', '10.0.2.50')],
    ['an address of another subnet', arp('10.0.2.15', '10.0.3.2')],
    ['network and broadcast addresses', arp('10.0.2.15', '10.0.2.255')],
    ['a reply', arp('10.0.2.15', '10.0.2.2', 2)],
    ['a short packet', arp('10.0.2.15', '10.0.2.2').subarray(0, 41)],
    ["a frame to somebody else's MAC address", arp('10.0.2.15', '10.0.2.2', 1, [2, 0, 0, 0, 0, 1])],
  ])('does not answer: %s', (_what, frame) => {
    const { cable } = makeRig();
    cable.send(frame);
    expect(cable.take()).toEqual([]);
  });

  it('answers a probe for the addresses that are taken', () => {
    const { cable } = makeRig();
    cable.send(arp('0.0.0.0', '10.0.2.2'));
    expect(cable.take()).toHaveLength(1);
  });

  it('leaves the addresses of a second guest alone', () => {
    const { cable } = makeRig();
    cable.send(arp('10.0.2.40', '10.0.2.2'));
    cable.take();
    cable.send(arp('10.0.2.15', '10.0.2.40'));
    expect(cable.take()).toEqual([]);
  });
});

const MAC2 = [0x52, 0x54, 0, 0x12, 0x34, 0x57];

/** A DHCP message as RFC 2131 section 2 lays it out. */
function dhcp(options: number[], more: { ciaddr?: string; flags?: number; mac?: number[] } = {}): Uint8Array {
  const mac = more.mac ?? GUEST_MAC;
  const message = new Uint8Array(300);
  message.set([1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, ...be16(more.flags ?? 0), ...ip(more.ciaddr ?? '0.0.0.0')]);
  message.set(mac, 28);
  message.set([0x63, 0x82, 0x53, 0x63, ...options, 255], 236);
  const source = more.ciaddr ?? '0.0.0.0';
  const macs = { source: mac, destination: ALL_MAC };
  return udpFrame({ source, destination: '255.255.255.255', ports: [68, 67], macs }, message);
}

describe('DHCP', () => {
  it('offers and acknowledges, byte by byte', () => {
    const { cable } = makeRig({ mtu: 1400, hostname: 'guest' });
    for (const [type, answer] of [
      [[53, 1, 1], 2],
      [[53, 1, 3, 54, 4, 10, 0, 2, 2, 50, 4, 10, 0, 2, 15], 5],
    ] as const) {
      cable.send(dhcp([...type]));
      const [reply] = cable.take();
      expect(reply!.macs).toEqual({ destination: GUEST_MAC, source: ROUTER_MAC });
      expect(reply!.ip).toMatchObject({ source: '10.0.2.2', destination: '10.0.2.15' });
      expect(reply!.udp!.ports).toEqual([67, 68]);
      const m = reply!.udp!.payload;
      expect(m).toHaveLength(300);
      expect([...m.subarray(0, 8)]).toEqual([2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
      expect([...m.subarray(8, 28)]).toEqual([
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        ...ip('10.0.2.15'),
        ...ip('10.0.2.2'),
        0,
        0,
        0,
        0,
      ]);
      expect([...m.subarray(28, 44)]).toEqual([...GUEST_MAC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
      expect(m.subarray(44, 236).every(b => b === 0)).toBe(true);
      expect([...m.subarray(236, 291)]).toEqual([
        ...[0x63, 0x82, 0x53, 0x63],
        ...[53, 1, answer],
        ...[54, 4, 10, 0, 2, 2],
        ...[51, 4, ...be32(86_400)],
        ...[1, 4, 255, 255, 255, 0],
        ...[3, 4, 10, 0, 2, 2],
        ...[6, 4, 10, 0, 2, 3],
        ...[28, 4, 10, 0, 2, 255],
        ...[26, 2, ...be16(1400)],
        ...[12, 5, ...Buffer.from('guest')],
        255,
      ]);
    }
  });

  it('refuses an address that is not the client’s', () => {
    const { cable } = makeRig();
    cable.send(dhcp([53, 1, 3, 50, 4, 192, 168, 0, 7]));
    const [nak] = cable.take();
    expect(nak!.macs.destination).toEqual(ALL_MAC);
    expect(nak!.ip!.destination).toBe('255.255.255.255');
    expect([...nak!.udp!.payload.subarray(240, 243)]).toEqual([53, 1, 6]);
    expect([...nak!.udp!.payload.subarray(12, 24)]).toEqual(Array(12).fill(0));
  });

  it('gives each MAC address its own, and a released one again', () => {
    const { cable } = makeRig();
    const offered = (mac: number[]): string => {
      cable.send(dhcp([53, 1, 1], { mac }));
      return cable.take()[0]!.udp!.payload.subarray(16, 20).join('.');
    };
    expect(offered(GUEST_MAC)).toBe('10.0.2.15');
    expect(offered(MAC2)).toBe('10.0.2.16');
    expect(offered(GUEST_MAC)).toBe('10.0.2.15');
    cable.send(dhcp([53, 1, 7], { ciaddr: '10.0.2.15' }));
    expect(cable.take()).toEqual([]);
    expect(offered([2, 0, 0, 0, 0, 9])).toBe('10.0.2.15');
    for (let i = 0; i < 40; i++) expect(offered([2, 0, 0, 0, 1, i])).toMatch(/^10\.0\.2\.(1[5-9]|2\d|30)$/);
  });

  it('answers where the client listens (RFC 2131 section 4.1)', () => {
    const { cable } = makeRig();
    cable.send(dhcp([53, 1, 1], { flags: 0x8000 }));
    expect(cable.take()[0]!.ip!.destination).toBe('255.255.255.255');
    cable.send(dhcp([53, 1, 3], { ciaddr: '10.0.2.15' }));
    expect(cable.take()[0]!.ip!.destination).toBe('10.0.2.15');
    // INFORM: parameters without a lease
    cable.send(dhcp([53, 1, 8], { ciaddr: '10.0.2.15' }));
    const inform = cable.take()[0]!.udp!.payload;
    expect([...inform.subarray(16, 20)]).toEqual([0, 0, 0, 0]);
    expect([...inform.subarray(240, 255)]).toEqual([53, 1, 5, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0]);
  });

  it.each([
    ['for another server', dhcp([53, 1, 3, 54, 4, 10, 0, 2, 9])],
    ['without a type', dhcp([])],
    ['with an option beyond its end', dhcp([53, 200, 1])],
  ])('is silent about a message %s', (_what, frame) => {
    const { cable } = makeRig();
    cable.send(frame);
    expect(cable.take()).toEqual([]);
  });
});

describe('ICMP', () => {
  const echo = (size: number): Uint8Array => {
    const packet = Uint8Array.from([8, 0, 0, 0, 0x12, 0x34, 0, 1, ...Array.from({ length: size }, (_, i) => i & 255)]);
    packet.set(be16(internetChecksum(packet)), 2);
    return packet;
  };

  it.each(['10.0.2.2', '10.0.2.3'])('%s answers echo requests', destination => {
    const { cable } = makeRig();
    cable.send(ipv4Frame({ destination, protocol: 1 }, echo(56)));
    const [reply] = cable.take();
    expect(reply!.ip).toMatchObject({ source: destination, destination: '10.0.2.15' });
    expect(reply!.icmp).toMatchObject({ type: 0, code: 0 });
    expect([...reply!.icmp!.rest]).toEqual([...echo(56).subarray(4)]);
  });

  it('says that others are out of reach', () => {
    const { cable } = makeRig();
    const frame = ipv4Frame({ destination: '192.0.2.1', protocol: 1 }, echo(56));
    cable.send(frame);
    const [reply] = cable.take();
    expect(reply!.icmp).toMatchObject({ type: 3, code: 13 });
    expect([...reply!.icmp!.rest]).toEqual([0, 0, 0, 0, ...frame.subarray(14, 42)]);
  });

  it('reassembles what is larger than the MTU, and answers in fragments', () => {
    const { cable, net } = makeRig();
    const packet = echo(4000);
    const at = [2960, 0, 1480];
    for (const start of at) {
      const more = start === 2960 ? 0 : 0x2000;
      const f = { destination: '10.0.2.2', protocol: 1, id: 7, fragment: more | (start / 8) };
      cable.send(ipv4Frame(f, packet.subarray(start, start + 1480)));
      // The same again changes nothing.
      if (start === 0) cable.send(ipv4Frame(f, packet.subarray(start, start + 1480)));
    }
    const fragments = cable.take();
    expect(fragments.map(f => f.ip!.fragment)).toEqual([0x2000, 0x2000 | 185, 370]);
    const whole = Buffer.concat(fragments.map(f => f.ip!.payload));
    expect(whole[0]).toBe(0);
    expect(internetChecksum(whole)).toBe(0);
    expect(whole.subarray(4)).toEqual(Buffer.from(packet.subarray(4)));
    expect(net.usage.reassemblies).toBe(0);
  });

  it('keeps few unfinished datagrams, and none for long', () => {
    const { cable, net, time } = makeRig();
    for (let id = 0; id < 100; id++) {
      cable.send(ipv4Frame({ destination: '10.0.2.2', protocol: 17, id, fragment: 0x2000 }, new Uint8Array(1480)));
    }
    expect(net.usage.reassemblies).toBe(8);
    time.advance(20_000);
    expect(net.usage.reassemblies).toBe(0);
    expect(time.timers).toBe(0);
  });

  it('ends a datagram whose fragments overlap or do not fit', () => {
    const { cable, net, sockets } = makeRig();
    const f = { destination: '192.0.2.1', protocol: 17, id: 1 };
    const packet = udpPacket({ destination: '192.0.2.1', ports: [1, 2] }, new Uint8Array(1992));
    const send = (start: number, end: number): void => {
      const fragment = (end < packet.length ? 0x2000 : 0) | (start / 8);
      cable.send(ipv4Frame({ ...f, fragment }, packet.subarray(start, end)));
    };
    send(0, 1480);
    send(1472, 2000);
    expect(net.usage.reassemblies).toBe(0);
    send(0, 1480);
    cable.send(ipv4Frame({ ...f, fragment: 0x1fff }, new Uint8Array(1480))); // beyond 65535 bytes
    cable.send(ipv4Frame({ ...f, fragment: 0x2000 | 185 }, new Uint8Array(9))); // no multiple of 8
    expect([net.usage.reassemblies, sockets.datagrams]).toEqual([1, []]);
    send(1480, 2000);
    expect(sockets.datagrams[0]!.sent[0]!.bytes).toHaveLength(1992);
  });

  it('says which protocols there are, and that a time to live ended', () => {
    const { cable } = makeRig();
    cable.send(ipv4Frame({ destination: '192.0.2.1', protocol: 47 }, new Uint8Array(8)));
    expect(cable.take()[0]!.icmp).toMatchObject({ type: 3, code: 2 });
    cable.send(udpFrame({ destination: '192.0.2.1', ports: [1, 33434], ttl: 1 }, [1]));
    expect(cable.take()[0]!.icmp).toMatchObject({ type: 11, code: 0 });
  });
});

describe('IPv4', () => {
  const good = (): Uint8Array => udpFrame({ destination: '192.0.2.1', ports: [1000, 2000] }, [1, 2, 3]);
  const changed = (at: number, value: number): Uint8Array => {
    const frame = good();
    frame[at] = value;
    return frame;
  };

  it.each([
    ['a wrong checksum', changed(24, 1)],
    ['version 6', changed(14, 0x65)],
    ['a header that is too short', changed(14, 0x44)],
    ['a length beyond the frame', ipv4Frame({ destination: '192.0.2.1', protocol: 17 }, [1]).subarray(0, 34)],
    ['a source outside of the subnet', udpFrame({ source: '10.0.3.15', destination: '192.0.2.1', ports: [1, 2] }, [])],
    ["the router's address as source", udpFrame({ source: '10.0.2.2', destination: '192.0.2.1', ports: [1, 2] }, [])],
    ['a multicast destination', udpFrame({ destination: '224.0.0.251', ports: [5353, 5353] }, [])],
    ['a broadcast that is no DHCP', udpFrame({ destination: '10.0.2.255', ports: [137, 137] }, [])],
    ['a wrong UDP checksum', changed(44, 9)],
    ['IPv6', changed(12, 0x86)],
    ['a group as source MAC address', changed(6, 1)],
  ])('drops %s', (_what, frame) => {
    const { cable, net } = makeRig();
    cable.send(frame);
    expect(cable.take()).toEqual([]);
    expect(net.active).toBe(false);
  });

  it('takes padding, options, pieces, and checksums that the device would have made', () => {
    const { net, sockets } = makeRig();
    const info = { needsChecksum: false, checksumStart: 0, checksumOffset: 0, gso: 'none', segmentSize: 0 } as const;
    const f = { destination: '192.0.2.1', ports: [1000, 2000] as [number, number] };
    const padded = new Uint8Array(60);
    padded.set(udpFrame(f, [1, 2, 3]));
    net.send([padded], info);
    const packet = udpPacket(f, [4, 5, 6]);
    net.send([ipv4Frame({ ...f, protocol: 17, options: [1, 1, 1, 0] }, packet)], info);
    const frame = udpFrame(f, new Uint8Array(700).fill(7));
    net.send([frame.subarray(0, 9), frame.subarray(9, 150), new Uint8Array(), frame.subarray(150)], info);
    const partial = udpFrame(f, [8]);
    partial[40] = 0x55;
    net.send([partial], { ...info, needsChecksum: true, checksumStart: 34, checksumOffset: 6 });
    expect(sockets.datagrams[0]!.sent.map(s => [...s.bytes])).toEqual([[1, 2, 3], [4, 5, 6], Array(700).fill(7), [8]]);
  });

  it('keeps the guest out of the loopback but for 10.0.2.2', () => {
    const { cable, sockets } = makeRig();
    for (const destination of ['127.0.0.1', '0.0.0.0', '0.1.2.3', '10.0.2.99']) {
      cable.send(udpFrame({ destination, ports: [1, 2] }, []));
      expect(cable.take()[0]!.icmp).toMatchObject({ type: 3, code: 13 });
    }
    expect(sockets.datagrams).toEqual([]);
    cable.send(udpFrame({ destination: '10.0.2.2', ports: [1, 2] }, []));
    expect(sockets.datagrams[0]!.to).toEqual({ address: '127.0.0.1', port: 2 });
    const closed = makeRig({ hostLoopback: false });
    closed.cable.send(udpFrame({ destination: '10.0.2.2', ports: [1, 2] }, []));
    expect(closed.cable.take()[0]!.icmp).toMatchObject({ type: 3, code: 13 });
    expect(closed.sockets.datagrams).toEqual([]);
  });

  it('gives no frame after stop()', () => {
    const { net, cable } = makeRig();
    net.stop();
    cable.send(arp('10.0.2.15', '10.0.2.2'));
    expect(cable.received).toEqual([]);
    expect(parse(arp('10.0.2.15', '10.0.2.2')).etherType).toBe(0x0806);
  });
});
