import { describe, expect, it } from 'vitest';
import { ACK, FIN, ipv4Frame, makeRig, PSH, RST, SYN, tcpFrame, udpFrame } from '../../../../test/support/user-net.ts';
import type { FrameInfo } from '../../../devices/virtio/net/backend.ts';

/** xorshift32: the same frames each time. */
function makeRandom(seed: number): (below: number) => number {
  let x = seed;
  return below => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const tcp = (flags: number, seq: number, payload = 0) =>
  tcpFrame({ destination: '10.0.2.2', ports: [5000, 80], seq, ack: 1001, flags }, new Uint8Array(payload));

/** One of each kind that the network understands. */
const SEEDS: readonly Uint8Array[] = [
  Uint8Array.from([
    255,
    255,
    255,
    255,
    255,
    255,
    2,
    0,
    0,
    0,
    0,
    1,
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    1,
    ...Array(20).fill(10),
  ]),
  udpFrame({ source: '0.0.0.0', destination: '255.255.255.255', ports: [68, 67] }, [
    ...[1, 1, 6, 0, ...Array(232).fill(0), 0x63, 0x82, 0x53, 0x63, 53, 1, 3, 50, 4, 10, 0, 2, 15, 255],
  ]),
  udpFrame({ destination: '10.0.2.3', ports: [4000, 53] }, [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]),
  udpFrame({ destination: '192.0.2.1', ports: [4000, 4001] }, [1, 2, 3]),
  ipv4Frame({ destination: '10.0.2.2', protocol: 1 }, [8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
  ipv4Frame({ destination: '10.0.2.2', protocol: 17, fragment: 0x2000 }, new Uint8Array(64)),
  tcpFrame({ destination: '10.0.2.2', ports: [5000, 80], seq: 0, flags: SYN, tcpOptions: [2, 4, 5, 180, 1, 3, 3, 7] }),
  tcp(ACK, 1),
  tcp(ACK | PSH, 1, 100),
  tcp(ACK, 500, 200),
  tcp(ACK | FIN, 101),
  tcp(RST, 1),
];

describe('the network under random frames', () => {
  it('never throws, and all of its tables stay within bounds', () => {
    const { net, cable, sockets, time } = makeRig();
    const random = makeRandom(0x1234_5678);
    const scratch = new Uint8Array(2048);
    const worst = { tcpConnections: 0, tcpBytes: 0, udpFlows: 0, dnsQueries: 0, reassemblies: 0 };
    let answered = 0;
    for (let i = 0; i < 200_000; i++) {
      const seed = SEEDS[random(SEEDS.length)]!;
      let length = seed.length;
      scratch.set(seed);
      // Some are noise from the start, most are nearly right; a checksum that nobody verifies lets them get further.
      const changes = random(8) === 0 ? length : random(4);
      for (let c = 0; c < changes; c++) scratch[random(length)] = random(256);
      if (random(8) === 0) length = random(length + 1);
      if (random(2) === 0) fixIpChecksum(scratch);
      const cut = random(length + 1);
      const info: FrameInfo = {
        needsChecksum: random(4) !== 0,
        checksumStart: random(65_536),
        checksumOffset: random(65_536),
        gso: random(16) === 0 ? 'tcp4' : 'none',
        segmentSize: random(65_536),
      };
      net.send([scratch.subarray(0, cut), scratch.subarray(cut, length)], info);
      // The host's side and time do something now and then.
      if (random(64) === 0) act(random, sockets.streams.at(-1 - random(8)), sockets.datagrams.at(-1 - random(8)));
      if (random(256) === 0) {
        cable.room = random(2) === 0;
        if (cable.room) net.roomAvailable();
        time.advance(random(500));
        answered += cable.received.splice(0).length;
      }
      if (i % 1024 === 0) {
        for (const key of Object.keys(worst) as (keyof typeof worst)[])
          worst[key] = Math.max(worst[key], net.usage[key]);
      }
    }
    expect(worst.tcpConnections).toBeLessThanOrEqual(1024);
    expect(worst.udpFlows).toBeLessThanOrEqual(256);
    expect(worst.dnsQueries).toBeLessThanOrEqual(128);
    expect(worst.reassemblies).toBeLessThanOrEqual(8);
    // It did get far enough to matter.
    expect(worst.tcpConnections).toBeGreaterThan(10);
    expect(worst.udpFlows).toBeGreaterThan(10);
    expect(answered).toBeGreaterThan(10_000);
  }, 20_000);
});

function fixIpChecksum(frame: Uint8Array): void {
  const end = 14 + (frame[14]! & 15) * 4;
  let sum = 0;
  for (let at = 14; at < end; at += 2) if (at !== 24) sum += (frame[at]! << 8) | frame[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame[24] = ~sum >>> 8;
  frame[25] = ~sum;
}

type Sockets = ReturnType<typeof makeRig>['sockets'];

function act(
  random: (below: number) => number,
  stream: Sockets['streams'][number] | undefined,
  datagrams: Sockets['datagrams'][number] | undefined,
): void {
  switch (random(7)) {
    case 0:
      stream?.handler.connected();
      break;
    case 1:
      stream?.handler.data(new Uint8Array(random(5000)));
      break;
    case 2:
      stream?.handler.end();
      break;
    case 3:
      stream?.handler.closed(random(2) === 0 ? undefined : 'ECONNRESET');
      break;
    case 4:
      if (stream) stream.slow = random(2) === 0;
      stream?.drain();
      break;
    case 5:
      if (!datagrams?.closed)
        datagrams?.handler.message(new Uint8Array(random(3000)), { address: '192.0.2.1', port: 1 });
      break;
    default:
      if (!datagrams?.closed) datagrams?.handler.error('ECONNREFUSED');
  }
}
