import { createHash } from 'node:crypto';
import type { Engine } from '../engines/engine.ts';
import { notedMemory } from '../memory/noted-memory.ts';
import { PinTable } from '../memory/pin-table.ts';
import type { PlugListener } from '../memory/pin-types.ts';
import type { GuestMemory } from '../memory/types.ts';
import type { AddressRange } from './address-map.ts';
import type { MachineEvents } from './machine.ts';
import { memlockBytes } from './memlock.ts';
import { MemoryFiles } from './memory-files.ts';
import { MemoryForks } from './memory-forks.ts';
import { type MemoryMap, memoryMap, type PinReport, pinReport } from './pin-report.ts';

/** What a {@link MachineMemory} is made of. */
export interface MachineMemoryOptions {
  readonly engine: Engine & PlugListener;
  readonly events: MachineEvents;
  /** Bytes that may be pinned long-term; undefined: no limit. */
  readonly pinLimitBytes: number | undefined;
  /** Where memory is plugged and unplugged; all of it is unplugged at first. */
  readonly hotplug: AddressRange | undefined;
}

/** A machine's memory: who holds what of it, what it was at some moments, and what it looks like. */
export class MachineMemory {
  readonly pins: PinTable;
  readonly forks: MemoryForks;
  readonly files: MemoryFiles;
  readonly #o: MachineMemoryOptions;

  constructor(o: MachineMemoryOptions) {
    this.#o = o;
    const { engine, pinLimitBytes, hotplug } = o;
    const memlock = memlockBytes();
    this.pins = new PinTable({
      memory: engine.memory,
      limits: {
        // Buffers of requests do not overlap, unless a guest means harm.
        shortBytes: engine.memory.regions.reduce((sum, r) => sum + r.size, 0),
        ...(pinLimitBytes === undefined ? {} : { longtermBytes: pinLimitBytes }),
        ...(memlock === undefined ? {} : { memlockBytes: memlock }),
      },
      discardBytes: (base, length) => engine.discard(base, length),
    });
    // vCPUs write without pins.
    this.pins.dirty.addSource(engine.writeTracker);
    this.pins.addPlugListener(engine);
    if (hotplug !== undefined) this.pins.startUnplugged(hotplug.base, hotplug.size);
    this.forks = new MemoryForks(this.pins, engine.writeTracker);
    this.files = new MemoryFiles(this.pins, engine.writeTracker);
  }

  /** For those of the machine's parts that write tables of theirs into RAM. */
  noted(): GuestMemory {
    return notedMemory(this.#o.engine.memory, (a, length) => this.pins.willWrite(a, length));
  }

  /** Makes RAM zeros, as it was before the guest; but for what is unplugged, which is done by its device. */
  clear(): void {
    const { engine, hotplug } = this.#o;
    for (const r of engine.memory.regions) {
      if (r.base === hotplug?.base) continue;
      this.pins.willWrite(r.base, r.size);
      // Zeros that are written cost the host memory.
      if (r.kind === 'ram' && engine.returnsMemory) engine.discard(r.base, r.size);
      else r.bytes.fill(0);
    }
  }

  /** SHA-256 (hex) of all regions, one after the other. */
  hash(): string {
    const hash = createHash('sha256');
    // Chunks, since a hash does not take shared memory directly.
    const chunk = new Uint8Array(1 << 20);
    for (const { bytes } of this.#o.engine.memory.regions) {
      for (let at = 0; at < bytes.length; at += chunk.length) {
        const part = bytes.subarray(at, at + chunk.length);
        chunk.set(part);
        hash.update(chunk.subarray(0, part.length));
      }
    }
    return hash.digest('hex');
  }

  report(): PinReport {
    return pinReport(this.pins, this.#o.engine.clock.nowNs(), this.#o.pinLimitBytes);
  }

  map(): MemoryMap {
    return memoryMap(this.pins, this.#o.engine.memory.regions);
  }

  /** Ends the forks, and tells who has not let go: with every device closed nobody has a reason to hold memory (PIN-5). */
  async close(): Promise<void> {
    this.forks.close();
    await this.files.closeAll();
    const leaks = this.pins.leaks();
    if (leaks.length === 0) return;
    const { pinAcquired: acquired, pinReleased: released } = this.pins.stats();
    const holders = leaks.map(l => `${l.owner} (${l.pages} pages)`).join(', ');
    this.#o.events.log(`guest memory is still pinned at the end, by ${holders}: a defect of that device`);
    this.#o.events.report?.({ type: 'pins-leaked', acquired, released, leaks });
  }
}
