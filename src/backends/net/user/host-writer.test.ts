import { describe, expect, it } from 'vitest';
import type { StreamSocket } from './host-sockets.ts';
import { HostWriter } from './host-writer.ts';

/** A socket that keeps what it was given without a copy, as one of the host does until the bytes have left. */
function makeSocket(done: boolean) {
  const views: Uint8Array[] = [];
  const socket = {
    write: (bytes: Uint8Array) => {
      views.push(bytes);
      return done;
    },
  } as unknown as StreamSocket;
  return { socket, views };
}

const filled = (n: number, value: number): Uint8Array => new Uint8Array(n).fill(value);

describe('HostWriter', () => {
  it('gives each socket its own bytes', () => {
    const writer = new HostWriter();
    const [a, b] = [makeSocket(false), makeSocket(false)];
    for (let i = 0; i < 4; i++) {
      writer.append(a.socket, filled(10, 1), 0, 10);
      writer.append(b.socket, filled(10, 2), 2, 10);
    }
    expect([writer.pending(a.socket), writer.pending(b.socket)]).toEqual([0, 8]);
    writer.flush();
    expect(Buffer.concat(a.views)).toEqual(Buffer.alloc(40, 1));
    expect(Buffer.concat(b.views)).toEqual(Buffer.alloc(32, 2));
  });

  it('does not use memory again that a socket still has', () => {
    const writer = new HostWriter();
    const slow = makeSocket(false);
    const fast = makeSocket(true);
    for (let i = 0; i < 200; i++) {
      writer.append(slow.socket, filled(5000, i), 0, 5000);
      writer.flush();
      writer.append(fast.socket, filled(3000, 255), 0, 3000);
      writer.flush();
    }
    // A new buffer begins in the middle of some.
    const bytes = Buffer.concat(slow.views);
    expect(bytes).toHaveLength(1_000_000);
    for (let i = 0; i < 200; i++) expect(bytes.subarray(i * 5000, (i + 1) * 5000).equals(filled(5000, i))).toBe(true);
  });

  it('uses it again when no socket has it', () => {
    const writer = new HostWriter();
    const fast = makeSocket(true);
    for (let i = 0; i < 3; i++) {
      writer.append(fast.socket, filled(300_000, i), 0, 300_000);
      writer.flush();
    }
    expect(new Set(fast.views.map(v => v.buffer)).size).toBe(1);
  });

  it('forgets what waits for a socket that is gone, and only that', () => {
    const writer = new HostWriter();
    const [a, b] = [makeSocket(true), makeSocket(true)];
    writer.append(a.socket, filled(10, 1), 0, 10);
    writer.forget(b.socket);
    expect(writer.pending(a.socket)).toBe(10);
    writer.forget(a.socket);
    writer.flush();
    expect(a.views).toEqual([]);
  });
});
