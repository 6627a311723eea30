import { expect, it } from 'vitest';
import { readVmClock } from '../../test/support/vmclock.ts';
import { createAddressBus } from '../bus/address-bus.ts';
import { createEntropy } from '../devices/psci/entropy.ts';
import type { DeviceMemory, MemorySlots } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import { placeVmClock } from './vmclock.ts';

const BASE = 0x90f_0000;

/** Slots that write down what is mapped; `pool`: bytes that they have. */
function slotsOf(pool: number) {
  const mapped: unknown[] = [];
  const memories: DeviceMemory[] = [];
  const slots: MemorySlots = {
    pageSize: 4096,
    allocate: size => {
      if (size > pool) throw new VmError('ERR_MEMORY_TOO_LARGE', 'full');
      memories.push({ bytes: new Uint8Array(size) });
      return memories.at(-1)!;
    },
    map: (base, size, memory, offset, readOnly) => {
      mapped.push([base, size, memories.indexOf(memory), offset, readOnly]);
      return { [Symbol.dispose]: () => undefined };
    },
  };
  return { slots, mapped, memories };
}

/** The VM clock of a machine with `seed`. */
function place(slots: MemorySlots, seed?: string) {
  const bus = createAddressBus();
  const device = placeVmClock({
    base: BASE,
    bus,
    slots,
    entropy: createEntropy(seed),
    counter: undefined,
    hostTime: true,
  });
  return { bus, device };
}

it('is in memory that guests read and do not write, and on the bus for what they write', () => {
  const { slots, mapped, memories } = slotsOf(4096);
  const { bus, device } = place(slots);
  expect(mapped).toEqual([[BASE, 4096, 0, 0, true]]);
  expect(readVmClock(memories[0]!.bytes)).toMatchObject({ magic: 0x4b4c_4356, counterId: 0xff });
  expect(bus.at(BASE + 0xfff)?.device).toBe(device);
  bus.write(BASE, 4, 0);
  bus.write64(BASE, 0n);
  expect(bus.read(BASE, 4)).toBe(0x4b4c_4356);
});

it('is read by exits where the engine has no memory left', () => {
  const { slots, mapped } = slotsOf(0);
  const { bus } = place(slots);
  expect([mapped, bus.read(BASE, 4), bus.read64(BASE)]).toEqual([[], 0x4b4c_4356, 0x1000_4b4c_4356n]);
});

it('begins with markers of its own, or with those of its seed', () => {
  const markers = (seed?: string) => {
    const { device } = place(slotsOf(4096).slots, seed);
    const { disruptionMarker, vmGenerationCounter } = device.save();
    return [disruptionMarker, vmGenerationCounter];
  };
  expect(markers()).not.toEqual(markers());
  expect(markers('7')).toEqual(markers('7'));
  expect(markers('7')).not.toEqual(markers('8'));
});
