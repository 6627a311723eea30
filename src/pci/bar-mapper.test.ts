import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FakeBar, IO, IO_SIZE, MEM32, MEM32_SIZE, MEM64, MEM64_SIZE, PciRig } from '../../test/support/pci-rig.ts';
import type { AccessSize } from '../bus/types.ts';
import type { DeviceMemory, MemorySlots } from '../memory/types.ts';
import type { BarIndex, BarSpec, Doorbell, DoorbellEvents } from './bar.ts';
import type { PciFunction } from './function.ts';
import * as R from './regs.ts';

const BAR0 = R.BASE_ADDRESS_0;
const A = 0x1800_0000;
const B = 0x1900_0000;
const DEAD = 0xffff_ffff;

/** A function with one BAR of 4 KiB of memory at register 0. */
function one(rig: PciRig, tag: number, size = 4096) {
  const device = new FakeBar(tag);
  const f = rig.add({ name: `f${tag}`, bars: [{ index: 0, kind: 'mem32', size, device }] });
  return { f, device };
}

/** A function with a BAR of each kind: ports at 0, 32-bit memory at 1, 64-bit memory at 2. */
function mixed(rig: PciRig, tag: number) {
  const devices = [new FakeBar(tag), new FakeBar(tag + 1), new FakeBar(tag + 2)] as const;
  const bars: BarSpec[] = [
    { index: 0, kind: 'io', size: 16, device: devices[0] },
    { index: 1, kind: 'mem32', size: 4096, device: devices[1] },
    { index: 2, kind: 'mem64', size: 8192, device: devices[2] },
  ];
  return { f: rig.add({ name: `f${tag}`, bars }), devices };
}

/** Memory slots that write down what is mapped. */
class FakeSlots implements MemorySlots {
  readonly pageSize = 4096;
  readonly mapped = new Set<string>();
  full = false;

  allocate(size: number): DeviceMemory {
    return { bytes: new Uint8Array(size) };
  }

  map(base: number, size: number, _memory: DeviceMemory, offset: number, readOnly: boolean): Disposable | undefined {
    if (this.full) return undefined;
    const key = `${base.toString(16)}+${size.toString(16)}@${offset.toString(16)}${readOnly ? ' ro' : ''}`;
    this.mapped.add(key);
    return { [Symbol.dispose]: () => this.mapped.delete(key) };
  }
}

test('BAR-8: an address written while decoding is off is where the window appears when it is on', () => {
  const rig = new PciRig();
  const { f, device } = one(rig, 1);
  rig.write(f, BAR0, A);
  expect(rig.read(f, BAR0)).toBe(A);
  expect(rig.memory.at(A)).toBeUndefined();
  rig.command(f, R.COMMAND_MEMORY);
  expect(rig.memory.read(A + 4, 4)).toBe(device.answer(4, 4));
  rig.command(f, 0);
  rig.write(f, BAR0, B);
  expect([rig.memory.read(A, 4), rig.memory.read(B, 4)]).toEqual([DEAD, DEAD]);
  rig.command(f, R.COMMAND_MEMORY);
  expect([rig.memory.read(A, 4), rig.memory.read(B, 4)]).toEqual([DEAD, device.answer(0, 4)]);
});

test('BAR-9: an address written while decoding is on takes effect with the write', () => {
  const rig = new PciRig();
  const { f, device } = one(rig, 1);
  rig.write(f, BAR0, A);
  rig.command(f, R.COMMAND_MEMORY);
  rig.write(f, BAR0, B);
  expect([rig.memory.read(A, 4), rig.memory.read(B, 4)]).toEqual([DEAD, device.answer(0, 4)]);
  rig.write(f, BAR0 + 3, 0x18, 1);
  expect([rig.memory.read(A, 4), rig.memory.read(B, 4)]).toEqual([device.answer(0, 4), DEAD]);
  expect(rig.moves).toEqual([
    { function: 'f1', bar: 0, from: undefined, to: A },
    { function: 'f1', bar: 0, from: A, to: B },
    { function: 'f1', bar: 0, from: B, to: A },
  ]);
});

test('BAR-10: MEM turns memory on and off, IO turns ports on and off', () => {
  const rig = new PciRig();
  const { f, devices } = mixed(rig, 1);
  rig.write(f, BAR0, 0x2000);
  rig.write(f, BAR0 + 4, A);
  rig.write(f, BAR0 + 12, MEM64 / 2 ** 32);
  const alive = () => [rig.io.read(0x2000, 1), rig.memory.read(A, 1), rig.memory.read(MEM64, 1)].map(v => v !== 0xff);
  const states = [0, R.COMMAND_MEMORY, R.COMMAND_IO, R.COMMAND_MEMORY | R.COMMAND_IO].map(command => {
    rig.command(f, command);
    return alive();
  });
  expect(states).toEqual([
    [false, false, false],
    [false, true, true],
    [true, false, false],
    [true, true, true],
  ]);
  expect(devices[0].accesses).toHaveLength(2);
});

test('BAR-11: sizing while decoding is on unmaps the window until an address is written', () => {
  const rig = new PciRig();
  const { f, device } = one(rig, 1);
  rig.write(f, BAR0, A);
  rig.command(f, R.COMMAND_MEMORY);
  rig.write(f, BAR0, DEAD);
  expect([rig.read(f, BAR0), rig.memory.read(A, 4), rig.memory.read(0xffff_f000, 4)]).toEqual([
    0xffff_f000,
    DEAD,
    DEAD,
  ]);
  rig.write(f, BAR0, B);
  expect([rig.memory.read(A, 4), rig.memory.read(B, 4)]).toEqual([DEAD, device.answer(0, 4)]);
});

test('BAR-12: an address of 64 bits is looked at after each half; what no aperture holds is dead', () => {
  const rig = new PciRig();
  const { f, devices } = mixed(rig, 1);
  const wide = devices[2];
  const halves = (low: number | undefined, high: number | undefined) => {
    if (low !== undefined) rig.write(f, BAR0 + 8, low);
    if (high !== undefined) rig.write(f, BAR0 + 12, high);
    return rig.mapper.windows(f).get(2)?.address;
  };
  halves(0x2000, MEM64 / 2 ** 32);
  rig.command(f, R.COMMAND_MEMORY);
  expect(rig.memory.read(MEM64 + 0x2000, 4)).toBe(wide.answer(0, 4));
  expect(halves(0x8000_0000, undefined)).toBe(MEM64 + 0x8000_0000);
  expect([rig.memory.read(MEM64 + 0x2000, 4), rig.memory.read(MEM64 + 0x8000_0000, 4)]).toEqual([
    DEAD,
    wide.answer(0, 4),
  ]);
  expect(halves(undefined, 0)).toBeUndefined();
  expect([rig.memory.read(MEM64 + 0x8000_0000, 4), rig.memory.read(0x8000_0000, 4)]).toEqual([DEAD, DEAD]);
  expect(halves(0xffff_ffff, undefined)).toBeUndefined();
  expect(halves(undefined, 0xffff_ffff)).toBeUndefined();
  expect(halves(0x4000, undefined)).toBeUndefined();
  expect(halves(undefined, MEM64 / 2 ** 32 + 1)).toBe(MEM64 + 2 ** 32 + 0x4000);
  expect(rig.memory.read(MEM64 + 2 ** 32 + 0x4000, 4)).toBe(wide.answer(0, 4));
});

test('BAR-7: a window that an aperture does not hold as a whole is dead', () => {
  const rig = new PciRig();
  const { f, devices } = mixed(rig, 1);
  rig.command(f, 3);
  const at = (register: number, value: number) => {
    rig.write(f, BAR0 + register, value);
    return rig.mapper.windows(f).size;
  };
  // 0x4000_0000 is RAM, 0x400 below the ports; the last places inside of the apertures are good.
  expect([at(0, 0x400), at(0, IO + IO_SIZE), at(0, IO + IO_SIZE - 16)]).toEqual([0, 0, 1]);
  expect([at(4, 0x4000_0000), at(4, MEM32 - 4096), at(4, MEM32 + MEM32_SIZE - 4096)]).toEqual([1, 1, 2]);
  rig.write(f, BAR0 + 8, 2 ** 32 - 8192);
  expect(at(12, (MEM64 + MEM64_SIZE) / 2 ** 32)).toBe(2);
  expect(at(12, (MEM64 + MEM64_SIZE) / 2 ** 32 - 1)).toBe(3);
  expect(rig.memory.read(MEM64 + MEM64_SIZE - 4, 4)).toBe(devices[2].answer(8188, 4));
});

test('BAR-13: of two windows the one programmed last answers, and the other one again when it leaves', () => {
  const rig = new PciRig();
  const first = one(rig, 1);
  const second = one(rig, 2);
  for (const { f } of [first, second]) rig.command(f, R.COMMAND_MEMORY);
  rig.write(first.f, BAR0, A);
  rig.write(second.f, BAR0, B);
  rig.write(second.f, BAR0, A);
  expect(rig.memory.read(A, 4)).toBe(second.device.answer(0, 4));
  // The one below moves: the one on top stays.
  rig.write(first.f, BAR0, B);
  rig.write(first.f, BAR0, A);
  expect(rig.memory.read(A, 4)).toBe(first.device.answer(0, 4));
  rig.command(first.f, 0);
  expect(rig.memory.read(A, 4)).toBe(second.device.answer(0, 4));
  rig.command(first.f, R.COMMAND_MEMORY);
  expect(rig.memory.read(A, 4)).toBe(first.device.answer(0, 4));
  rig.host.remove(first.f);
  expect(rig.memory.read(A, 4)).toBe(second.device.answer(0, 4));
});

test('BAR-13: a small window in the middle of a large one leaves its ends reachable', () => {
  const rig = new PciRig();
  const large = one(rig, 1, 0x4000);
  const small = one(rig, 2, 0x1000);
  rig.write(large.f, BAR0, A);
  rig.write(small.f, BAR0, A + 0x1000);
  rig.command(large.f, R.COMMAND_MEMORY);
  rig.command(small.f, R.COMMAND_MEMORY);
  const answers = () => [0xffc, 0x1000, 0x1ffc, 0x2000].map(o => rig.memory.read(A + o, 4));
  const { device } = large;
  const top = small.device;
  expect(answers()).toEqual([
    device.answer(0xffc, 4),
    top.answer(0, 4),
    top.answer(0xffc, 4),
    device.answer(0x2000, 4),
  ]);
  rig.memory.write(A + 0x2004, 4, 0xabcd);
  expect(device.taken().at(-1)).toEqual({ offset: 0x2004, size: 4, value: 0xabcd });
  rig.memory.write64(A + 0x2008, 0x1_0000_0002n);
  expect(device.taken()).toEqual([
    { offset: 0x2008, size: 4, value: 2 },
    { offset: 0x200c, size: 4, value: 1 },
  ]);
  expect(rig.memory.read64(A + 0x2008)).toBe(0x0100_200c_0100_2008n);
  rig.command(small.f, 0);
  expect(answers()).toEqual([0xffc, 0x1000, 0x1ffc, 0x2000].map(o => device.answer(o, 4)));
});

test('BAR-13: ports and memory with the same number do not meet', () => {
  const rig = new PciRig();
  const { f, devices } = mixed(rig, 1);
  rig.command(f, 3);
  rig.write(f, BAR0, 0x2000);
  const memory = one(rig, 7);
  rig.write(memory.f, BAR0, 0x2000);
  rig.command(memory.f, 3);
  expect(rig.io.read(0x2000, 4)).toBe(devices[0].answer(0, 4));
});

test('BAR-14: a window whose place is taken stays dead, and a line says so', () => {
  const slots = new FakeSlots();
  const rig = new PciRig({ slots });
  const device = new FakeBar(1);
  const f = rig.add({
    name: 'disk',
    bars: [{ index: 0, kind: 'mem32', size: 0x2000, device, memory: slots.allocate(0x2000) }],
  });
  const fixed = new FakeBar(9);
  rig.memory.map(A + 0x1000, 0x1000, fixed);
  rig.write(f, BAR0, A);
  expect(() => rig.command(f, R.COMMAND_MEMORY)).not.toThrow();
  expect([rig.read(f, BAR0), rig.memory.read(A, 4), rig.memory.read(A + 0x1000, 4)]).toEqual([
    A,
    DEAD,
    fixed.answer(0, 4),
  ]);
  expect([...slots.mapped]).toEqual([]);
  expect(rig.log).toEqual([expect.stringMatching(/^disk: BAR 0 cannot be mapped at 0x18000000: .*overlaps/)]);
  rig.write(f, BAR0, B);
  expect(rig.memory.read(B, 4)).toBe(device.answer(0, 4));
});

test('BAR-15: where no window is reads give all ones of every width, and writes are dropped', () => {
  const rig = new PciRig();
  const { f, device } = one(rig, 1);
  rig.write(f, BAR0, A);
  for (const size of [1, 2, 4] as AccessSize[]) {
    expect(rig.memory.read(A, size)).toBe(2 ** (8 * size) - 1);
    expect(rig.io.read(0x2000, size)).toBe(2 ** (8 * size) - 1);
    rig.memory.write(A, size, 0);
  }
  expect(rig.memory.read64(A)).toBe(0xffff_ffff_ffff_ffffn);
  rig.command(f, R.COMMAND_IO);
  rig.memory.write(A, 4, 0);
  expect(device.accesses).toEqual([]);
});

test('BAR-16: a device gets offsets from wherever its BAR is', () => {
  const rig = new PciRig();
  const { f, device } = one(rig, 1);
  rig.command(f, R.COMMAND_MEMORY);
  for (const address of [A, B, A + 0x1000]) {
    rig.write(f, BAR0, address);
    rig.memory.read(address + 0xffe, 2);
    rig.memory.write(address + 8, 1, 7);
    expect(device.taken()).toEqual([
      { offset: 0xffe, size: 2 },
      { offset: 8, size: 1, value: 7 },
    ]);
  }
});

/** Doorbells as an engine has them: an address each. */
class FakeDoorbells implements DoorbellEvents {
  readonly registered = new Map<string, Doorbell>();
  declines = false;

  register(space: 'memory' | 'io', address: number, doorbell: Doorbell): Disposable | undefined {
    if (this.declines) return undefined;
    const key = `${space} ${address.toString(16)}`;
    this.registered.set(key, doorbell);
    return { [Symbol.dispose]: () => this.registered.delete(key) };
  }
}

test('BAR-17: doorbells move with their BAR, and are gone while it is dead or covered', () => {
  const doorbells = new FakeDoorbells();
  const rig = new PciRig({ doorbells });
  const ring = () => undefined;
  const f = rig.add({
    bars: [
      {
        index: 0,
        kind: 'mem32',
        size: 0x2000,
        device: new FakeBar(),
        doorbells: [
          { offset: 0x10, size: 2, ring },
          { offset: 0x1010, size: 2, ring },
        ],
      },
    ],
  });
  const where = () => [...doorbells.registered.keys()].sort();
  rig.write(f, BAR0, A);
  expect(where()).toEqual([]);
  rig.command(f, R.COMMAND_MEMORY);
  expect(where()).toEqual(['memory 18000010', 'memory 18001010']);
  rig.write(f, BAR0, B);
  expect(where()).toEqual(['memory 19000010', 'memory 19001010']);
  const top = one(rig, 2);
  rig.write(top.f, BAR0, B + 0x1000);
  rig.command(top.f, R.COMMAND_MEMORY);
  expect(where()).toEqual(['memory 19000010']);
  rig.command(top.f, 0);
  expect(where()).toEqual(['memory 19000010', 'memory 19001010']);
  doorbells.declines = true;
  rig.write(f, BAR0, A);
  expect(where()).toEqual([]);
  rig.host.remove(f);
  expect(where()).toEqual([]);
});

test('BAR-18: memory is mapped in pages; what is not a page is answered access by access', () => {
  const slots = new FakeSlots();
  const rig = new PciRig({ slots });
  const device = new FakeBar();
  const rom = new FakeBar(3);
  const f = rig.add({
    bars: [
      { index: 0, kind: 'mem32', size: 0x4000, device, memory: slots.allocate(0x4000) },
      { index: 'rom', kind: 'mem32', size: 0x1000, device: rom, memory: slots.allocate(0x1000) },
    ],
  });
  rig.write(f, BAR0, A);
  rig.command(f, R.COMMAND_MEMORY);
  expect([...slots.mapped]).toEqual(['18000000+4000@0']);
  rig.write(f, BAR0, B);
  expect([...slots.mapped]).toEqual(['19000000+4000@0']);
  rig.write(f, R.ROM_ADDRESS, A | 1);
  expect([...slots.mapped]).toEqual(['19000000+4000@0', '18000000+1000@0 ro']);
  rig.write(f, R.ROM_ADDRESS, 0);
  // A window of half a page lies in the middle: the pages that are left are mapped, the halves are not.
  const small = rig.add({ bars: [{ index: 'rom', kind: 'mem32', size: 2048, device: rom }] });
  rig.write(small, R.ROM_ADDRESS, (B + 0x1000) | 1);
  rig.command(small, R.COMMAND_MEMORY);
  expect([...slots.mapped]).toEqual(['19000000+1000@0']);
  expect(rig.memory.read(B + 0x1800, 4)).toBe(device.answer(0x1800, 4));
  rig.command(small, 0);
  expect([...slots.mapped]).toEqual(['19000000+4000@0']);
  slots.full = true;
  rig.write(f, BAR0, A);
  expect([...slots.mapped]).toEqual([]);
  expect(rig.memory.read(A, 4)).toBe(device.answer(0, 4));
});

test('MSIX-9, BAR-16: a device on a bus keeps its state when its BAR moves', () => {
  const rig = new PciRig();
  const bytes = new DataView(new ArrayBuffer(4096));
  const device = {
    name: 'ram',
    read: (o: number) => bytes.getUint32(o, true),
    write: (o: number, _: AccessSize, v: number) => bytes.setUint32(o, v, true),
  };
  const f = rig.add({ bars: [{ index: 0, kind: 'mem32', size: 4096, device }] });
  rig.command(f, R.COMMAND_MEMORY);
  rig.write(f, BAR0, A);
  rig.memory.write(A + 12, 4, 0x600d);
  rig.write(f, BAR0, B);
  expect(rig.memory.read(B + 12, 4)).toBe(0x600d);
});

// What a guest may do to a function, with addresses that meet often.
const addresses = fc.constantFrom(
  0,
  0xffff_ffff,
  A,
  A + 0x1000,
  A + 0x2000,
  A + 0x3000,
  0x2000,
  0x2010,
  0x4000_0000,
  0x80,
);
const anything = fc.oneof({ weight: 4, arbitrary: addresses }, fc.nat({ max: 0xffff_ffff }));
const registers = fc.constantFrom(0, 4, 8, 12);
const commands = fc.nat({ max: 3 });
const writes = fc.oneof(
  fc.record({ at: registers.map(r => BAR0 + r), size: fc.constant<AccessSize>(4), value: anything }),
  fc.record({ at: fc.constant(R.COMMAND), size: fc.constant<AccessSize>(2), value: commands }),
  fc
    .record({ at: fc.nat({ max: 0x7f }), size: fc.constantFrom<AccessSize>(1, 2, 4), value: anything })
    .map(w => ({ ...w, at: w.at & ~(w.size - 1) })),
);

test('any configuration writes leave what decoding their final bytes gives', () => {
  fc.assert(
    fc.property(fc.array(writes, { maxLength: 40 }), list => {
      const rig = new PciRig();
      const { f } = mixed(rig, 1);
      for (const w of list) rig.write(f, w.at, w.value, w.size);
      const fresh = new PciRig();
      const twin = mixed(fresh, 1);
      twin.f.config.bytes.set(f.config.bytes);
      twin.f.decodeChanged();
      const plain = (r: PciRig, g: PciFunction) =>
        [...r.mapper.windows(g)].map(([index, w]) => [index, w.space, w.address, w.start, w.end]).sort();
      expect(plain(rig, f)).toEqual(plain(fresh, twin.f));
      // Windows of one function that overlap depend on the order; others are where the fresh ones are.
      const live = [...rig.mapper.windows(f).values()];
      const meet = live.some(a => live.some(b => a !== b && a.space === b.space && a.start < b.end && b.start < a.end));
      if (meet) return;
      for (const w of live) {
        for (const address of [w.start - 1, w.start, w.end - 1, w.end])
          expect(rig[busOf(w.space)].read(address, 1)).toBe(fresh[busOf(w.space)].read(address, 1));
      }
    }),
    { numRuns: 300 },
  );
});

function busOf(space: 'memory' | 'io'): 'memory' | 'io' {
  return space;
}

/** Two functions as a simple-minded reader of the specification sees them. */
class Model {
  /** Live windows by function and BAR, with the time at which they came. */
  readonly #windows = new Map<string, { address: number; time: number; space: string; size: number; tag: number }>();
  #time = 0;

  update(f: PciFunction, devices: readonly FakeBar[]): void {
    const { view } = f.config;
    const command = view.getUint16(4, true);
    for (const [n, device] of devices.entries()) {
      const low = view.getUint32(0x10 + 4 * n, true);
      const high = n === 2 ? view.getUint32(0x1c, true) : 0;
      const size = [16, 4096, 8192][n]!;
      const space = n === 0 ? 'io' : 'memory';
      const address = high * 2 ** 32 + (n === 0 ? low - (low % 4) : low - (low % 16));
      const inside = (base: number, length: number) => address >= base && address + size <= base + length;
      const good = n === 0 ? inside(IO, IO_SIZE) : inside(MEM32, MEM32_SIZE) || inside(MEM64, MEM64_SIZE);
      const on = n === 0 ? (command & 1) !== 0 : (command & 2) !== 0;
      const key = `${f.name} ${n}`;
      if (!on || !good) this.#windows.delete(key);
      else if (this.#windows.get(key)?.address !== address)
        this.#windows.set(key, { address, space, size, time: ++this.#time, tag: device.tag });
    }
  }

  /** What a byte read gives. */
  answer(space: 'memory' | 'io', address: number): { tag: number; offset: number } | undefined {
    let best: { address: number; time: number; tag: number } | undefined;
    for (const w of this.#windows.values())
      if (w.space === space && address >= w.address && address < w.address + w.size && w.time > (best?.time ?? 0))
        best = w;
    return best && { tag: best.tag, offset: address - best.address };
  }

  /** Addresses worth a look: the edges of everything. */
  get edges(): { space: 'memory' | 'io'; address: number }[] {
    const edges = [...this.#windows.values()].flatMap(w =>
      [w.address - 1, w.address, w.address + w.size - 1, w.address + w.size].map(address => ({
        space: w.space as 'memory' | 'io',
        address,
      })),
    );
    for (let i = 0; i < 5; i++) edges.push({ space: 'memory', address: A + 0x1000 * i });
    return edges;
  }
}

test('BAR-13, BAR-15: no access reaches a window that is dead, covered or of another function', () => {
  const steps = fc.array(fc.record({ who: fc.nat({ max: 1 }), write: writes }), { maxLength: 30 });
  fc.assert(
    fc.property(steps, list => {
      const rig = new PciRig();
      const both = [mixed(rig, 0x10), mixed(rig, 0x20)] as const;
      const all = both.flatMap(b => b.devices);
      const model = new Model();
      for (const { who, write } of list) {
        const { f, devices } = both[who as 0 | 1];
        rig.write(f, write.at, write.value, write.size);
        model.update(f, devices);
        for (const { space, address } of model.edges) {
          for (const d of all) d.taken();
          rig[space].write(address, 1, 0x55);
          const reached = all.flatMap(d => d.taken().map(a => ({ tag: d.tag, offset: a.offset })));
          const expected = model.answer(space, address);
          expect(reached).toEqual(expected === undefined ? [] : [expected]);
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('a function that leaves its bus leaves no mapping, doorbell or memory behind', () => {
  const slots = new FakeSlots();
  const doorbells = new FakeDoorbells();
  const rig = new PciRig({ slots, doorbells });
  const doorbell: Doorbell = { offset: 0, size: 4, ring: () => undefined };
  const index: BarIndex = 0;
  for (let i = 0; i < 100; i++) {
    const memory = slots.allocate(4096);
    const f = rig.add({
      bars: [{ index, kind: 'mem32', size: 4096, device: new FakeBar(), memory, doorbells: [doorbell] }],
    });
    rig.write(f, BAR0, A);
    rig.command(f, R.COMMAND_MEMORY);
    expect([slots.mapped.size, doorbells.registered.size]).toEqual([1, 1]);
    rig.host.remove(f);
    expect([slots.mapped.size, doorbells.registered.size, rig.memory.at(A)]).toEqual([0, 0, undefined]);
  }
});
