import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FakeHost, fakeHost, joined } from '../../../../test/support/fake-virtio.ts';
import { createGuestMemory } from '../../../memory/guest-memory.ts';
import { PinTable } from '../../../memory/pin-table.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE, type PlugListener } from '../../../memory/pin-types.ts';
import type { VirtioDevice } from '../device.ts';
import { type PluggableMemory, VirtioMem } from './device.ts';

const MIB = 2 ** 20;
/** Small, so that tests are fast: a block is two pages. */
const BLOCK = 8192;
const BLOCKS = 8;
const RAM = 0x4000_0000;
const BASE = RAM + MIB;
const VERSION_1 = 1n << 32n;

// Numbers of the specification, written down once more.
const [PLUG, UNPLUG, UNPLUG_ALL, STATE] = [0, 1, 2, 3];
const [ACK, NACK, BUSY, ERROR] = [0, 1, 2, 3];
const [PLUGGED, UNPLUGGED, MIXED] = [0, 1, 2];
const CONFIG = { block_size: 0, node_id: 8, addr: 16, region_size: 24, usable: 32, plugged: 40, requested: 48 };

function request(type: number, addr: number | bigint = 0, blocks = 0): Uint8Array {
  const bytes = new Uint8Array(24).fill(0xaa); // padding, which the device must ignore
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type, true);
  view.setBigUint64(8, BigInt(addr), true);
  view.setUint16(16, blocks, true);
  return bytes;
}

/** The device over real memory with a real table of pins. */
class Rig {
  readonly bytes = new Uint8Array(new SharedArrayBuffer(BLOCKS * BLOCK));
  readonly discards: [base: number, length: number][] = [];
  readonly pins: PinTable;
  readonly device: VirtioMem;
  host: FakeHost;

  constructor(requested = BLOCKS * BLOCK) {
    const ram = new Uint8Array(new SharedArrayBuffer(64 * 1024));
    const memory = createGuestMemory([
      { base: RAM, size: ram.length, kind: 'ram', bytes: ram },
      { base: BASE, size: this.bytes.length, kind: 'ram', bytes: this.bytes },
    ]);
    this.pins = new PinTable({
      memory,
      discardBytes: (base, length) => {
        this.discards.push([base, length]);
        memory.view(base, length)!.fill(0);
      },
    });
    this.pins.startUnplugged(BASE, this.bytes.length);
    this.device = new VirtioMem({ base: BASE, size: this.bytes.length, blockSize: BLOCK, memory: this.pins });
    this.device.requested = requested;
    this.host = fakeHost(this.device);
  }

  /** The response to one request: its type, and the state that comes with it. */
  ask(bytes: Uint8Array, pieces: readonly Uint8Array[] = [bytes], writable: readonly number[] = [10]) {
    const queue = this.host.queues[0]!;
    const chain = queue.offer(pieces, writable);
    this.device.notify(0);
    expect(queue.pushed.at(-1)).toEqual({ chain, written: 10 });
    const response = joined(chain.writable);
    const view = new DataView(response.buffer);
    return { type: view.getUint16(0, true), state: view.getUint16(8, true) };
  }

  /** Type of the response to a request about blocks [first, first + count). */
  send(type: number, first = 0, count = 1): number {
    return this.ask(request(type, BASE + first * BLOCK, count)).type;
  }

  config(offset: number): number {
    return this.device.readConfig(offset, 4) + this.device.readConfig(offset + 4, 4) * 2 ** 32;
  }

  pin(block: number, flags: number, owner = 'disk0') {
    return this.pins.pin(BASE + block * BLOCK + 4096, 100, FOLL_PIN | flags, this.pins.owner(owner));
  }

  /** Contents of a block: 0 after a discard. */
  fill(block: number, value: number): void {
    this.bytes.fill(value, block * BLOCK, (block + 1) * BLOCK);
  }
}

describe('virtio-mem configuration', () => {
  it('shows the region and its blocks, all usable and nothing plugged', () => {
    const { device } = new Rig(0);
    const read = (offset: number) => device.readConfig(offset, 4) + device.readConfig(offset + 4, 4) * 2 ** 32;
    expect(device.type).toBe(24);
    expect(device.configSize).toBe(56);
    expect(Object.values(CONFIG).map(read)).toEqual([BLOCK, 0, BASE, BLOCKS * BLOCK, BLOCKS * BLOCK, 0, 0]);
  });

  it('has blocks of 2 MiB, and addresses above 4 GiB', () => {
    const memory = { plug: () => ({ done: true }), unplug: () => ({ done: true }) };
    const device = new VirtioMem({ base: 0x12_0000_0000, size: 128 * MIB, memory });
    expect(device.readConfig(CONFIG.block_size, 4)).toBe(2 * MIB);
    expect([device.readConfig(CONFIG.addr + 4, 4), device.readConfig(CONFIG.addr, 4)]).toEqual([0x12, 0]);
    expect(device.readConfig(CONFIG.addr + 4, 1)).toBe(0x12);
    for (const [base, size] of [
      [0x1000, 128 * MIB],
      [0, 3 * MIB],
      [0, -2 * MIB],
    ] as const) {
      expect(() => new VirtioMem({ base, size, memory })).toThrow(expect.objectContaining({ code: 'ERR_INTERNAL' }));
    }
  });

  it('tells a running driver about each request for a size, also the same once more, and nobody else', () => {
    const rig = new Rig(0);
    expect(rig.host.configChanges).toBe(0);
    rig.device.requested = 4 * BLOCK;
    expect(rig.host.configChanges).toBe(1);
    expect(rig.config(CONFIG.requested)).toBe(4 * BLOCK);
    rig.device.requested = 4 * BLOCK;
    expect(rig.host.configChanges).toBe(2);
    rig.device.reset();
    rig.device.requested = 0;
    expect(rig.host.configChanges).toBe(2);
  });

  it('says nothing of a change of plugged_size, which is there at once', () => {
    const rig = new Rig();
    const before = rig.host.configChanges;
    rig.send(PLUG, 1, 3);
    expect(rig.config(CONFIG.plugged)).toBe(3 * BLOCK);
    expect(rig.device.plugged).toBe(3 * BLOCK);
    rig.send(UNPLUG, 2, 1);
    expect(rig.config(CONFIG.plugged)).toBe(2 * BLOCK);
    expect(rig.host.configChanges).toBe(before);
  });

  it('refuses sizes that are no whole blocks, or more than the region', () => {
    const { device } = new Rig(BLOCK);
    for (const bad of [1, -BLOCK, (BLOCKS + 1) * BLOCK, Number.NaN, Number.POSITIVE_INFINITY, BLOCK / 2]) {
      expect(() => {
        device.requested = bad;
      }).toThrow(expect.objectContaining({ code: 'ERR_BAD_SIZE' }));
    }
    expect(device.requested).toBe(BLOCK);
  });

  it('cannot be written', () => {
    const rig = new Rig(BLOCK);
    const before = Object.values(CONFIG).map(o => rig.config(o));
    const device: VirtioDevice = rig.device;
    for (const offset of Object.values(CONFIG)) device.writeConfig(offset, 4, 0xffff_ffff);
    expect(Object.values(CONFIG).map(o => rig.config(o))).toEqual(before);
  });

  it('needs a driver that knows of inaccessible memory', () => {
    const { device } = new Rig();
    const host = fakeHost(device, VERSION_1);
    expect(host.failures).toHaveLength(1);
    const chain = host.queues[0]!.offer([request(PLUG, BASE, 1)], [10]);
    device.notify(0);
    expect([host.queues[0]!.waiting, chain.writable[0]![0]]).toEqual([1, 0]);
  });
});

describe('virtio-mem requests', () => {
  it('plugs, unplugs and tells the state', () => {
    const rig = new Rig();
    const state = (first: number, count: number) => rig.ask(request(STATE, BASE + first * BLOCK, count));
    expect(state(0, BLOCKS)).toEqual({ type: ACK, state: UNPLUGGED });
    expect(rig.send(PLUG, 2, 3)).toBe(ACK);
    expect(state(2, 3)).toEqual({ type: ACK, state: PLUGGED });
    expect(state(1, 2)).toEqual({ type: ACK, state: MIXED });
    expect(state(5, 3)).toEqual({ type: ACK, state: UNPLUGGED });
    expect(rig.send(UNPLUG, 2, 2)).toBe(ACK);
    expect(state(2, 2)).toEqual({ type: ACK, state: UNPLUGGED });
    expect(state(4, 1)).toEqual({ type: ACK, state: PLUGGED });
    expect(rig.send(UNPLUG_ALL)).toBe(ACK);
    expect(state(0, BLOCKS)).toEqual({ type: ACK, state: UNPLUGGED });
    expect(rig.send(UNPLUG_ALL)).toBe(ACK);
  });

  const ends = BASE + BLOCKS * BLOCK;
  it.each<[string, number, number | bigint, number]>([
    ['an address between blocks', PLUG, BASE + 4096, 1],
    ['no blocks', PLUG, BASE, 0],
    ['a block below the region', PLUG, BASE - BLOCK, 2],
    ['a block above the region', PLUG, ends - BLOCK, 2],
    ['the first block above the region', PLUG, ends, 1],
    ['an address near 2^64', PLUG, 2n ** 64n - BigInt(BLOCK), 2],
    ['an address that a double cannot hold', PLUG, 2n ** 63n + BigInt(BASE), 1],
    ['the most blocks', PLUG, BASE, 0xffff],
    ['a block that is plugged already', PLUG, BASE, 3],
    ['an unplug of what is unplugged', UNPLUG, BASE, 1],
    ['an unplug of what is unplugged in part', UNPLUG, BASE + BLOCK, 3],
    ['an unplug between blocks', UNPLUG, BASE + 2 * BLOCK + 1, 1],
    ['an unplug of no blocks', UNPLUG, BASE + 2 * BLOCK, 0],
    ['an unplug outside of the region', UNPLUG, ends, 1],
    ['the state of memory between blocks', STATE, BASE + 1, 1],
    ['the state of no blocks', STATE, BASE, 0],
    ['the state of memory outside of the region', STATE, ends - BLOCK, 2],
    ['a type that is none', 4, BASE, 1],
    ['a type of all ones', 0xffff, BASE, 1],
  ])('answers ERROR to %s, and changes nothing', (_, type, addr, count) => {
    const rig = new Rig();
    rig.send(PLUG, 2, 2);
    rig.fill(2, 0x55);
    expect(rig.ask(request(type, addr, count)).type).toBe(ERROR);
    expect(rig.device.plugged).toBe(2 * BLOCK);
    expect(rig.bytes[2 * BLOCK]).toBe(0x55);
    expect(rig.discards).toEqual([]);
  });

  it('answers NACK beyond what is requested, and to the block of the smaller size after it was made smaller', () => {
    const rig = new Rig(2 * BLOCK);
    expect(rig.send(PLUG, 0, 3)).toBe(NACK);
    expect(rig.send(PLUG, 0, 2)).toBe(ACK);
    expect(rig.send(PLUG, 2, 1)).toBe(NACK);
    rig.device.requested = BLOCK;
    expect(rig.send(UNPLUG, 0, 1)).toBe(ACK);
    expect(rig.send(PLUG, 0, 1)).toBe(NACK);
    // What is wrong in any case is an error, whatever was requested (section 5.15.6.1).
    expect(rig.send(PLUG, 1, 1)).toBe(ERROR);
    expect(rig.device.plugged).toBe(BLOCK);
  });

  it('takes requests and responses in pieces of any size', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(8), { maxLength: 6 }), fc.array(fc.nat(4), { maxLength: 6 }), (cuts, holes) => {
        const rig = new Rig();
        const bytes = request(PLUG, BASE + BLOCK, 2);
        const pieces: Uint8Array[] = [];
        let at = 0;
        for (const n of cuts) {
          pieces.push(bytes.subarray(at, at + n));
          at += n;
        }
        expect(rig.ask(bytes, [...pieces, bytes.subarray(at)], [...holes, 10]).type).toBe(ACK);
        expect(rig.device.plugged).toBe(2 * BLOCK);
      }),
      { numRuns: 50 },
    );
  });

  it('answers ERROR to a request that is too short, whatever came before', () => {
    const rig = new Rig();
    expect(rig.send(PLUG)).toBe(ACK);
    for (const length of [0, 1, 23]) {
      const part = request(UNPLUG_ALL).subarray(0, length);
      expect(rig.ask(part).type).toBe(ERROR);
    }
    expect(rig.device.plugged).toBe(BLOCK);
    // What is behind a request means nothing.
    expect(rig.ask(new Uint8Array(0), [request(UNPLUG, BASE, 1), new Uint8Array(100)]).type).toBe(ACK);
  });

  it('fails when there is no room for a response, without doing what was asked', () => {
    const rig = new Rig();
    const queue = rig.host.queues[0]!;
    queue.offer([request(PLUG, BASE, 1)], [9]);
    rig.device.notify(0);
    expect(rig.host.failures).toHaveLength(1);
    expect(queue.pushed).toEqual([]);
    expect(rig.device.plugged).toBe(0);
  });

  it('answers all that wait with one interrupt, and not more at once than the queue holds', () => {
    const rig = new Rig();
    const queue = rig.host.queues[0]!;
    for (let n = 0; n < queue.size + 5; n++) queue.offer([request(STATE, BASE, 1)], [10]);
    rig.device.notify(0);
    expect([queue.pushed.length, queue.interrupts, queue.waiting]).toEqual([queue.size, 1, 5]);
    rig.device.notify(1);
    rig.device.notify(0);
    rig.device.notify(0);
    expect([queue.pushed.length, queue.waiting]).toEqual([queue.size + 5, 0]);
  });

  it('whatever is asked, plugged_size is what the blocks say, and never more than was requested', () => {
    const step = fc.oneof(
      fc.record({ type: fc.nat(4), first: fc.integer({ min: -1, max: BLOCKS }), count: fc.nat(BLOCKS + 1) }),
      fc.record({ requested: fc.nat(BLOCKS) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const rig = new Rig(0);
        const model = Array<boolean>(BLOCKS).fill(false);
        let requested = 0;
        for (const s of steps) {
          if ('requested' in s) {
            requested = s.requested;
            rig.device.requested = requested * BLOCK;
            continue;
          }
          const before = model.filter(b => b).length;
          const got = rig.send(s.type, s.first, s.count);
          if (s.type === UNPLUG_ALL && got === ACK) model.fill(false);
          if (s.type <= UNPLUG && got === ACK) model.fill(s.type === PLUG, s.first, s.first + s.count);
          const after = model.filter(b => b).length;
          expect(rig.device.plugged).toBe(after * BLOCK);
          if (after > before) expect(after).toBeLessThanOrEqual(requested);
          for (const [n, plugged] of model.entries()) {
            expect(rig.pins.page(BASE + n * BLOCK)!.state === 'unplugged').toBe(!plugged);
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('memory hot-unplug and pins (table 4.3)', () => {
  it('memory hot-unplug, not pinned: out of reach first, then discarded, then ACK', () => {
    const rig = new Rig();
    const told: string[] = [];
    rig.pins.addPlugListener({
      plug: (base, length) => void told.push(`plug ${(base - BASE) / BLOCK} ${length / BLOCK}`),
      unplug: (base, length) => {
        told.push(`unplug ${(base - BASE) / BLOCK} ${length / BLOCK}, ${rig.bytes[base - BASE]}`);
      },
    });
    rig.send(PLUG, 1, 3);
    rig.fill(2, 0x77);
    expect(rig.send(UNPLUG, 2, 1)).toBe(ACK);
    expect(told).toEqual(['plug 1 3', 'unplug 2 1, 119']);
    expect(rig.discards).toEqual([[BASE + 2 * BLOCK, BLOCK]]);
    // PIN-8
    expect(() => rig.pin(2, 0)).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ errno: 'EFAULT' }) }),
    );
  });

  it.each([
    ['short pin', 0],
    ['short pin for writing', FOLL_WRITE],
    ['long pin', FOLL_LONGTERM],
  ])('memory hot-unplug, %s: BUSY until it is released, and nothing changes', (_, flags) => {
    const rig = new Rig();
    rig.send(PLUG, 0, 4);
    rig.fill(1, 0x66);
    const handle = rig.pin(1, flags);
    expect(rig.send(UNPLUG, 0, 4)).toBe(BUSY);
    expect(rig.send(UNPLUG, 1, 1)).toBe(BUSY);
    expect(rig.send(UNPLUG_ALL)).toBe(BUSY);
    expect(rig.ask(request(STATE, BASE, 4))).toEqual({ type: ACK, state: PLUGGED });
    expect(rig.config(CONFIG.plugged)).toBe(4 * BLOCK);
    expect([rig.bytes[BLOCK], rig.discards]).toEqual([0x66, []]);
    // Its neighbours are nobody's.
    expect(rig.send(UNPLUG, 2, 2)).toBe(ACK);
    rig.pins.unpin(handle);
    expect(rig.send(UNPLUG, 0, 2)).toBe(ACK);
    expect(rig.bytes[BLOCK]).toBe(0);
  });

  it('memory hot-unplug, revocable pin: revoked, then ACK', () => {
    const rig = new Rig();
    rig.send(PLUG, 0, 2);
    let handle = 0;
    let revoked = 0;
    handle = rig.pins.pinRevocable(BASE, BLOCK, FOLL_PIN, rig.pins.owner('rdma0'), () => {
      revoked++;
      rig.pins.unpin(handle);
    });
    expect(rig.send(UNPLUG, 0, 1)).toBe(ACK);
    expect(revoked).toBe(1);
    expect(rig.send(UNPLUG, 1, 1)).toBe(ACK);
  });

  it('memory hot-unplug, coordinated: a listener that lets go of its pin when it is told does not stand in the way', () => {
    const rig = new Rig();
    // As VFIO maps each block for as long as it is plugged.
    const maps = new Map<number, number>();
    const pins = rig.pins;
    pins.addPlugListener({
      plug: (base, length) => {
        const revoke = () => {
          pins.unpin(maps.get(base)!);
          maps.delete(base);
        };
        maps.set(base, pins.pinRevocable(base, length, FOLL_PIN | FOLL_WRITE, pins.owner('vfio0', true), revoke));
      },
      unplug: () => undefined,
    });
    expect(rig.send(PLUG, 3, 1)).toBe(ACK);
    expect([...maps.keys()]).toEqual([BASE + 3 * BLOCK]);
    expect(rig.send(UNPLUG, 3, 1)).toBe(ACK);
    expect(maps.size).toBe(0);
    expect(pins.stats().current).toBe(0);
  });
});

describe('hot-plug and pins (table 4.3)', () => {
  it('hot-plug / populate: listeners may pin before the guest is told', () => {
    const rig = new Rig();
    let pinnable: boolean | undefined;
    rig.pins.addPlugListener({
      plug: base => {
        const handle = rig.pins.tryPin(base, BLOCK, FOLL_PIN | FOLL_LONGTERM, rig.pins.owner('vfio0'));
        pinnable = handle !== 0;
        if (pinnable) rig.pins.unpin(handle);
      },
      unplug: () => undefined,
    });
    expect(rig.send(PLUG)).toBe(ACK);
    expect(pinnable).toBe(true);
  });

  it('hot-plug / populate: a veto undoes what others were told, and is NACK', () => {
    const rig = new Rig();
    const told: string[] = [];
    const listener = (name: string): PlugListener => ({
      plug: () => void told.push(`${name} plug`),
      unplug: () => void told.push(`${name} unplug`),
    });
    rig.pins.addPlugListener(listener('a'));
    rig.pins.addPlugListener(listener('b'));
    const quota = rig.pins.addPlugListener({
      plug: () => {
        throw new Error('ENOMEM');
      },
      unplug: () => void told.push('never'),
    });
    expect(rig.send(PLUG, 0, 2)).toBe(NACK);
    expect(told).toEqual(['a plug', 'b plug', 'b unplug', 'a unplug']);
    expect(rig.ask(request(STATE, BASE, 2))).toEqual({ type: ACK, state: UNPLUGGED });
    expect([rig.device.plugged, rig.host.failures]).toEqual([0, []]);
    expect(rig.pins.page(BASE)!.state).toBe('unplugged');
    quota[Symbol.dispose]();
    expect(rig.send(PLUG, 0, 2)).toBe(ACK);
  });
});

describe('virtio-mem resets', () => {
  it('a device reset keeps blocks and their contents (section 5.15.5)', () => {
    const rig = new Rig();
    rig.send(PLUG, 0, 2);
    rig.fill(1, 0x42);
    rig.device.reset();
    rig.device.notify(0);
    expect([rig.device.plugged, rig.bytes[BLOCK]]).toEqual([2 * BLOCK, 0x42]);
    rig.host = fakeHost(rig.device);
    expect(rig.ask(request(STATE, BASE, 2))).toEqual({ type: ACK, state: PLUGGED });
    expect(rig.device.requested).toBe(BLOCKS * BLOCK);
  });

  it('a system reset unplugs everything and still wants what was requested', () => {
    const rig = new Rig();
    rig.send(PLUG, 0, 2);
    rig.send(PLUG, 5, 1);
    rig.fill(5, 0x42);
    rig.device.reset();
    rig.device.systemReset();
    expect([rig.device.plugged, rig.device.requested]).toEqual([0, BLOCKS * BLOCK]);
    expect(rig.bytes.every(b => b === 0)).toBe(true);
    expect(rig.pins.page(BASE)!.state).toBe('unplugged');
    rig.device.systemReset();
  });

  it('guest reset, long pin: a block that a device of the host has pinned stays plugged, as it is', () => {
    const rig = new Rig();
    rig.send(PLUG, 0, 3);
    rig.fill(1, 0x42);
    rig.pins.pin(BASE + BLOCK, BLOCK, FOLL_PIN | FOLL_LONGTERM, rig.pins.owner('vfio0', true));
    rig.device.systemReset();
    expect(rig.device.plugged).toBe(BLOCK);
    expect(rig.bytes[BLOCK]).toBe(0x42);
    expect([0, 1, 2].map(n => rig.pins.page(BASE + n * BLOCK)!.state)).toEqual(['unplugged', 'present', 'unplugged']);
  });
});

it('an exception of the memory is the caller’s, and leaves the size as it was', () => {
  const memory: PluggableMemory = {
    plug: () => ({ done: true }),
    unplug: () => {
      throw new Error('the host');
    },
  };
  const device = new VirtioMem({ base: 0, size: BLOCK, blockSize: BLOCK, memory });
  device.requested = BLOCK;
  const host = fakeHost(device);
  host.queues[0]!.offer([request(PLUG, 0, 1)], [10]);
  device.notify(0);
  host.queues[0]!.offer([request(UNPLUG, 0, 1)], [10]);
  expect(() => device.notify(0)).toThrow('the host');
  expect(device.plugged).toBe(BLOCK);
});
