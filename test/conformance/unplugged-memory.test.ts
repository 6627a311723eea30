// Memory that is unplugged: vCPUs find what they find where nothing is, whatever they have cached of it (pinning, table 4.3).
import { beforeEach, describe, expect, it } from 'vitest';
import * as L from '../../src/engines/emu/a64/core/layout.ts';
import { A64Engine } from '../../src/engines/emu/a64/engine.ts';
import { hostMemory } from '../../src/engines/host/host-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';
import { CODE, DATA, Guest, USER_CODE } from './system-guest.ts';

const BLOCK = 2 * 2 ** 20;
const RAM_BASE = 0x4000_0000;
/** Where the harness has its translation tables: in the last block. */
const TABLES_BLOCK = 3;

describe('memory hot-unplug: the core', () => {
  let g: Guest;
  beforeEach(() => {
    g = new Guest({ cpus: 2 });
    for (const cpu of [1, 0]) {
      g.exports.switchTo(cpu);
      g.identity();
    }
  });

  function setUnplugged(...blocks: number[]): void {
    g.view.setUint8(
      L.UNPLUGGED,
      blocks.reduce((bits, n) => bits | (1 << n), 0),
    );
    g.exports.regionsChanged();
  }

  /** Loads from `va` with the running vCPU: its value, or undefined for an exception. */
  function load(va: number): bigint | undefined {
    g.pstate(0x3c5);
    g.setX(1, va);
    g.code('ldr x0, [x1]\nhvc #0x7e57');
    return g.run(CODE) === BigInt(CODE + 4) ? g.x(0) : undefined;
  }

  function store(va: number, value: bigint): void {
    g.pstate(0x3c5);
    g.setX(1, va);
    g.setX(0, value);
    g.code('str x0, [x1]\nhvc #0x7e57');
    g.run(CODE);
  }

  it('every vCPU reads and writes on the bus, though its TLB had the page', () => {
    for (const cpu of [0, 1]) {
      g.exports.switchTo(cpu);
      store(DATA + 8, 0x1111n);
      expect(load(DATA + 8)).toBe(0x1111n);
    }
    setUnplugged(2);
    for (const cpu of [0, 1]) {
      g.exports.switchTo(cpu);
      g.mmio = [];
      expect(load(DATA + 8)).toBe(0x5a5a_5a5a_5a5a_5a5an);
      store(DATA + 8, 0x2222n);
      expect(g.mmio).toEqual([
        { pa: BigInt(DATA + 8), size: 8 },
        { pa: BigInt(DATA + 8), size: 8, value: 0x2222n },
      ]);
    }
    expect(g.load64(DATA + 8)).toBe(0x1111n);
    setUnplugged();
    g.mmio = [];
    expect(load(DATA + 8)).toBe(0x1111n);
    expect(g.mmio).toEqual([]);
  });

  it('the blocks beside it stay, to their last and first bytes', () => {
    // EL1 may only read there.
    g.store64(USER_CODE + BLOCK - 8, 3n);
    store(DATA + BLOCK, 4n);
    setUnplugged(2);
    g.mmio = [];
    expect([load(USER_CODE + BLOCK - 8), load(DATA + BLOCK)]).toEqual([3n, 4n]);
    expect(g.mmio).toEqual([]);
    load(DATA);
    load(DATA + BLOCK - 8);
    expect(g.mmio.map(m => m.pa)).toEqual([BigInt(DATA), BigInt(DATA + BLOCK - 8)]);
  });

  it('code there cannot be fetched, and tables there cannot be walked', () => {
    g.code('hvc #0x7e57', USER_CODE);
    g.pstate(0x3c0);
    setUnplugged(1);
    // Instruction Abort from a lower level.
    expect(g.take(USER_CODE).ec).toBe(0x20);
    g.sysreg('VBAR_EL1', BigInt(RAM_BASE));
    setUnplugged(TABLES_BLOCK);
    g.pstate(0x3c5);
    g.exports.tlbiAll(true);
    g.setX(1, DATA);
    g.setU32(L.POWER, L.POWER_ON);
    // Its own code cannot be translated any more, and neither can the vector: nothing but exceptions.
    g.set(L.PC, BigInt(CODE));
    g.exports.run(10);
    expect(Number(g.get(L.ESR_EL1) >> 26n)).toBe(0x21);
  });
});

describe('memory hot-unplug: the engine', () => {
  const HOTPLUG = { base: RAM_BASE + 8 * BLOCK, size: 4 * BLOCK };

  function setUp() {
    const engine = new A64Engine({
      cpus: 1,
      ramBase: RAM_BASE,
      // Not up to the other: what is between the two is nobody's.
      ramBytes: 5 * BLOCK,
      hotplug: HOTPLUG,
      counterHz: 62_500_000,
      hostMemory: hostMemory(),
      clock: { kind: 'virtual', clock: createVirtualClock({ startWall: 0n }) },
    });
    const pins = new PinTable({ memory: engine.memory, discardBytes: (base, length) => engine.discard(base, length) });
    pins.startUnplugged(HOTPLUG.base, HOTPLUG.size);
    pins.addPlugListener(engine);
    const accesses: string[] = [];
    engine.attach({
      gicSysregs: false,
      log: () => undefined,
      interrupts: { readRegister: () => undefined, writeRegister: () => false, setPpi: () => undefined },
      sink: {
        mmioRead: (_cpu, address) => {
          accesses.push(`read ${((address - RAM_BASE) / BLOCK).toFixed(1)}`);
          return 0x77n;
        },
        mmioWrite: (_cpu, address) => void accesses.push(`write ${((address - RAM_BASE) / BLOCK).toFixed(1)}`),
        portIn: () => 0,
        portOut: () => undefined,
        system: () => undefined,
        hypercall: () => engine.stop(),
        failed: () => undefined,
      },
    });
    /** Loads X0 from `address` and stores X0 + 1 there; the value, by which way. */
    const touch = (address: number) => {
      accesses.length = 0;
      engine.reset();
      // ldr x0, [x1] / add x2, x0, #1 / str x2, [x1] / hvc #0, with X1 from X0 = address.
      const code = [0xaa0003e1, 0xf9400020, 0x91000402, 0xf9000022, 0xd4000002];
      for (const [i, word] of code.entries()) engine.memory.setU32(RAM_BASE + 4 * i, word);
      engine.vcpus[0]!.start({ pc: RAM_BASE, x0: BigInt(address) });
      expect(engine.step(1e9)).toBe('stopped');
      return { value: engine.x(0, 0), accesses: [...accesses] };
    };
    return { engine, pins, touch };
  }

  it('starts with all of it unplugged, and a hole before it', () => {
    const { engine, touch } = setUp();
    expect(engine.memory.regions.map(r => [r.base, r.size, r.kind])).toEqual([
      [RAM_BASE, 5 * BLOCK, 'ram'],
      [HOTPLUG.base, HOTPLUG.size, 'ram'],
    ]);
    for (const block of [5, 7, 8, 11, 12]) {
      const at = RAM_BASE + block * BLOCK;
      expect(touch(at).accesses).toEqual([`read ${block}.0`, `write ${block}.0`]);
    }
    expect(touch(RAM_BASE + 5 * BLOCK - 8).accesses).toEqual([]);
  });

  it('plugs, keeps what is written, and gives zeros after an unplug', () => {
    const { engine, pins, touch } = setUp();
    const at = HOTPLUG.base + BLOCK + 64;
    expect(pins.plug(HOTPLUG.base + BLOCK, 2 * BLOCK).done).toBe(true);
    engine.memory.setU64(at, 41n);
    expect(touch(at)).toEqual({ value: 41n, accesses: [] });
    expect(engine.memory.u64(at)).toBe(42n);
    expect(touch(at)).toEqual({ value: 42n, accesses: [] });
    expect(touch(HOTPLUG.base).accesses).toHaveLength(2);
    expect(pins.unplug(HOTPLUG.base + BLOCK, BLOCK).done).toBe(true);
    expect(touch(at).accesses).toEqual(['read 9.0', 'write 9.0']);
    expect(touch(at + BLOCK).accesses).toEqual([]);
    expect(engine.memory.u64(at)).toBe(0n);
    pins.plug(HOTPLUG.base + BLOCK, BLOCK);
    expect(touch(at)).toEqual({ value: 0n, accesses: [] });
  });

  it('has room for the memory of devices all the same', () => {
    const { engine, pins, touch } = setUp();
    const memory = engine.slots.allocate(4096);
    const at = 0x1000_0000;
    using _slot = engine.slots.map(at, 4096, memory, 0, false);
    new DataView(memory.bytes.buffer, memory.bytes.byteOffset).setBigUint64(0, 5n, true);
    expect(touch(at)).toEqual({ value: 5n, accesses: [] });
    pins.plug(HOTPLUG.base, BLOCK);
    expect(touch(HOTPLUG.base).accesses).toEqual([]);
    expect(memory.bytes[0]).toBe(6);
  });

  it('refuses what is no whole number of blocks', () => {
    const { engine } = setUp();
    expect(() => engine.plug(HOTPLUG.base + 4096, BLOCK)).toThrow(expect.objectContaining({ code: 'ERR_INTERNAL' }));
    expect(() => engine.unplug(HOTPLUG.base, 4096)).toThrow(expect.objectContaining({ code: 'ERR_INTERNAL' }));
  });
});
