import { ipv4Frame, tcpFrame, udpFrame } from '../../support/user-net.ts';
import { GUEST_CID } from './devices.ts';
import { HOTPLUG, HOTPLUG_BLOCK, HOTPLUG_SIZE, RAM, RAM_SIZE } from './guest-ram.ts';
import { fuseRequest, joined, pack, zero } from './pack.ts';
import type { Random } from './random.ts';

/** A request before it is cut into buffers: what the device reads, and how many bytes it may write. */
export interface Payload {
  readonly out: Uint8Array;
  readonly in: number;
}

/** Makes requests for queue `queue` of a device of a type, nearly valid ones. */
export function makePayload(random: Random, type: number, queue: number, queues: number): Payload {
  const payload = valid(random, type, queue, queues);
  if (random.oneIn(4)) random.mutate(payload.out);
  if (random.oneIn(16)) return { out: payload.out.subarray(0, random.below(payload.out.length + 1)), in: payload.in };
  if (random.oneIn(16)) return { out: payload.out, in: random.below(2 * payload.in + 2) };
  return payload;
}

function valid(random: Random, type: number, queue: number, queues: number): Payload {
  switch (type) {
    case 1:
      return net(random, queue);
    case 2:
      return blk(random);
    case 3:
      return consoles(random, queue, queues);
    case 4:
      return { out: new Uint8Array(0), in: random.oneIn(8) ? random.below(200_000) : random.between(1, 256) };
    case 5:
      return balloon(random, queue);
    case 19:
      return vsock(random, queue);
    case 24:
      return mem(random);
    case 26:
      return fs(random);
    default:
      return { out: random.bytes(random.below(100)), in: random.below(100) };
  }
}

// --- virtio-blk ---

const BLK_TYPES = [0, 0, 0, 1, 1, 1, 4, 8, 11, 13];

function blk(random: Random): Payload {
  const type = random.pick(BLK_TYPES);
  const sector = random.oneIn(8) ? random.word() : random.below(600);
  const header = pack('IIQ', type, 0, sector);
  const length = 512 * (random.oneIn(16) ? random.below(200) : random.below(9));
  if (type === 0) return { out: header, in: length + 1 };
  if (type === 1) return { out: joined(header, new Uint8Array(length).fill(random.u32())), in: 1 };
  if (type === 11 || type === 13) {
    const segments = Array.from({ length: random.pick([1, 1, 1, 2, 16, 17, 0]) }, () =>
      pack(
        'QII',
        random.below(600),
        random.oneIn(8) ? random.word() : random.below(64),
        type === 13 ? random.below(2) : 0,
      ),
    );
    return { out: joined(header, ...segments), in: 1 };
  }
  return { out: header, in: type === 8 ? 21 : 1 };
}

// --- virtio-net ---

function net(random: Random, queue: number): Payload {
  if (queue === 0) return { out: new Uint8Array(0), in: random.pick([1526, 1526, 2048, 65562, 64, 12, 10, 1]) };
  if (queue === 2) return { out: netCommand(random), in: 1 };
  const header = new Uint8Array(random.oneIn(8) ? 10 : 12);
  const frame = ethernet(random);
  if (random.oneIn(3)) {
    header[0] = 1;
    header.set(pack('HH', random.oneIn(4) ? random.word() : 34, random.oneIn(4) ? random.word() : 16), 6);
    if (random.oneIn(2)) header[1] = random.pick([1, 1, 1, 3, 4, 0x81]);
    header.set(pack('HH', random.below(100), random.oneIn(8) ? random.word() : 1448), 2);
  }
  return { out: joined(header, frame), in: 0 };
}

function netCommand(random: Random): Uint8Array {
  switch (random.below(4)) {
    case 0:
      return Uint8Array.of(0, random.below(3), 1);
    case 1:
      return joined([1, 1], random.bytes(6));
    case 2: {
      const n = random.below(4);
      return joined([1, 0], pack('I', n), random.bytes(6 * n), pack('I', 1), random.bytes(6));
    }
    default:
      return joined([5, 0], pack('Q', random.pick([0, 2, 0x82, 0x80, 1])));
  }
}

const ARP = joined(
  [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
  [2, 0, 0, 0, 0, 1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2],
);
const DHCP = [1, 1, 6, 0, ...Array<number>(232).fill(0), 0x63, 0x82, 0x53, 0x63, 53, 1, 3, 50, 4, 10, 0, 2, 15, 255];

function ethernet(random: Random): Uint8Array {
  const destination = random.pick(['10.0.2.2', '10.0.2.2', '10.0.2.3', '192.0.2.1', '10.0.2.15']);
  const port = random.between(1, 64);
  switch (random.below(8)) {
    case 0:
      return ARP.slice();
    case 1:
      return udpFrame({ source: '0.0.0.0', destination: '255.255.255.255', ports: [68, 67] }, DHCP);
    case 2:
      return udpFrame(
        { destination: '10.0.2.3', ports: [4000 + port, 53] },
        joined(pack('H', random.u32()), [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]),
      );
    case 3:
      return udpFrame({ destination, ports: [5000 + port, port] }, random.bytes(random.below(200)));
    case 4: {
      const payload = joined([8, 0, 0xf7, 0xff, 0, 0, 0, 0], random.bytes(random.below(64)));
      return ipv4Frame({ destination, protocol: random.oneIn(4) ? 99 : 1 }, payload);
    }
    case 5: {
      const fragment = random.pick([0x2000, 0x2005, 5, 0x1fff, 0x3fff]);
      return ipv4Frame(
        { destination, protocol: 17, id: random.below(4), fragment },
        new Uint8Array(8 * random.below(9)),
      );
    }
    default: {
      const flags = random.pick([2, 2, 16, 16, 24, 17, 4, 0, 0x3f]);
      const tcpOptions = flags === 2 ? [2, 4, 5, 180, 1, 3, 3, 7] : [];
      const seq = random.pick([0, 1, 1, 2, 500]);
      return tcpFrame(
        { destination, ports: [6000 + port, 80], seq, ack: random.u32(), flags, tcpOptions },
        new Uint8Array(flags === 24 ? random.below(1400) : 0),
      );
    }
  }
}

// --- virtio-console ---

function consoles(random: Random, queue: number, queues: number): Payload {
  // With several ports queues 2 and 3 are for control messages.
  if (queue === 3 && queues > 2)
    return { out: pack('IHH', random.below(4), random.below(8), random.pick([0, 1, 1, 2])), in: 0 };
  if (queue % 2 === 0) return { out: new Uint8Array(0), in: random.pick([1, 8, 64, 4096]) };
  return { out: random.bytes(random.oneIn(16) ? random.below(10_000) : random.below(200)), in: 0 };
}

// --- virtio-balloon ---

function balloon(random: Random, queue: number): Payload {
  if (queue === 3 || (queue === 2 && random.oneIn(8))) return { out: new Uint8Array(0), in: 4096 * random.below(3) };
  if (queue === 2) {
    const entries = Array.from({ length: random.below(12) }, () => pack('HQ', random.below(12), random.u32()));
    return { out: joined(...entries), in: 0 };
  }
  const pages = random.oneIn(64) ? 5000 : random.below(300);
  const last = (RAM + RAM_SIZE) / 4096;
  // The first and the last pages, and beyond: what is in the middle are rings and buffers.
  const pfn = () => (random.oneIn(8) ? random.word() : last - random.between(-4, 60));
  return { out: joined(...Array.from({ length: pages }, () => pack('I', pfn()))), in: 0 };
}

// --- virtio-mem ---

function mem(random: Random): Payload {
  const blocks = HOTPLUG_SIZE / HOTPLUG_BLOCK;
  const type = random.oneIn(32) ? random.word() : random.pick([0, 0, 0, 1, 1, 2, 3]);
  const addr = HOTPLUG + HOTPLUG_BLOCK * (random.oneIn(16) ? random.below(100) - 50 : random.below(blocks));
  return { out: pack('HHIQHHI', type, 0, 0, random.oneIn(32) ? random.word() : addr, random.below(4), 0, 0), in: 10 };
}

// --- virtio-vsock ---

function vsock(random: Random, queue: number): Payload {
  if (queue === 0) return { out: new Uint8Array(0), in: random.pick([4096, 4096, 512, 60, 44, 43]) };
  if (queue === 2) return { out: new Uint8Array(0), in: random.pick([4, 8, 3, 0]) };
  const op = random.pick([1, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7]);
  const len = op === 5 ? (random.oneIn(16) ? random.below(70_000) : random.below(600)) : 0;
  const guestPort = random.oneIn(4) ? random.below(4) : random.below(16);
  // The host's ports: those that listen, and those that it connects from.
  const hostPort = random.oneIn(2) ? random.between(0, 5) : 0x4000_0000 + random.below(64);
  const header = [
    pack('QQII', random.oneIn(32) ? random.u32() : GUEST_CID, random.oneIn(32) ? 7 : 2, guestPort, hostPort),
    pack('IHH', random.oneIn(16) ? random.word() : len, random.oneIn(32) ? 2 : 1, op),
    pack('III', op === 4 ? random.between(1, 3) : 0, random.oneIn(8) ? random.word() : 65536, random.below(100_000)),
  ];
  return { out: joined(...header, random.oneIn(4) ? random.bytes(len) : new Uint8Array(len)), in: 0 };
}

// --- virtio-fs ---

const NAMES = [
  'a',
  'b',
  'c',
  'dir',
  'dir2',
  'hello',
  'link',
  '..',
  '.',
  '',
  'x/y',
  'n'.repeat(255),
  'n'.repeat(256),
  '\xff',
];
const FLAGS = [0, 1, 2, 0o1001, 0o2001, 0o1002, 3];

function fs(random: Random): Payload {
  const node = random.oneIn(2) ? 1 : random.below(40);
  const handle = random.oneIn(4) ? random.below(200) : random.between(1, 12);
  const name = () => zero(random.pick(NAMES));
  const offset = random.oneIn(16) ? random.word() * (random.oneIn(2) ? 2 ** 32 : 1) : random.below(9000);
  const reply = random.pick([160, 160, 200, 4112, 4112, 66_000]);
  const size = random.oneIn(16) ? random.word() : random.below(5000);
  const send = (opcode: number, on: number, ...args: readonly Uint8Array[]): Payload => ({
    out: fuseRequest(opcode, on, ...args),
    in: opcode === 2 || opcode === 42 ? 0 : reply,
  });
  const mode = random.pick([0o644, 0o755, 0o600, 0o4755, 0o777, 0]);
  switch (random.below(30)) {
    case 0:
    case 1:
    case 2:
      return send(26, 0, pack('IIII', 7, random.pick([37, 37, 37, 38, 31, 30, 50]), 1 << 17, 0xffff_ffff));
    case 3:
    case 4:
      return send(1, node, name());
    case 5:
      return send(2, node, pack('Q', random.pick([1, 1, 2, 1000])));
    case 6:
      return send(3, node, pack('IIQ', random.below(2), 0, handle));
    case 7:
      return send(4, node, setattr(random, handle, offset, mode));
    case 8:
      return send(5, node);
    case 9:
      return send(6, node, name(), zero(random.pick(['a', '../..', '/etc/passwd', 'x'.repeat(4096)])));
    case 10:
      return send(8, node, pack('IIII', mode | random.pick([0o100000, 0, 0o020000, 0o010000]), 0, 0, 0), name());
    case 11:
      return send(9, node, pack('II', mode, 0), name());
    case 12:
      return send(10, node, name());
    case 13:
      return send(11, node, name());
    case 14:
      return send(12, node, pack('Q', random.oneIn(2) ? 1 : random.below(40)), name(), name());
    case 15:
      return send(45, node, pack('QII', random.oneIn(2) ? 1 : node, random.pick([0, 1, 2, 4]), 0), name(), name());
    case 16:
      return send(13, node, pack('Q', random.below(40)), name());
    case 17:
      return send(14, node, pack('II', random.pick(FLAGS), 0));
    case 18:
    case 19:
      return send(15, node, pack('QQIIQII', handle, offset, size, 0, 0, 0, 0));
    case 20:
    case 21: {
      const data = new Uint8Array(random.below(5000)).fill(random.u32());
      return send(16, node, pack('QQIIQII', handle, offset, random.oneIn(16) ? size : data.length, 0, 0, 0, 0), data);
    }
    case 22:
      return send(17, node);
    case 23:
      return send(18, node, pack('QIIQ', handle, 0, 0, 0));
    case 24:
      return send(20, node, pack('QII', handle, random.below(2), 0));
    case 25:
      return send(27, node, pack('II', 0, 0));
    case 26:
      return send(
        random.pick([28, 44, 44]),
        node,
        pack('QQIIQII', handle, random.oneIn(4) ? offset : random.below(4), size, 0, 0, 0, 0),
      );
    case 27:
      return send(35, node, pack('IIII', random.pick(FLAGS) | 0o100, mode, 0, 0), name());
    case 28:
      return send(
        42,
        0,
        pack('II', random.oneIn(8) ? random.word() : 2, 0),
        pack('QQQQ', node, 1, random.below(40), 2),
      );
    default:
      return send(random.pick([29, 30, 34, 38, 36, 25, 3, 22, 39, 46, 50]), node, random.bytes(random.below(40)));
  }
}

function setattr(random: Random, handle: number, size: number, mode: number): Uint8Array {
  const valid = random.oneIn(4) ? random.u32() : 1 << random.below(9);
  return joined(
    pack('IIQQQQQQ', valid, 0, handle, size, 0, random.word(), random.word(), 0),
    pack('IIIIIIII', random.word(), random.word(), 0, mode, 0, random.below(2000), random.below(2000), 0),
  );
}
