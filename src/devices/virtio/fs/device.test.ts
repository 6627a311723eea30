import { describe, expect, it } from 'vitest';
import { fakeChain, fakeHost } from '../../../../test/support/fake-virtio.ts';
import { answerOf, MemoryFiles, pack, request, zero } from '../../../../test/support/fuse.ts';
import { VirtioFs } from './device.ts';

function rig(tag = 'home') {
  const server = new MemoryFiles();
  const device = new VirtioFs({ tag, server });
  const host = fakeHost(device);
  const [hiprio, requests] = host.queues;
  requests!.offer([request(26, 0, pack('IIII', 7, 37, 1 << 17, 0))], [80]);
  device.notify(1);
  return { server, device, host, hiprio: hiprio!, requests: requests! };
}

describe('configuration (section 5.11.4)', () => {
  it('has the tag, padded, and one request queue', () => {
    const device = new VirtioFs({ tag: 'h\u00f6me', server: new MemoryFiles() });
    const bytes = Array.from({ length: device.configSize }, (_, i) => device.readConfig(i, 1));
    expect(bytes).toEqual([...Buffer.from('h\u00f6me'), ...Array(31).fill(0), 1, 0, 0, 0]);
    expect([device.readConfig(0, 2), device.readConfig(36, 4)]).toEqual([0xc368, 1]);
    expect([device.type, device.queueSizes.length]).toEqual([26, 2]);
    device.writeConfig();
    expect(device.readConfig(36, 4)).toBe(1);
  });

  it('a tag of 36 bytes has no zero; others are refused', () => {
    const device = new VirtioFs({ tag: 'x'.repeat(36), server: new MemoryFiles() });
    expect(device.readConfig(35, 1)).toBe(120);
    for (const tag of ['', 'x'.repeat(37), 'a\0b', '\u20ac'.repeat(13)]) {
      expect(() => new VirtioFs({ tag, server: new MemoryFiles() })).toThrow(
        expect.objectContaining({ code: 'ERR_USAGE' }),
      );
    }
  });
});

describe('queues', () => {
  it('answers names at once, in a batch with one interrupt', () => {
    const { server, device, requests } = rig();
    const node = server.put('a', '');
    for (let i = 0; i < 3; i++) requests.offer([request(1, 1, zero('a'))], [16, 128]);
    device.notify(1);
    expect(requests.pushed.length).toBe(4);
    expect(requests.interrupts).toBe(2); // INIT's and this one
    const { chain, written } = requests.pushed[3]!;
    expect(answerOf(written, chain.writable).entry.node).toBe(node);
  });

  it('answers reads later, each with an interrupt, and goes on meanwhile', async () => {
    const { server, device, requests } = rig();
    const node = server.put('a', 'data');
    let release = () => {};
    server.hold = new Promise(resolve => {
      release = resolve;
    });
    const read = requests.offer([request(15, node, pack('QQIIQII', node + 100, 0, 4, 0, 0, 0, 0))], [20]);
    requests.offer([request(1, 1, zero('a'))], [144]);
    device.notify(1);
    expect(requests.pushed.map(p => p.written)).toEqual([80, 144]);
    release();
    await server.hold;
    await new Promise(setImmediate);
    expect(requests.pushed[2]).toEqual({ chain: read, written: 20 });
    expect(requests.interrupts).toBe(3);
  });

  it('returns FORGET on the high priority queue with nothing written', () => {
    const { server, device, hiprio } = rig();
    hiprio.offer([request(2, 5, pack('Q', 1))]);
    device.notify(0);
    expect(hiprio.pushed.map(p => p.written)).toEqual([0]);
    expect(server.calls.at(-1)).toEqual(['forget', 5, 1]);
  });

  it('a reset waits for what uses guest memory, and drops its answer', async () => {
    const { server, device, requests } = rig();
    const node = server.put('a', 'data');
    let release = () => {};
    server.hold = new Promise(resolve => {
      release = resolve;
    });
    requests.offer([request(15, node, pack('QQIIQII', node + 100, 0, 4, 0, 0, 0, 0))], [20]);
    device.notify(1);
    let done = false;
    const reset = Promise.resolve(device.reset()).then(() => {
      done = true;
    });
    expect(server.calls.at(-1)).toEqual(['reset']);
    await new Promise(setImmediate);
    expect(done).toBe(false);
    release();
    await reset;
    expect(requests.pushed.length).toBe(1); // INIT's only
    expect(device.reset()).toBeUndefined(); // nothing is left to wait for
    // After a reset the guest has to mount again.
    const host = fakeHost(device);
    host.queues[1]!.offer([request(1, 1, zero('a'))], [144]);
    device.notify(1);
    const { chain, written } = host.queues[1]!.pushed[0]!;
    expect(answerOf(written, chain.writable).error).toBe(5);
  });

  it('answers as many requests at once as fit into the queue, though its ring looks full again and again', () => {
    const { device, requests } = rig();
    requests.pushed.length = 0;
    requests.pop = () => fakeChain([request(3, 1, pack('IIQ', 0, 0, 0))], [200]);
    device.notify(1);
    expect(requests.pushed).toHaveLength(requests.size);
  });

  it('ignores queues that are not there', () => {
    const { device, requests } = rig();
    device.notify(7);
    device.reset();
    requests.offer([request(1, 1, zero('a'))], [144]);
    device.notify(1);
    expect(requests.waiting).toBe(1);
  });
});
