import type { GuestMemory, MemorySlots } from '../memory/types.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Clock } from '../time/types.ts';
import type { DeviceConfig, MachineEvents } from './machine.ts';

/** What the machine gives to those that build its devices. */
export interface DeviceEnvironment {
  readonly memory: GuestMemory;
  readonly slots: MemorySlots;
  readonly clock: Clock;
  readonly events: MachineEvents;
  readonly cpus: number;
  /** Random bytes for the guest: from the host, or from the seed of a deterministic run. */
  entropy(length: number): Uint8Array;
  /** Nothing may depend on when the host answers: I/O happens within the access that asks for it. */
  readonly deterministic: boolean;
}

/** A device that is ready to be put on the bus, with its other end on the host. */
export interface BuiltDevice {
  readonly name: string;
  readonly function: PciFunction;
  /** Whether the host's side may answer at any moment. */
  expectsIo?(): boolean;
  /** Writes out and lets go of what is open on the host. */
  close?(): Promise<void>;
}

type Builder<C extends DeviceConfig> = (config: C, env: DeviceEnvironment) => Promise<BuiltDevice>;

/** One builder for each kind of device; each loads its code when it is first needed. */
const BUILDERS: { readonly [K in DeviceConfig['kind']]?: Builder<Extract<DeviceConfig, { kind: K }>> } = {};

/**
 * Builds a device and opens what it needs on the host.
 * @throws VmError of the device's kind: ERR_FILE_*, ERR_DISK, ERR_NETWORK, ERR_DEVICE, ERR_BAR.
 */
export async function buildDevice(config: DeviceConfig, env: DeviceEnvironment): Promise<BuiltDevice> {
  const build = BUILDERS[config.kind] as unknown as Builder<DeviceConfig>;
  return await build(config, env);
}
