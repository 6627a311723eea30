import { rm } from 'node:fs/promises';
import type { Gpa } from '../memory/types.ts';
import type { PciFunctionState } from '../pci/function.ts';
import type { ClockPair } from '../time/types.ts';
import { VmError } from '../util/errors.ts';
import type { BuiltDevice } from './devices/build.ts';
import type { DeviceConfig } from './machine.ts';

/** A machine between two steps, but for its memory and what is on the host. Plain data. */
export interface MachineState {
  /** The machine's clock, ns. */
  readonly nowNs: number;
  /** Both clocks when the guest was started. */
  readonly started: ClockPair;
  readonly engine: unknown;
  readonly interrupts: unknown;
  /** The board's own devices. */
  readonly board: unknown;
  /** Of the device for memory hot-plug: rings of others may be in what it has plugged. */
  readonly hotplug: unknown;
  /** How far the sources of randomness are, which with the virtual clock go on as the parent's do. */
  readonly entropy: readonly number[];
  readonly functions: readonly PciFunctionState[];
}

/** One region of a machine's memory, for whoever fills it. */
export interface RamRegion {
  readonly base: Gpa;
  /** The bytes themselves, in shared memory. */
  readonly bytes: Uint8Array;
}

/** Kinds of devices whose host's side can be doubled, or is none. */
const FORKABLE: readonly DeviceConfig['kind'][] = ['disk', 'rng', 'balloon', 'mem'];

/**
 * Checks that a machine can be forked, before anything is done.
 * @param copies where the copies of writable disks are to be, by the disk's name.
 * @throws VmError ERR_STATE for a device that stands in the way, ERR_USAGE for a disk without a place or a place without a disk.
 */
export function checkForkable(
  configured: readonly DeviceConfig[],
  devices: readonly BuiltDevice[],
  flash: boolean,
  copies: ReadonlyMap<string, string>,
): void {
  const refused = configured.find(d => !FORKABLE.includes(d.kind));
  const name = flash ? 'flash' : (refused?.name ?? devices.slice(configured.length)[0]?.name);
  if (name !== undefined) {
    throw new VmError('ERR_STATE', `a VM with ${name} cannot be forked: what it is connected to is there once`, {
      hint: 'forks are for VMs with disks, rng, balloon and memory hot-plug, none of them plugged later',
      details: { device: name },
    });
  }
  const writable = devices.filter(d => d.copyTo !== undefined).map(d => d.name);
  const homeless = writable.find(n => !copies.has(n));
  if (homeless !== undefined) {
    throw new VmError('ERR_USAGE', `the fork needs a copy of ${homeless} of its own`, {
      hint: `say where: fork({ disks: { ${homeless}: 'copy.img' } })`,
      details: { device: homeless },
    });
  }
  const unknown = [...copies.keys()].find(n => !writable.includes(n));
  if (unknown !== undefined) {
    throw new VmError('ERR_USAGE', `there is no writable disk ${unknown}`, { details: { device: unknown } });
  }
}

/**
 * Makes a fork by `f`, which copies the disks by its `copy` at the right moment. What was copied is removed when it fails.
 * @throws VmError ERR_DISK, ERR_DISK_FULL; what `f` throws.
 */
export async function withCopies<T>(
  devices: readonly BuiltDevice[],
  copies: ReadonlyMap<string, string>,
  f: (copy: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const made: string[] = [];
  const copy = async () => {
    for (const d of devices) {
      const to = copies.get(d.name);
      if (d.copyTo === undefined || to === undefined) continue;
      await d.copyTo(to);
      made.push(to);
    }
  };
  try {
    return await f(copy);
  } catch (e) {
    for (const path of made) await rm(path, { force: true });
    throw e;
  }
}
