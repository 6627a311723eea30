import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VsockPeer } from '../../../../test/support/vsock-peer.ts';
import { createVirtualClock } from '../../../time/virtual-clock.ts';
import { VmError } from '../../../util/errors.ts';
import { BUF_ALLOC } from './connection.ts';
import { VirtioVsock } from './device.ts';
import * as R from './regs.ts';
import type { VsockConnection, VsockHandlers } from './types.ts';

const MAX_CONNECTIONS = 4;
const HOST_PORT = 52;

/** Operations of the hostile guest: those that keep a connection alive more often than those that end it. */
const OPS = [5, 5, 5, 5, 5, 5, 6, 6, 7, 7, 4, 4, 2, 1, 3, 0, 8];

/** Takes a number apart: each call gives a value from 0 to n - 1. */
function digits(value: number): (n: number) => number {
  return n => {
    const digit = value % n;
    value = Math.floor(value / n);
    return digit;
  };
}

/** Handlers that hold the device to what {@link VsockHandlers} says. */
class Strict implements VsockHandlers {
  connection: VsockConnection | undefined;
  isClosed = false;
  hasEnded = false;
  held = 0;

  #open(): void {
    if (this.isClosed) throw new Error('called after closed()');
  }

  connected(): void {
    this.#open();
  }

  drain(): void {
    this.#open();
  }

  data(bytes: Uint8Array): boolean {
    this.#open();
    if (this.hasEnded || bytes.length === 0) throw new Error('data after its end, or none');
    // What happens inside of handlers depends on the data, so that all of it can happen.
    if (bytes[0] === 1) this.connection?.destroy();
    if (bytes[0] === 2) this.connection?.end();
    if (bytes[0] === 3) this.connection?.resume();
    if (bytes[0] === 4) this.connection?.write(bytes);
    return bytes[0] !== 5;
  }

  ended(): void {
    this.#open();
    if (this.hasEnded) throw new Error('ended twice');
    this.hasEnded = true;
  }

  closed(): void {
    this.#open();
    this.isClosed = true;
  }
}

describe('virtio-vsock properties', () => {
  it('a hostile guest and a busy host cause no exception, no growth and no call that handlers do not expect', () => {
    const random32 = fc.integer({ min: 0, max: 0xffff_ffff });
    const step = fc.tuple(fc.nat(2 ** 31 - 1), random32);
    let steps = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400, size: 'max' }), sequence => {
        const clock = createVirtualClock({ startWall: 0n });
        const device = new VirtioVsock({ guestCid: 3, clock, maxConnections: MAX_CONNECTIONS });
        const all: Strict[] = [];
        const adopt = (connection: VsockConnection) => {
          const strict = new Strict();
          strict.connection = connection;
          all.push(strict);
          return strict;
        };
        device.listen(HOST_PORT, adopt);
        let peer = new VsockPeer(device);
        for (const [what, value] of sequence) {
          steps++;
          const pick = digits(what);
          const open = all.filter(strict => !strict.isClosed);
          const chosen = open[pick(MAX_CONNECTIONS)] ?? all.at(-1 - pick(5));
          const connection = chosen?.connection;
          switch (pick(12)) {
            case 0:
            case 1:
            case 2:
            case 3: {
              // A packet, mostly of a connection, with a field or two that anything may be in.
              const op = OPS[pick(OPS.length)]!;
              const known = connection !== undefined && pick(10) > 0;
              const length = [0, 1, 3, 70_000][pick(4)]!;
              const data = new Uint8Array(op === R.VIRTIO_VSOCK_OP_RW ? length : 0).fill(value % 8);
              peer.send(known ? connection.peerPort : pick(3), known ? connection.localPort : HOST_PORT, op, {
                data,
                flags: value,
                ...(pick(6) === 0 ? { buf_alloc: value } : {}),
                ...(pick(6) === 0 ? { fwd_cnt: value } : {}),
                ...(value % 31 === 0 ? { len: value } : {}),
                ...(value % 37 === 0 ? { type: value & 0xffff } : {}),
                ...(value % 41 === 0 ? { dst_cid: BigInt(value) } : {}),
                cut: value % 60,
              });
              break;
            }
            case 4:
              peer.offer(1 + pick(4), 44 + (value % 3000));
              break;
            case 5:
              peer.host.queues[pick(3)]!.offer([new Uint8Array(value % 100)], [value % 50]);
              device.notify(pick(4));
              break;
            case 6:
              try {
                const strict = new Strict();
                strict.connection = device.connect(pick(3), strict);
                all.push(strict);
              } catch (error) {
                expect(error).toBeInstanceOf(VmError);
              }
              break;
            case 7:
              connection?.write(new Uint8Array(value % 5000));
              break;
            case 8:
              if (value & 1) connection?.pause();
              else connection?.resume();
              break;
            case 9:
              if (value % 4 === 0) connection?.destroy();
              else connection?.end();
              break;
            case 10:
              clock.advanceTo(clock.nowNs() + (value % 12) * 1e9);
              clock.runDue();
              break;
            default:
              if (value % 8 === 0) {
                device.reset();
                expect(device.connectionCount).toBe(0);
                peer = new VsockPeer(device);
              } else if (value % 8 === 1) device.resetTransport();
          }
          expect(device.connectionCount).toBeLessThanOrEqual(MAX_CONNECTIONS);
        }
        device.reset();
        expect(all.every(strict => strict.isClosed)).toBe(true);
        expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 60 },
    );
    expect(steps).toBeGreaterThan(5000);
  });

  it('streams arrive complete and in order, and neither side sends more than the other has room for', () => {
    const step = fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 20_000 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), sequence => {
        const device = new VirtioVsock({ guestCid: 3, clock: createVirtualClock({ startWall: 0n }) });
        const peer = new VsockPeer(device);
        peer.bufAlloc = 8000;
        const toHost: Uint8Array[] = [];
        let drains = 0;
        const connection = device.connect(1, {
          data: chunk => {
            toHost.push(chunk);
            return chunk.length % 3 > 0;
          },
          drain: () => void drains++,
          closed: reason => {
            throw new Error(`closed: ${reason}`);
          },
        });
        const port = connection.localPort;
        peer.offer(1);
        peer.send(1, port, R.VIRTIO_VSOCK_OP_RESPONSE);

        const guest = { sent: 0, credit: BUF_ALLOC, read: 0, got: [] as Uint8Array[], received: 0 };
        const host = { written: 0 };
        const counted = (from: number, n: number) => Uint8Array.from({ length: n }, (_, i) => (from + i) % 253);
        const read = () => {
          for (const p of peer.take()) {
            guest.credit = p.buf_alloc + p.fwd_cnt;
            guest.got.push(p.data);
            guest.received += p.len;
            expect(guest.received - guest.read).toBeLessThanOrEqual(peer.bufAlloc);
            if (p.op === R.VIRTIO_VSOCK_OP_CREDIT_REQUEST) peer.send(1, port, R.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
          }
        };
        const consume = (n: number) => {
          const taken = Math.min(n, guest.received - guest.read);
          guest.read += taken;
          peer.consume(port, taken);
          peer.send(1, port, R.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        };
        const act = (what: number, n: number) => {
          if (what === 0) {
            connection.write(counted(host.written, n));
            host.written += n;
          } else if (what === 1) {
            const size = Math.min(n, guest.credit - guest.sent);
            peer.send(1, port, R.VIRTIO_VSOCK_OP_RW, { data: counted(guest.sent, size) });
            guest.sent += size;
          } else if (what === 2) peer.host.queues[R.RX]!.offer([], [44 + (n % 5000)]);
          else if (what === 3) consume(n);
          else if (what === 4) connection.pause();
          else connection.resume();
          device.notify(R.RX);
          read();
        };
        for (const [what, n] of sequence) act(what, n);
        // Everything that waits can go now.
        for (let i = 0; i < 1000 && guest.received < host.written; i++) {
          act(2, 4000);
          consume(8000);
        }
        const heard = () => toHost.reduce((sum, chunk) => sum + chunk.length, 0);
        while (heard() < guest.sent) connection.resume();
        expect(Buffer.concat(guest.got).equals(counted(0, host.written))).toBe(true);
        expect(Buffer.concat(toHost).equals(counted(0, guest.sent))).toBe(true);
      }),
      { numRuns: 20 },
    );
  });
});
