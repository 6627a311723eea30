import type { RingLayout, RingState } from '../../src/devices/virtio/chain.ts';
import type { GuestRam } from '../../src/devices/virtio/guest-ram.ts';
import { Queue } from '../../src/devices/virtio/queue.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import type { PinHandle, PinLimits, PinOwner } from '../../src/memory/pin-types.ts';
import { DmaGate } from '../../src/pci/dma.ts';
import { PinWaiters } from '../../src/pci/pin-waiters.ts';

/** Guest RAM of the tests starts here, so that address 0 is none. */
export const BASE = 0x4000_0000;
export const RAM_BYTES = 256 * 1024;
/** Where the three areas of the queue are, indirect tables, and buffers. */
export const DESC = BASE + 0x1000;
export const DRIVER = BASE + 0x8000;
export const DEVICE = BASE + 0xa000;
export const TABLES = BASE + 0x1_0000;
export const BUFFERS = BASE + 0x2_0000;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export class TestRam implements GuestRam {
  readonly bytes = new Uint8Array(new SharedArrayBuffer(RAM_BYTES));
  readonly data = new DataView(this.bytes.buffer);
  readonly pins: PinTable;
  readonly waiters = new PinWaiters();
  readonly #gate: DmaGate;
  allowed = true;

  constructor(limits: PinLimits = {}) {
    const memory = createGuestMemory([{ base: BASE, size: RAM_BYTES, kind: 'ram', bytes: this.bytes }]);
    this.pins = new PinTable({ memory, limits });
    const mayMaster = () => this.allowed;
    this.#gate = new DmaGate({
      get mayMaster() {
        return mayMaster();
      },
    });
    this.#gate.connect(this);
  }

  /** How many pins there are: short ones, long ones. */
  get counts(): [short: number, long: number] {
    const all = this.pins.pins();
    const long = all.filter(p => p.longterm).length;
    return [all.length - long, long];
  }

  get refused() {
    return this.#gate.refused;
  }

  borrow(address: number, length: number, access: 'r' | 'w') {
    return this.#gate.borrow(address, length, access);
  }

  pin(address: number, length: number, access: 'r' | 'w', owner: PinOwner, longterm?: boolean) {
    return this.#gate.pin(address, length, access, owner, longterm);
  }

  pinned(handle: PinHandle) {
    return this.#gate.pinned(handle);
  }

  unpin(handle: PinHandle): void {
    this.#gate.unpin(handle);
  }

  wait(again: () => void): boolean {
    return this.#gate.wait(again);
  }

  released(): void {
    this.#gate.released();
  }

  u16(a: number): number {
    return this.data.getUint16(a - BASE, true);
  }

  u32(a: number): number {
    return this.data.getUint32(a - BASE, true);
  }

  setU16(a: number, v: number): void {
    this.data.setUint16(a - BASE, v, true);
  }

  setU32(a: number, v: number): void {
    this.data.setUint32(a - BASE, v, true);
  }

  descriptor(at: number, address: number, length: number, third: number, fourth: number): void {
    this.setU32(at, address % 2 ** 32);
    this.setU32(at + 4, Math.floor(address / 2 ** 32));
    this.setU32(at + 8, length);
    this.setU16(at + 12, third);
    this.setU16(at + 14, fourth);
  }
}

/** A buffer of a request: bytes at an address, for the device to read or to write. */
export interface Part {
  readonly address: number;
  readonly length: number;
  readonly write: boolean;
}

/** The driver's side, written from the specification and sharing nothing with the code under test. */
export interface Driver {
  /** Free descriptors. */
  readonly free: number;
  /** Makes a request available; the token comes back from collect(). undefined: no room. Returns whether to notify, too. */
  offer(buffers: readonly Part[], indirect: boolean): { readonly token: number; readonly notify: boolean } | undefined;
  /** What the device has returned since the last call. */
  collect(): { readonly token: number; readonly written: number }[];
  /** Wants an interrupt when the device has returned `more` further descriptors' worth; undefined: none. */
  wantInterrupt(more: number | undefined): void;
}

export class SplitDriver implements Driver {
  readonly #free: number[];
  readonly #chains = new Map<number, number[]>();
  #available = 0;
  #used = 0;

  constructor(
    readonly ram: TestRam,
    readonly layout: RingLayout,
    readonly eventIdx: boolean,
  ) {
    this.#free = Array.from({ length: layout.size }, (_, i) => layout.size - 1 - i);
  }

  get free(): number {
    return this.#free.length;
  }

  offer(buffers: readonly Part[], indirect: boolean): { token: number; notify: boolean } | undefined {
    const { ram, layout } = this;
    if (this.#free.length < (indirect ? 1 : buffers.length)) return undefined;
    let head: number;
    if (indirect) {
      head = this.#free.pop()!;
      this.#chains.set(head, [head]);
      const table = TABLES + head * 256;
      for (const [i, b] of buffers.entries()) {
        const last = i === buffers.length - 1;
        ram.descriptor(
          table + 16 * i,
          b.address,
          b.length,
          (last ? 0 : NEXT) | (b.write ? WRITE : 0),
          last ? 0 : i + 1,
        );
      }
      ram.descriptor(layout.desc + 16 * head, table, 16 * buffers.length, INDIRECT, 0);
    } else {
      const indices = buffers.map(() => this.#free.pop()!);
      head = indices[0]!;
      this.#chains.set(head, indices);
      for (const [i, b] of buffers.entries()) {
        const next = indices[i + 1];
        const flags = (next === undefined ? 0 : NEXT) | (b.write ? WRITE : 0);
        ram.descriptor(layout.desc + 16 * indices[i]!, b.address, b.length, flags, next ?? 0xffff);
      }
    }
    const old = this.#available;
    ram.setU16(layout.driver + 4 + 2 * (old % layout.size), head);
    this.#available = (old + 1) % 65536;
    ram.setU16(layout.driver + 2, this.#available);
    const notify = this.eventIdx
      ? ram.u16(layout.device + 4 + 8 * layout.size) === old
      : (ram.u16(layout.device) & 1) === 0;
    return { token: head, notify };
  }

  collect(): { token: number; written: number }[] {
    const { ram, layout } = this;
    const done = [];
    for (; this.#used !== ram.u16(layout.device + 2); this.#used = (this.#used + 1) % 65536) {
      const element = layout.device + 4 + 8 * (this.#used % layout.size);
      const token = ram.u32(element);
      const chain = this.#chains.get(token);
      if (chain === undefined) throw new Error(`descriptor ${token} is not in use`);
      this.#chains.delete(token);
      this.#free.push(...chain);
      done.push({ token, written: ram.u32(element + 4) });
    }
    return done;
  }

  wantInterrupt(more: number | undefined): void {
    const { ram, layout } = this;
    if (!this.eventIdx) ram.setU16(layout.driver, more === undefined ? 1 : 0);
    else ram.setU16(layout.driver + 4 + 2 * layout.size, (ram.u16(layout.device + 2) + (more ?? 0) + 65535) % 65536);
  }
}

export class PackedDriver implements Driver {
  readonly #ids: number[];
  readonly #counts = new Map<number, number>();
  #next = 0;
  #wrap = 1;
  #used = 0;
  #usedWrap = 1;
  free: number;

  constructor(
    readonly ram: TestRam,
    readonly layout: RingLayout,
    readonly eventIdx: boolean,
  ) {
    this.#ids = Array.from({ length: layout.size }, (_, i) => i);
    this.free = layout.size;
  }

  offer(buffers: readonly Part[], indirect: boolean): { token: number; notify: boolean } | undefined {
    const { ram, layout } = this;
    const count = indirect ? 1 : buffers.length;
    if (this.free < count) return undefined;
    const id = this.#ids.shift()!;
    const first = { index: this.#next, wrap: this.#wrap };
    let firstFlags = 0;
    for (let i = 0; i < count; i++) {
      let b = buffers[i] ?? readable(0, 0);
      let flags = (b.write ? WRITE : 0) | (i < count - 1 ? NEXT : 0);
      if (indirect) {
        const table = TABLES + id * 256;
        // Whatever is reserved in a table must be ignored.
        for (const [j, e] of buffers.entries())
          ram.descriptor(table + 16 * j, e.address, e.length, 7, (e.write ? WRITE : 0) | NEXT);
        b = { address: table, length: 16 * buffers.length, write: false };
        flags = INDIRECT | WRITE;
      }
      flags |= this.#wrap === 1 ? 1 << 7 : 1 << 15;
      const at = layout.desc + 16 * this.#next;
      const old = ram.u16(at + 14);
      ram.descriptor(at, b.address, b.length, i === count - 1 ? id : 0x5a5a, i === 0 ? old : flags);
      if (i === 0) firstFlags = flags;
      this.#next++;
      if (this.#next === layout.size) {
        this.#next = 0;
        this.#wrap ^= 1;
      }
    }
    ram.setU16(layout.desc + 16 * first.index + 14, firstFlags);
    this.#counts.set(id, count);
    this.free -= count;
    const event = ram.u16(layout.device);
    const flags = ram.u16(layout.device + 2);
    let notify = flags === 0;
    if (flags === 2) {
      for (let i = 0; i < count; i++) {
        const over = first.index + i >= layout.size;
        const index = (first.index + i) % layout.size;
        notify ||= (event & 0x7fff) === index && event >> 15 === (over ? first.wrap ^ 1 : first.wrap);
      }
    }
    return { token: id, notify };
  }

  collect(): { token: number; written: number }[] {
    const { ram, layout } = this;
    const done = [];
    for (;;) {
      const at = layout.desc + 16 * this.#used;
      const flags = ram.u16(at + 14);
      if (((flags >> 7) & 1) !== this.#usedWrap || flags >> 15 !== this.#usedWrap) return done;
      const token = ram.u16(at + 12);
      const count = this.#counts.get(token);
      if (count === undefined) throw new Error(`buffer ${token} is not in use`);
      this.#counts.delete(token);
      this.#ids.push(token);
      this.free += count;
      done.push({ token, written: flags & WRITE ? ram.u32(at + 8) : 0 });
      this.#used += count;
      if (this.#used >= layout.size) {
        this.#used -= layout.size;
        this.#usedWrap ^= 1;
      }
    }
  }

  wantInterrupt(more: number | undefined): void {
    const { ram, layout } = this;
    if (more === undefined) ram.setU16(layout.driver + 2, 1);
    else if (!this.eventIdx) ram.setU16(layout.driver + 2, 0);
    else {
      const over = this.#used + more - 1 >= layout.size;
      const index = (this.#used + more - 1) % layout.size;
      ram.setU16(layout.driver, index | ((over ? this.#usedWrap ^ 1 : this.#usedWrap) << 15));
      ram.setU16(layout.driver + 2, 2);
    }
  }
}

export interface Rig {
  readonly ram: TestRam;
  readonly layout: RingLayout;
  readonly queue: Queue;
  readonly driver: Driver;
  readonly failures: string[];
  interrupts: number;
  /** Whether the queue may hope for memory that it was refused, and how often it has been told to try again. */
  later: boolean | undefined;
  retries: number;
}

export interface RigOptions {
  readonly packed: boolean;
  readonly eventIdx?: boolean;
  readonly indirect?: boolean;
  readonly size?: number;
  readonly ram?: TestRam;
  /** One that has used the ring of this memory before. */
  readonly driver?: Driver;
}

/** @param state how far the queue is, instead of at its start. */
export function rig(o: RigOptions, state?: RingState): Rig {
  const { packed, eventIdx = false, indirect = true, size = 8, ram = new TestRam() } = o;
  const layout = { size, desc: DESC, driver: DRIVER, device: DEVICE };
  const failures: string[] = [];
  const again = () => {
    r.retries++;
  };
  const queue = new Queue({
    index: 3,
    packed,
    eventIdx,
    indirect,
    ram,
    owner: ram.pins.owner('test queue 3'),
    interrupt: () => {
      r.interrupts++;
    },
    // As a transport does: the device is through with its queues.
    fail: why => {
      failures.push(why);
      queue.stop();
    },
    later: () => {
      r.later = ram.wait(again);
    },
  });
  const driver =
    o.driver ?? (packed ? new PackedDriver(ram, layout, eventIdx) : new SplitDriver(ram, layout, eventIdx));
  const r: Rig = { ram, layout, queue, driver, failures, interrupts: 0, later: undefined, retries: 0 };
  queue.enable(layout, state);
  return r;
}

export const readable = (address: number, length: number): Part => ({ address, length, write: false });
export const writable = (address: number, length: number): Part => ({ address, length, write: true });
export const addresses = (parts: readonly Uint8Array[]) => parts.map(p => [p.byteOffset + BASE, p.length]);

/** The two ring formats, for describe.each. */
export const FORMATS = [
  { name: 'split', packed: false },
  { name: 'packed', packed: true },
];
