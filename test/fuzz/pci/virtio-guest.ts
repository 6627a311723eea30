import { barAddress } from '../../../src/pci/bar.ts';
import type { Victim } from './devices.ts';
import { RAM, RAM_SIZE, ROM } from './guest-ram.ts';
import { DOORBELL, type FuzzMachine } from './machine.ts';
import type { Places } from './places.ts';
import { makePayload } from './requests.ts';
import { type DriverRing, PackedDriver, type Piece, type RingPlace, SplitDriver } from './rings.ts';

// Registers of virtio's structures in BAR 4 and of the legacy BAR, written down once more (virtio 1.2 section 4.1.4).
const [COMMON, ISR, CONFIG, NOTIFY] = [0, 0x1000, 0x2000, 0x3000] as const;
const [FEATURE_SELECT, FEATURE, DRIVER_FEATURE_SELECT, DRIVER_FEATURE] = [0, 4, 8, 12] as const;
const [CONFIG_VECTOR, STATUS, QUEUE_SELECT, QUEUE_SIZE, QUEUE_VECTOR, QUEUE_ENABLE] = [16, 20, 22, 24, 26, 28] as const;
const [QUEUE_AREAS, QUEUE_RESET] = [32, 58] as const;
const LEGACY = { features: 4, address: 8, size: 12, select: 14, notify: 16, status: 18, isr: 19 } as const;

const READY = 1 | 2 | 8;
const DRIVER_OK = 4;
const NEEDS_RESET = 64;
const F = {
  indirect: 1n << 28n,
  eventIdx: 1n << 29n,
  version1: 1n << 32n,
  packed: 1n << 34n,
  reset: 1n << 40n,
} as const;

/** RAM that a driver has for its rings, tables and buffers. */
export const ARENA = 256 << 10;
const RINGS = 96 << 10;
/** Tables of all queues, and one place for those that are larger than any driver's. */
const TABLES = 64 << 10;
const LARGE_TABLE = 20 << 10;
const BUFFERS = RINGS + TABLES + LARGE_TABLE;

/**
 * A driver of one virtio function that knows how it is done, and does something else now and then. How often is drawn anew
 * with each initialization, so that some runs get deep into a device and others break at once.
 */
export class VirtioGuest {
  readonly #m: FuzzMachine;
  readonly #victim: Victim;
  readonly #places: Places;
  readonly #arena: number;
  readonly #queues: (DriverRing | undefined)[] = [];
  #legacy = false;
  #features = 0n;
  /** One of so many requests is spoilt. */
  #mischief = 64;
  #started = false;
  initializations = 0;
  returned = 0;
  offered = 0;
  stats: Record<string, number> = {};

  constructor(m: FuzzMachine, victim: Victim, places: Places, index: number) {
    this.#m = m;
    this.#victim = victim;
    this.#places = places;
    this.#arena = RAM + index * ARENA;
    if (this.#arena + ARENA > RAM + RAM_SIZE) throw new Error('too many drivers for the RAM');
  }

  /** Does one thing. */
  step(): void {
    const { random } = this.#m;
    if (!this.#victim.f.attached) return;
    // Every so often, and when the device says so.
    if (!this.#started || random.oneIn(400) || (random.oneIn(8) && this.#failed)) {
      const w = !this.#started ? 'lost' : this.#failed ? 'failed' : 'time';
      this.stats[w] = (this.stats[w] ?? 0) + 1;
      this.#start();
      return;
    }
    const action = random.below(40);
    if (action < 26) this.#request();
    else if (action < 29) this.#kick(random.below(this.#queues.length + 1));
    else if (action < 31) this.#access();
    else if (action === 31) this.#resetQueue();
    else if (action === 32 && random.oneIn(4)) this.#status = random.pick([0, 1, 3, 11, 15, 128, random.below(256)]);
    else if (action === 33) this.#common(QUEUE_SELECT, 2, random.below(12));
    else if (action === 34 && random.oneIn(4)) this.#enable(random.below(this.#queues.length + 1));
    else if (action === 35) this.#m.read(this.#bar4 + ISR, random.size());
    else if (random.oneIn(this.#mischief)) this.#queue?.spoil(random);
    else this.#collect();
  }

  get name(): string {
    return this.#victim.f.name;
  }

  get #bar4(): number {
    const { f } = this.#victim;
    return barAddress(f.config, f.bars.find(b => b.index === 4)!);
  }

  get #bar0(): number {
    const { f } = this.#victim;
    return barAddress(f.config, f.bars.find(b => b.index === 0)!);
  }

  get #failed(): boolean {
    const { m, status } = { m: this.#m, status: this.#legacy ? LEGACY.status : STATUS };
    const value = this.#legacy ? m.portRead(this.#bar0 + status, 1) : m.read(this.#bar4 + COMMON + status, 1);
    return (value & NEEDS_RESET) !== 0;
  }

  set #status(value: number) {
    if (this.#legacy) this.#m.portWrite(this.#bar0 + LEGACY.status, 1, value);
    else this.#common(STATUS, 1, value);
  }

  get #queue(): DriverRing | undefined {
    return this.#m.random.pick(this.#queues);
  }

  #common(register: number, size: 1 | 2 | 4, value: number): void {
    this.#m.write(this.#bar4 + COMMON + register, size, value);
  }

  /** The initialization of section 3.1.1, on a function that has been made reachable. */
  #start(): void {
    const { random } = this.#m;
    const { f, virtio, transitional } = this.#victim;
    this.initializations++;
    this.#mischief = random.pick([8, 64, 500, 5000, 5000]);
    this.#places.open(f);
    this.#legacy = transitional === true && random.oneIn(2);
    this.#places.enableInterrupts(f, random.below(3));
    this.#queues.length = virtio!.queueSizes.length;
    this.#queues.fill(undefined);
    this.#status = 0;
    this.#status = 1;
    this.#status = 3;
    this.#negotiate();
    if (!this.#legacy) this.#status = READY;
    for (let i = 0; i < this.#queues.length; i++) if (!random.oneIn(16)) this.#enable(i);
    if (!random.oneIn(16)) this.#status = READY | DRIVER_OK;
    this.#started = true;
    // Buffers for what comes from the device.
    for (let n = random.below(12); n > 0; n--) this.#request();
  }

  #negotiate(): void {
    const m = this.#m;
    const { random } = m;
    let features: bigint;
    if (this.#legacy) {
      const offered = m.portRead(this.#bar0, 4);
      const accepted = random.oneIn(4) ? offered & random.u32() : offered;
      m.portWrite(this.#bar0 + LEGACY.features, 4, accepted >>> 0);
      features = BigInt(accepted >>> 0);
    } else {
      features = 0n;
      for (const window of [0, 1]) {
        this.#common(FEATURE_SELECT, 4, window);
        features |= BigInt(m.read(this.#bar4 + FEATURE, 4)) << BigInt(32 * window);
      }
      if (random.oneIn(2)) features &= ~F.packed;
      if (random.oneIn(4)) features &= (BigInt(random.u32()) << 32n) | BigInt(random.u32()) | F.version1;
      if (random.oneIn(32)) features ^= 1n << BigInt(random.below(64));
      for (const window of [0, 1]) {
        this.#common(DRIVER_FEATURE_SELECT, 4, window);
        this.#common(DRIVER_FEATURE, 4, Number((features >> BigInt(32 * window)) & 0xffff_ffffn));
      }
    }
    this.#features = features;
  }

  /** Sets up queue `index`, nearly always as it should be. */
  #enable(index: number): void {
    const m = this.#m;
    const { random } = m;
    const most = this.#victim.virtio!.queueSizes[index] ?? 8;
    const wrong = random.oneIn(4 * this.#mischief);
    if (this.#legacy) {
      const place = this.#place(index, most, true);
      m.portWrite(this.#bar0 + LEGACY.select, 2, index);
      m.portWrite(this.#bar0 + LEGACY.address, 4, wrong ? random.word() : place.desc / 4096);
      this.#queues[index] = new SplitDriver(m.ram.view, place);
      return;
    }
    const packed = (this.#features & F.packed) !== 0n;
    let size = random.oneIn(8) ? most : Math.min(most, 2 ** random.below(8));
    if (packed && random.oneIn(4)) size = random.between(1, Math.min(most, 128));
    const place = this.#place(index, size, false);
    this.#common(QUEUE_SELECT, 2, index);
    this.#common(QUEUE_SIZE, 2, wrong && random.oneIn(2) ? random.word() & 0xffff : size);
    this.#common(QUEUE_VECTOR, 2, random.oneIn(8) ? random.word() & 0xffff : index + 1);
    const areas = [place.desc, place.driver, place.device].map(BigInt);
    if (wrong) areas[random.below(3)] = this.#wildAddress();
    for (const [i, a] of areas.entries()) {
      this.#common(QUEUE_AREAS + 8 * i, 4, Number(a & 0xffff_ffffn));
      this.#common(QUEUE_AREAS + 8 * i + 4, 4, Number((a >> 32n) & 0xffff_ffffn));
    }
    this.#common(QUEUE_ENABLE, 2, 1);
    this.#queues[index] = new (packed ? PackedDriver : SplitDriver)(m.ram.view, place);
  }

  /** Where queue `index` of `size` descriptors goes in the arena, cleared. */
  #place(index: number, size: number, legacy: boolean): RingPlace {
    const m = this.#m;
    const share = Math.floor(RINGS / Math.max(1, this.#queues.length) / 4096) * 4096;
    const desc = this.#arena + (index % this.#queues.length) * share;
    const driver = desc + 16 * size;
    const align = legacy ? 4096 : 4;
    const device = Math.ceil((driver + 6 + 2 * size) / align) * align;
    const end = Math.min(device + 6 + 8 * size, RAM + RAM_SIZE);
    m.ram.bytes.fill(0, desc - RAM, end - RAM);
    const tableBytes = Math.floor(TABLES / this.#queues.length / 4096) * 4096;
    const tables = this.#arena + RINGS + (index % this.#queues.length) * tableBytes;
    return { size, desc, driver, device, tables, tableBytes, largeTable: this.#arena + RINGS + TABLES };
  }

  #request(): void {
    const { random } = this.#m;
    const index = random.below(this.#queues.length);
    const ring = this.#queues[index];
    if (ring === undefined) return;
    let offered = 0;
    // A burst now and then: one notification for many requests.
    for (let n = random.oneIn(8) ? random.between(1, 32) : 1; n > 0; n--) {
      const pieces = this.#pieces(index, ring);
      const indirect = (this.#features & F.indirect) !== 0n && pieces.length > 0 && random.oneIn(2);
      const fits = this.#m.act(
        'request',
        () => `queue ${index}, ${pieces.length} pieces`,
        () => ring.offer(pieces, indirect),
      );
      if (fits !== true) break;
      offered++;
      this.offered++;
      if (random.oneIn(this.#mischief)) ring.spoil(random);
    }
    if (offered === 0) this.#collect();
    if (!random.oneIn(8)) this.#kick(index);
  }

  /** A request of the device's type in buffers of the arena, cut anyhow. */
  #pieces(index: number, ring: DriverRing): Piece[] {
    const { random, ram } = this.#m;
    const { type, queueSizes } = this.#victim.virtio!;
    const payload = makePayload(random, type, index, queueSizes.length);
    const first = this.#arena + BUFFERS;
    const room = ARENA - BUFFERS;
    const most = Math.max(1, Math.min(8, ring.place.size - 1));
    const pieces: Piece[] = [];
    const cut = (length: number, write: boolean, bytes?: Uint8Array) => {
      const parts = random.between(1, most);
      for (let done = 0; done < length; ) {
        const last = pieces.length % 8 >= parts - 1;
        const n = Math.min(room, last ? length - done : random.between(1, Math.min(length - done, 4096)));
        const at = first + random.below(room - n + 1);
        if (bytes !== undefined) ram.bytes.set(bytes.subarray(done, done + n), at - RAM);
        pieces.push({ address: BigInt(at), length: n, write });
        done += n;
      }
    };
    cut(payload.out.length, false, payload.out);
    cut(payload.in, true);
    if (random.oneIn(this.#mischief)) this.#spoil(pieces);
    return pieces;
  }

  /** Changes one buffer of a request into what no driver would ask for. */
  #spoil(pieces: Piece[]): void {
    const { random } = this.#m;
    if (random.oneIn(8)) {
      // As many and as large buffers as there can be.
      const p = {
        address: BigInt(RAM),
        length: random.pick([RAM_SIZE, RAM_SIZE / 2, 65536, 1]),
        write: random.oneIn(2),
      };
      pieces.splice(0, pieces.length, ...Array.from({ length: random.pick([8, 128, 1024, 1025]) }, () => p));
      return;
    }
    if (pieces.length === 0) return;
    const i = random.below(pieces.length);
    const p = pieces[i]!;
    switch (random.below(5)) {
      case 0:
        pieces[i] = { ...p, address: this.#wildAddress() };
        break;
      case 1:
        pieces[i] = { ...p, length: random.pick([0, 1, 0xffff_ffff, 0x8000_0000, RAM_SIZE, random.word()]) };
        break;
      case 2:
        pieces[i] = { ...p, write: !p.write };
        break;
      case 3:
        pieces.reverse();
        break;
      default: {
        // The device's answer goes over the driver's own rings.
        const place = this.#queue?.place;
        if (place !== undefined)
          pieces[i] = { ...p, address: BigInt(random.pick([place.desc, place.driver, place.device])) };
      }
    }
  }

  /** Addresses out of RAM, at its borders, over devices, around 2^52, 2^64 and in the arena. */
  #wildAddress(): bigint {
    const { random } = this.#m;
    const end = BigInt(RAM + RAM_SIZE);
    return random.pick([
      0n,
      end - 1n,
      end,
      end - BigInt(random.below(5000)),
      BigInt(RAM - 1),
      BigInt(RAM + random.below(RAM_SIZE)),
      BigInt(ROM + random.below(70_000)),
      BigInt(this.#bar4),
      BigInt(this.#arena + random.below(ARENA)),
      0x40_1000_0000n,
      BigInt(DOORBELL),
      0x900_0000n,
      (1n << 52n) - 8n,
      (1n << 53n) + 1n,
      1n << 63n,
      (1n << 64n) - BigInt(random.between(1, 4096)),
      (BigInt(random.word()) << 32n) | BigInt(random.word()),
    ]);
  }

  /** Notifies a queue, or writes something there that is no notification. */
  #kick(index: number): void {
    const m = this.#m;
    const { random } = m;
    const garbage = random.oneIn(16);
    if (this.#legacy)
      m.portWrite(this.#bar0 + LEGACY.notify, garbage ? random.size() : 2, garbage ? random.word() : index);
    else if (garbage) m.write(this.#bar4 + NOTIFY + random.below(64), random.size(), random.word());
    else m.write(this.#bar4 + NOTIFY + 4 * index, random.oneIn(4) ? 4 : 2, random.oneIn(4) ? random.u32() : index);
  }

  /** Any register of the structures, by any width. */
  #access(): void {
    const m = this.#m;
    const { random } = m;
    const size = random.size();
    if (this.#legacy && random.oneIn(2)) {
      const port = this.#bar0 + random.below(80);
      if (random.oneIn(2)) m.portRead(port, size);
      else m.portWrite(port, size, random.word());
      return;
    }
    const page = random.pick([COMMON, COMMON, ISR, CONFIG, CONFIG, NOTIFY, CONFIG_VECTOR]);
    const at = this.#bar4 + page + random.below(random.oneIn(8) ? 0x1000 : 68);
    if (random.oneIn(2)) m.read(at, size);
    // Writes to the common structure break most of what was set up: less often.
    else if (page !== COMMON || random.oneIn(8)) m.write(at, size, random.word());
  }

  /** Resets a queue, waits or does not, and mostly sets it up again, perhaps with another size. */
  #resetQueue(): void {
    const m = this.#m;
    const { random } = m;
    const index = random.below(this.#queues.length);
    if (this.#legacy) {
      m.portWrite(this.#bar0 + LEGACY.select, 2, index);
      m.portWrite(this.#bar0 + LEGACY.address, 4, 0);
    } else {
      this.#common(QUEUE_SELECT, 2, index);
      this.#common(QUEUE_RESET, 2, 1);
      m.read(this.#bar4 + QUEUE_RESET, 2);
    }
    this.#queues[index] = undefined;
    if (!random.oneIn(4)) this.#enable(index);
  }

  #collect(): void {
    for (const [i, ring] of this.#queues.entries()) {
      const returned = ring?.collect() ?? 0;
      if (returned >= 0) this.returned += returned;
      // The ring is spoilt: the driver gives up on it.
      else this.#queues[i] = undefined;
    }
    if (this.#queues.every(q => q === undefined)) this.#started = false;
  }
}
