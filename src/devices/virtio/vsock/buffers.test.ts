import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReceiveBuffer, SendQueue } from './buffers.ts';

/** Bytes that tell where in the stream they were. */
function stream(start: number, length: number): number[] {
  return Array.from({ length }, (_, i) => (start + i) & 0xff);
}

describe('vsock buffers', () => {
  it('the receive buffer gives back what was put in, in order, in few pieces', () => {
    const buffer = new ReceiveBuffer();
    for (let i = 0; i < 40_000; i++) buffer.push(Uint8Array.of(i));
    expect(buffer.length).toBe(40_000);
    const sizes: number[] = [];
    let at = 0;
    while (buffer.length > 0) {
      const bytes = buffer.shift();
      sizes.push(bytes.length);
      expect([...bytes.subarray(0, 3)]).toEqual(stream(at, 3));
      at += bytes.length;
    }
    expect(sizes).toEqual([16384, 16384, 7232]);
    expect(buffer.shift()).toHaveLength(0);
  });

  it('both keep the order through any mix of pushes and takes', () => {
    const op = fc.record({ push: fc.boolean(), length: fc.integer({ min: 0, max: 20_000 }) });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), ops => {
        const receive = new ReceiveBuffer();
        const send = new SendQueue();
        let put = 0;
        const got = { receive: 0, send: 0 };
        for (const { push, length } of ops) {
          if (push) {
            const bytes = Uint8Array.from(stream(put, length));
            receive.push(bytes);
            send.push(bytes);
            put += length;
          } else {
            const shifted = receive.shift();
            expect(Buffer.compare(shifted, Buffer.from(stream(got.receive, shifted.length)))).toBe(0);
            got.receive += shifted.length;
            const taken = Buffer.concat(send.take(length));
            expect(taken.length).toBe(Math.min(length, put - got.send));
            expect(taken.equals(Buffer.from(stream(got.send, taken.length)))).toBe(true);
            got.send += taken.length;
          }
          expect([receive.length, send.length]).toEqual([put - got.receive, put - got.send]);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('the send queue drops the chunks that have gone', () => {
    const queue = new SendQueue();
    for (let i = 0; i < 1000; i++) queue.push(Uint8Array.of(i));
    expect(queue.take(999).map(p => p[0])).toEqual(stream(0, 999));
    expect(queue.take(5).map(p => p[0])).toEqual([999 & 0xff]);
    expect(queue.take(5)).toEqual([]);
  });
});
