import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GuestTcp, joined, makeRig, parse } from '../../../../test/support/user-net.ts';

const pattern = (n: number, factor: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * factor) >> 3);

/** What the cable does to a frame. */
type Fate = 'arrives' | 'lost' | 'late' | 'full';

describe('TCP over a bad cable', () => {
  it('carries all bytes in order in both directions, whatever is lost, late, or finds no room', () => {
    const property = fc.property(
      fc.nat(40_000),
      fc.nat(40_000),
      fc.infiniteStream(fc.constantFrom<Fate>('lost', 'late', 'full', ...Array<Fate>(12).fill('arrives'))),
      fc.record({
        mss: fc.integer({ min: 100, max: 1460 }),
        window: fc.integer({ min: 1000, max: 65_535 }),
        shift: fc.constantFrom(undefined, 0, 5),
        tso: fc.constantFrom(undefined, 20_000),
        tso4: fc.boolean(),
      }),
      (up, down, fates, { tso4, shift, tso, ...options }) => {
        const { net, sockets, time } = makeRig({ accepts: { checksum: tso4, tso4 } });
        const received: Uint8Array[] = [];
        const more = { ...(shift === undefined ? {} : { shift }), ...(tso === undefined ? {} : { tso }) };
        const deliver = (f: () => void): void => {
          const [fate] = fates;
          if (fate === 'late') time.setTimeout(f, 7);
          else if (fate !== 'lost') time.setTimeout(f, 1);
        };
        const guest = new GuestTcp({
          ports: [5000, 80],
          time,
          data: pattern(up, 7),
          received: b => received.push(b.slice()),
          send: (frame, info) => deliver(() => net.send([frame.subarray(0, 40), frame.subarray(40)], info)),
          ...options,
          ...more,
        });
        net.stop();
        net.start(
          (frame, info) => {
            const [fate] = fates;
            if (fate === 'full') {
              time.setTimeout(() => net.roomAvailable(), 3);
              return false;
            }
            const { tcp } = parse(joined(frame), info.needsChecksum);
            deliver(() => guest.input(tcp!));
            return true;
          },
          { checksum: tso4, tso4 },
        );
        guest.connect();
        time.advance(5);
        for (let i = 0; i < 100 && sockets.streams.length === 0; i++) time.advance(50);
        const stream = sockets.streams[0]!;
        stream.handler.connected();
        const answer = pattern(down, 11);
        let sent = 0;
        for (let i = 0; i < 20_000 && guest.state !== 'done'; i++) {
          if (!stream.paused && sent <= answer.length) {
            if (sent < answer.length) stream.handler.data(answer.slice(sent, sent + 3000));
            else stream.handler.end();
            sent = sent < answer.length ? Math.min(answer.length, sent + 3000) : sent + 1;
          }
          time.advance(10);
        }
        expect(guest.state).toBe('done');
        expect(Buffer.concat(received).equals(answer)).toBe(true);
        time.advance(5_000);
        expect(Buffer.from(stream.written).equals(pattern(up, 7))).toBe(true);
        expect(stream.ended).toBe(true);
        stream.handler.closed(undefined);
        time.advance(700_000);
        expect(net.usage).toMatchObject({ tcpConnections: 0, tcpBytes: 0 });
        expect(time.timers).toBe(0);
      },
    );
    fc.assert(property, { numRuns: 30 });
  });
});
