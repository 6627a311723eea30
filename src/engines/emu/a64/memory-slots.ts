import type { DeviceMemory, Gpa, MemorySlots } from '../../../memory/types.ts';
import { VmError } from '../../../util/errors.ts';
import { MAX_REGIONS, REGION_COUNT, REGION_SIZE, REGIONS } from './core/layout.ts';
import type { Core } from './core-instance.ts';

const PAGE = 4096;
/** Bit 0 of a region's flags. */
const READ_ONLY = 1;

interface Slot {
  readonly base: Gpa;
  readonly size: number;
  /** Linear address. */
  readonly host: number;
  readonly flags: number;
}

/** Device memory of the emulated engine: parts of its Wasm memory, and entries behind RAM's in the core's table of regions. */
export class CoreMemorySlots implements MemorySlots {
  readonly pageSize = PAGE;
  readonly #core: Core;
  /** Regions of RAM, which come first and stay. */
  readonly #first: number;
  #allocated = 0;
  #slots: readonly Slot[] = [];

  constructor(core: Core) {
    this.#core = core;
    this.#first = core.view.getUint32(REGION_COUNT, true);
  }

  allocate(size: number): DeviceMemory {
    const pool = this.#core.deviceMemory;
    if (!(size > 0) || size % PAGE !== 0 || this.#allocated + size > pool.length) {
      throw new VmError('ERR_MEMORY_TOO_LARGE', `the engine cannot give a device ${size} bytes of memory`, {
        hint: `devices share ${pool.length / 2 ** 20} MiB, in pages of ${PAGE} bytes; ${this.#allocated} bytes are taken`,
        details: { size, taken: this.#allocated, limit: pool.length },
      });
    }
    const bytes = pool.subarray(this.#allocated, this.#allocated + size);
    this.#allocated += size;
    return { bytes };
  }

  map(base: Gpa, size: number, memory: DeviceMemory, offset: number, readOnly: boolean): Disposable | undefined {
    if (memory.bytes.buffer !== this.#core.memory.buffer || this.#first + this.#slots.length >= MAX_REGIONS)
      return undefined;
    const slot = { base, size, host: memory.bytes.byteOffset + offset, flags: readOnly ? READ_ONLY : 0 };
    this.#set([...this.#slots, slot]);
    return { [Symbol.dispose]: () => this.#set(this.#slots.filter(s => s !== slot)) };
  }

  #set(slots: readonly Slot[]): void {
    const { view, exports } = this.#core;
    this.#slots = slots;
    for (const [i, s] of slots.entries()) {
      const at = REGIONS + (this.#first + i) * REGION_SIZE;
      view.setBigUint64(at, BigInt(s.base), true);
      view.setBigUint64(at + 8, BigInt(s.size), true);
      view.setUint32(at + 16, s.host, true);
      view.setUint32(at + 20, s.flags, true);
    }
    view.setUint32(REGION_COUNT, this.#first + slots.length, true);
    exports.regionsChanged();
  }
}
