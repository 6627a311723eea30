import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type FakeHost, fakeHost, joined } from '../../../../test/support/fake-virtio.ts';
import {
  type BackendOffloads,
  type FrameInfo,
  type FrameReceiver,
  type NetBackend,
  PLAIN_FRAME,
  type ReceiveOffloads,
} from './backend.ts';
import { VirtioNet } from './device.ts';
import * as R from './regs.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const VERSION_1 = 1n << 32n;
const bit = (...features: number[]) => features.reduce((bits, f) => bits | (1n << BigInt(f)), 0n);
const LINKED = { checksum: true, tso: true, largeReceive: true };

/** A wire whose other end is the test. */
class Wire implements NetBackend {
  readonly active = false;
  readonly sent: { frame: Uint8Array; pieces: readonly Uint8Array[]; info: FrameInfo }[] = [];
  readonly starts: ReceiveOffloads[] = [];
  stops = 0;
  receive: FrameReceiver | undefined;
  onRoom = () => {};
  onSend = () => {};
  constructor(
    readonly offloads: BackendOffloads = LINKED,
    readonly mtu = 1500,
  ) {}
  send(pieces: readonly Uint8Array[], info: FrameInfo): void {
    this.sent.push({ frame: joined(pieces), pieces, info });
    this.onSend();
  }
  start(receive: FrameReceiver, accepts: ReceiveOffloads): void {
    this.receive = receive;
    this.starts.push(accepts);
  }
  stop(): void {
    this.stops++;
  }
  roomAvailable(): void {
    this.onRoom();
  }
  async close(): Promise<void> {}
}

function setUp(features?: bigint, wire = new Wire()) {
  const device = new VirtioNet({ mac: MAC, backend: wire });
  const host = fakeHost(device, features);
  const [rx, tx, ctrl] = host.queues;
  return { wire, device, host, rx: rx!, tx: tx!, ctrl: ctrl! };
}

const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i & 0xff);

/** A frame as one descriptor a part: `cuts` says where. */
function cut(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [0, ...cuts.map(c => c % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.slice(at[i]!, end));
}

function header(fields: { flags?: number; gso?: number; size?: number; start?: number; offset?: number }, length = 12) {
  const h = new DataView(new ArrayBuffer(length));
  h.setUint8(0, fields.flags ?? 0);
  h.setUint8(1, fields.gso ?? 0);
  h.setUint16(4, fields.size ?? 0, true);
  h.setUint16(6, fields.start ?? 0, true);
  h.setUint16(8, fields.offset ?? 0, true);
  return new Uint8Array(h.buffer);
}

const concat = (...parts: Uint8Array[]) => joined(parts);

describe('features and configuration', () => {
  test('offloads are offered as far as the backend has them', () => {
    const features = (o: Partial<BackendOffloads>) =>
      new VirtioNet({ mac: MAC, backend: new Wire({ checksum: false, tso: false, largeReceive: false, ...o }) })
        .features;
    const none = features({});
    expect(none).toBe(bit(3, 5, 15, 16, 17, 18, 23, 63));
    expect(features({ checksum: true })).toBe(none | bit(0));
    expect(features({ tso: true })).toBe(none | bit(0, 11));
    expect(features({ largeReceive: true })).toBe(none | bit(1, 2, 7));
  });

  test('the fields of virtio_net_config', () => {
    const { device } = setUp(undefined, new Wire(LINKED, 9000));
    const read = (offset: number, size: 1 | 2 | 4) => device.readConfig(offset, size);
    expect([0, 1, 2, 3, 4, 5].map(i => read(i, 1))).toEqual([...MAC]);
    expect([read(6, 2), read(8, 2), read(10, 2), read(12, 4), read(16, 1)]).toEqual([1, 1, 9000, 10_000, 1]);
    device.writeConfig(0, 4, 0);
    expect(read(0, 1)).toBe(0x52);
  });

  test('an MTU that cannot be offered is not', () => {
    const features = (mtu: number) => new VirtioNet({ mac: MAC, backend: new Wire(LINKED, mtu) }).features & bit(3);
    expect([67, 68, 65_535, 65_536].map(features)).toEqual([0n, 8n, 8n, 0n]);
  });

  test('a multicast address or one of another length is refused', () => {
    for (const mac of [Uint8Array.of(0x53, 0, 0, 0, 0, 1), MAC.subarray(1), new Uint8Array(0)]) {
      expect(() => new VirtioNet({ mac, backend: new Wire() })).toThrow(
        expect.objectContaining({ code: 'ERR_NETWORK' }),
      );
    }
  });

  test('the link goes down and up, and frames are lost meanwhile', () => {
    const { device, host, wire, rx, tx } = setUp();
    rx.offer([], [2000]);
    device.setLink(false);
    device.setLink(false);
    expect([host.configChanges, device.readConfig(6, 2)]).toEqual([1, 0]);
    tx.offer([concat(header({}), counting(60))]);
    device.notify(R.TRANSMITQ);
    expect([wire.sent.length, tx.pushed.length]).toEqual([0, 1]);
    expect([wire.receive!(counting(60), PLAIN_FRAME), rx.pushed.length]).toEqual([true, 0]);
    device.setLink(true);
    expect([host.configChanges, device.readConfig(6, 2)]).toEqual([2, 1]);
    expect([wire.receive!(counting(60), PLAIN_FRAME), rx.pushed.length]).toEqual([true, 1]);
  });
});

describe('transmission', () => {
  test('any partition into descriptors is the same frame, and nothing is copied', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 14, max: 200 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.boolean(),
        (length, cuts, legacy) => {
          const { device, wire, tx } = setUp(legacy ? 0n : VERSION_1);
          const frame = counting(length);
          const chain = tx.offer(cut(concat(header({}, legacy ? 10 : 12), frame), cuts));
          device.notify(R.TRANSMITQ);
          expect(wire.sent.map(s => s.info)).toEqual([PLAIN_FRAME]);
          expect(wire.sent[0]!.frame).toEqual(frame);
          const memory = new Set(chain.readable.map(p => p.buffer));
          expect(wire.sent[0]!.pieces.every(p => p.length > 0 && memory.has(p.buffer))).toBe(true);
          expect(tx.pushed).toEqual([{ chain, written: 0 }]);
        },
      ),
    );
  });

  test('a batch of frames is one interrupt', () => {
    const { device, wire, tx } = setUp();
    for (let i = 0; i < 5; i++) tx.offer([header({}), counting(20 + i)]);
    device.notify(R.TRANSMITQ);
    expect(wire.sent.map(s => s.frame.length)).toEqual([20, 21, 22, 23, 24]);
    expect(tx.interrupts).toBe(1);
    device.notify(R.TRANSMITQ);
    expect(tx.interrupts).toBe(1);
  });

  test('offloads reach the backend as the header has them', () => {
    const { device, wire, tx } = setUp();
    tx.offer([header({ flags: 1, gso: 1, size: 1460, start: 34, offset: 16 }), counting(65_550)]);
    tx.offer([header({ flags: 0xff, start: 34, offset: 6 }), counting(60)]);
    device.notify(R.TRANSMITQ);
    expect(wire.sent.map(s => s.info)).toEqual([
      { needsChecksum: true, checksumStart: 34, checksumOffset: 16, gso: 'tcp4', segmentSize: 1460 },
      { needsChecksum: true, checksumStart: 34, checksumOffset: 6, gso: 'none', segmentSize: 0 },
    ]);
  });

  test('with mergeable buffers a legacy header is long too', () => {
    const { device, wire, tx } = setUp(bit(15));
    tx.offer([header({}, 12), counting(14)]);
    device.notify(R.TRANSMITQ);
    expect(wire.sent[0]!.frame).toEqual(counting(14));
  });

  test.each([
    ['too short for a header', [new Uint8Array(11)]],
    ['nothing at all', []],
    ['no frame', [header({})]],
    ['less than an Ethernet header', [header({}), counting(13)]],
    ['longer than 64 KiB', [header({}), counting(65_551)]],
    ['a checksum behind the end', [header({ flags: 1, start: 34, offset: 25 }), counting(60)]],
    ['an unknown gso_type', [header({ flags: 1, gso: 2, size: 1460, start: 34, offset: 16 }), counting(60)]],
    ['TCP over IPv6, which was not offered', [header({ flags: 1, gso: 4, size: 1440, start: 54 }), counting(80)]],
    ['ECN, which was not offered', [header({ flags: 1, gso: 0x81, size: 1460, start: 34 }), counting(80)]],
    ['segments without a checksum', [header({ gso: 1, size: 1460 }), counting(80)]],
    ['segments of no size', [header({ flags: 1, gso: 1, start: 34, offset: 16 }), counting(80)]],
  ])('a bad frame is dropped and its chain returned: %s', (_why, parts) => {
    const { device, wire, tx } = setUp();
    tx.offer(parts, [8]);
    tx.offer([header({}), counting(60)]);
    device.notify(R.TRANSMITQ);
    expect(wire.sent.length).toBe(1);
    expect(tx.pushed.map(p => p.written)).toEqual([0, 0]);
  });

  test('what was not negotiated is dropped', () => {
    const { device, wire, tx } = setUp(VERSION_1 | bit(11));
    tx.offer([header({ flags: 1, start: 34, offset: 6 }), counting(60)]);
    tx.offer([header({ flags: 1, gso: 1, size: 1460, start: 34, offset: 16 }), counting(60)]);
    device.notify(R.TRANSMITQ);
    expect([wire.sent.length, tx.pushed.length]).toEqual([0, 2]);
  });
});

describe('reception', () => {
  test('any frame in any pieces into any buffers', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 14, max: 300 }),
        fc.array(fc.nat(), { maxLength: 4 }),
        fc.array(fc.array(fc.nat(90), { maxLength: 3 }), { minLength: 1, maxLength: 12 }),
        fc.constantFrom('merged', 'single', 'legacy'),
        (length, cuts, buffers, mode) => {
          const features = { merged: VERSION_1 | bit(15), single: VERSION_1, legacy: 0n }[mode];
          const headerSize = mode === 'legacy' ? 10 : 12;
          const { wire, rx } = setUp(features);
          for (const b of buffers) rx.offer([], b);
          const frame = counting(length);
          const taken = wire.receive!(cut(frame, cuts), PLAIN_FRAME);
          // Buffers that cannot hold a header are returned empty, whatever becomes of the frame.
          const used = rx.pushed.filter(p => p.written > 0);
          const room = buffers.map(b => b.reduce((n, x) => n + x, 0));
          const usable = room.slice(room.findIndex(n => n >= headerSize));
          const enough = usable.reduce((n, x) => n + x, 0) >= headerSize + length;
          if (room.every(n => n < headerSize)) expect(taken).toBe(false);
          else if (mode === 'merged') expect(taken).toBe(enough);
          else {
            expect(taken).toBe(true);
            expect(used.length).toBe(usable[0]! >= headerSize + length ? 1 : 0);
          }
          if (!taken) expect([used.length, rx.driverNotifications]).toEqual([0, true]);
          if (used.length === 0) return;
          const all = concat(...used.map(p => joined(p.chain.writable).subarray(0, p.written)));
          expect(all.subarray(headerSize)).toEqual(frame);
          const expected = new Uint8Array(headerSize);
          // Buffers in the middle that have no room count as well.
          if (headerSize === 12) expected[10] = rx.pushed.length - room.findIndex(n => n >= headerSize);
          expect(all.subarray(0, headerSize)).toEqual(expected);
          // All but the last buffer of a frame are full.
          for (const p of used.slice(0, -1)) expect(p.written).toBe(p.chain.writableLength);
          expect(rx.interrupts).toBe(1);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a frame without room waits; its buffers stay, and the next notification brings it', () => {
    const { device, wire, rx } = setUp(VERSION_1 | bit(15));
    expect(rx.driverNotifications).toBe(false);
    const first = rx.offer([], [1000]);
    const second = rx.offer([], [500]);
    expect(wire.receive!(counting(1514), PLAIN_FRAME)).toBe(false);
    expect([rx.pushed.length, rx.waiting, rx.driverNotifications]).toEqual([0, 2, true]);
    const third = rx.offer([], [500]);
    let room = 0;
    wire.onRoom = () => {
      room++;
      wire.receive!(counting(1514), PLAIN_FRAME);
    };
    device.notify(R.RECEIVEQ);
    expect(rx.pushed).toEqual([
      { chain: first, written: 1000 },
      { chain: second, written: 500 },
      { chain: third, written: 26 },
    ]);
    expect([rx.interrupts, rx.driverNotifications]).toEqual([1, false]);
    device.notify(R.RECEIVEQ);
    expect(room).toBe(1);
  });

  test('offloads that the driver takes are in the header', () => {
    const { wire, rx } = setUp();
    const chain = rx.offer([], [70_000]);
    const info: FrameInfo = {
      needsChecksum: true,
      checksumStart: 34,
      checksumOffset: 16,
      gso: 'tcp4',
      segmentSize: 1460,
    };
    expect(wire.receive!(counting(65_550), info)).toBe(true);
    // hdr_len: up to the end of the longest TCP header.
    expect([...joined(chain.writable).subarray(0, 12)]).toEqual([1, 1, 94, 0, 0xb4, 5, 34, 0, 16, 0, 1, 0]);
    expect(rx.pushed[0]!.written).toBe(65_562);
  });

  test('what the driver does not take is dropped, not kept', () => {
    const { wire, rx } = setUp(VERSION_1);
    rx.offer([], [2000]);
    const info = { ...PLAIN_FRAME, needsChecksum: true, checksumStart: 34, checksumOffset: 16 };
    expect(wire.receive!(counting(100), info)).toBe(true);
    expect(wire.receive!(counting(13), PLAIN_FRAME)).toBe(true);
    expect(wire.receive!(counting(1989), PLAIN_FRAME)).toBe(true); // larger than the buffer
    expect([rx.pushed.length, rx.waiting]).toEqual([0, 1]);
    expect(wire.starts).toEqual([{ checksum: false, tso4: false }]);
  });

  test('answers that arrive while frames are sent are one interrupt', () => {
    const { device, wire, rx, tx } = setUp();
    for (let i = 0; i < 3; i++) {
      rx.offer([], [2000]);
      tx.offer([header({}), counting(60)]);
    }
    wire.onSend = () => wire.receive!(counting(60), PLAIN_FRAME);
    device.notify(R.TRANSMITQ);
    expect([rx.pushed.length, rx.interrupts, tx.interrupts]).toEqual([3, 1, 1]);
    rx.offer([], [2000]);
    wire.receive!(counting(60), PLAIN_FRAME);
    expect(rx.interrupts).toBe(2);
  });

  test('after a reset nothing arrives, and the next driver begins anew', () => {
    const { device, host, wire, rx } = setUp();
    wire.receive!(counting(60), PLAIN_FRAME);
    device.reset();
    device.reset();
    expect(wire.stops).toBe(1);
    rx.offer([], [2000]);
    expect(wire.receive!(counting(60), PLAIN_FRAME)).toBe(true);
    for (let i = 0; i < host.queues.length; i++) device.notify(i);
    expect(rx.pushed).toEqual([]);
    fakeHost(device, VERSION_1);
    expect(wire.starts).toEqual([
      { checksum: true, tso4: true },
      { checksum: false, tso4: false },
    ]);
  });
});

describe('the control queue', () => {
  /** Sends a command; the answer is 0 for success. */
  function command(rig: { device: VirtioNet; host: FakeHost }, bytes: number[], cuts: number[] = []): number {
    const queue = rig.host.queues[R.CONTROLQ]!;
    const chain = queue.offer(cut(Uint8Array.from(bytes), cuts), [0, 1]);
    rig.device.notify(R.CONTROLQ);
    expect(queue.pushed.at(-1)).toEqual({ chain, written: 1 });
    return chain.writable[1]![0]!;
  }

  test('the guest changes its address; a reset brings back the first one', () => {
    const rig = setUp();
    expect(command(rig, [1, 1, 2, 0, 0, 0, 0, 9], [1, 4])).toBe(0);
    expect([...rig.device.mac]).toEqual([2, 0, 0, 0, 0, 9]);
    expect(rig.device.readConfig(5, 1)).toBe(9);
    rig.device.reset();
    expect(rig.device.mac).toEqual(MAC);
  });

  test('receive modes and address tables are accepted', () => {
    const rig = setUp();
    const six = [1, 2, 3, 4, 5, 6];
    expect(command(rig, [0, 0, 1])).toBe(0);
    expect(command(rig, [0, 1, 0])).toBe(0);
    expect(command(rig, [1, 0, 1, 0, 0, 0, ...six, 2, 0, 0, 0, ...six, ...six], [3, 14, 15])).toBe(0);
    expect(command(rig, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0])).toBe(0);
  });

  test.each([
    ['no command', [0]],
    ['nothing', []],
    ['an unknown mode', [0, 2, 1]],
    ['a mode without its value', [0, 0]],
    ['a table that is too short', [1, 0, 1, 0, 0, 0, 1, 2, 3]],
    ['a table of 2^32 - 1 entries', [1, 0, 255, 255, 255, 255, 1, 2, 3, 4, 5, 6]],
    ['one table only', [1, 0, 0, 0, 0, 0]],
    ['bytes behind the tables', [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['an address of 5 bytes', [1, 1, 1, 2, 3, 4, 5]],
    ['VLANs, which were not offered', [2, 0, 1, 0]],
    ['more queue pairs, which were not offered', [4, 0, 2, 0]],
    ['offloads in 4 bytes', [5, 0, 2, 0, 0, 0]],
    ['an offload that was not agreed upon', [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['a feature that is no offload', [5, 0, 32, 0, 0, 0, 0, 0, 0, 0]],
  ])('refused: %s', (_why, bytes) => {
    const rig = setUp();
    expect(command(rig, bytes)).toBe(1);
    expect([...rig.device.mac]).toEqual([...MAC]);
    expect(rig.wire.starts.length).toBe(1);
  });

  test('features that the driver did not accept have no commands', () => {
    const rig = setUp(VERSION_1 | bit(17));
    for (const c of [
      [0, 0, 1],
      [1, 1, ...MAC],
      [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]) {
      expect(command(rig, c)).toBe(1);
    }
  });

  test('the driver switches its offloads off and on', () => {
    const rig = setUp();
    const set = (low: number) => command(rig, [5, 0, low, 0, 0, 0, 0, 0, 0, 0]);
    expect([set(0), set(0x02), set(0x80), set(0x82)]).toEqual([0, 0, 0, 0]);
    expect(rig.wire.stops).toBe(4);
    expect(rig.wire.starts.slice(1)).toEqual([
      { checksum: false, tso4: false },
      { checksum: true, tso4: false },
      { checksum: false, tso4: false },
      { checksum: true, tso4: true },
    ]);
  });

  test('a command without room for an answer is not carried out', () => {
    const { device, ctrl } = setUp();
    ctrl.offer([Uint8Array.of(1, 1, 2, 0, 0, 0, 0, 9)]);
    device.notify(R.CONTROLQ);
    expect(ctrl.pushed.map(p => p.written)).toEqual([0]);
    expect(device.mac).toEqual(MAC);
  });
});

test('random headers, commands and buffers do no harm', () => {
  const part = fc.uint8Array({ maxLength: 30 });
  const request = fc.record({
    queue: fc.nat(3),
    readable: fc.array(part, { maxLength: 4 }),
    writable: fc.array(fc.nat(40), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(
      fc.array(request, { maxLength: 30 }),
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      (all, features) => {
        const rig = setUp(features);
        rig.wire.onSend = () => rig.wire.receive!(counting(20), PLAIN_FRAME);
        rig.wire.onRoom = () => rig.wire.receive!(counting(40), PLAIN_FRAME);
        for (const { queue, readable, writable } of all) {
          rig.host.queues[queue]?.offer(readable, writable);
          rig.device.notify(queue);
        }
        // Whatever the driver sent has come back; receive buffers may wait for frames.
        expect([rig.tx.waiting, rig.ctrl.waiting]).toEqual([0, 0]);
        for (const s of rig.wire.sent) expect(s.frame.length).toBeGreaterThanOrEqual(14);
      },
    ),
  );
});
