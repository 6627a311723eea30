import type { VirtioMem } from '../../devices/virtio/mem/device.ts';
import type { PinTable } from '../../memory/pin-table.ts';
import type { GuestMemory, MemorySlots } from '../../memory/types.ts';
import type { PciFunction } from '../../pci/function.ts';
import type { Clock } from '../../time/types.ts';
import type { AddressRange } from '../address-map.ts';
import type { DeviceConfig, MachineEvents } from '../machine.ts';
import type { BalloonControl } from './balloon.ts';
import type { ConsoleChannels } from './console.ts';
import type { VsockPorts } from './vsock.ts';

/** What the machine gives to those that build its devices. */
export interface DeviceEnvironment {
  readonly memory: GuestMemory;
  /** Who holds what of the memory. */
  readonly pins: PinTable;
  /** Memory for a 'mem' to plug; all of it is unplugged. */
  readonly hotplug: AddressRange | undefined;
  readonly slots: MemorySlots;
  readonly clock: Clock;
  readonly events: MachineEvents;
  readonly cpus: number;
  /** Random bytes for the guest: from the host, or from the seed of a deterministic run. */
  entropy(length: number): Uint8Array;
  /** Nothing may depend on when the host answers: I/O happens within the access that asks for it. */
  readonly deterministic: boolean;
  /** 'transitional': virtio devices have the legacy interface, too, where there is one for them. */
  readonly virtio: 'modern' | 'transitional';
}

/** A device that is ready to be put on the bus, with its other end on the host. */
export interface BuiltDevice {
  readonly name: string;
  readonly function: PciFunction;
  /** The host's side of a socket device, a console, a balloon and hot-plugged memory, for the user's thread. */
  readonly vsock?: VsockPorts;
  readonly channels?: ConsoleChannels;
  readonly balloon?: BalloonControl;
  readonly hotplug?: VirtioMem;
  /** Whether the host's side may answer at any moment. */
  expectsIo?(): boolean;
  /** What a guest's write begins may go on in the event loop, with nothing to see from outside: streams, and code of users'. */
  readonly usesLoop?: true;
  /** Makes a copy of what the guest writes to on the host, while it does not; a device without any has none. */
  readonly copyTo?: ((path: string) => Promise<void>) | undefined;
  /** Writes out and lets go of what is open on the host. */
  close?(): Promise<void>;
}

/** Builds a device of one kind and opens what it needs on the host. */
export type Builder<K extends DeviceConfig['kind']> = (
  config: Extract<DeviceConfig, { kind: K }>,
  env: DeviceEnvironment,
) => Promise<BuiltDevice>;

/** The builder of each kind; its code is loaded when it is first needed, so that a machine without devices starts fast. */
const BUILDERS: { readonly [K in DeviceConfig['kind']]: () => Promise<{ readonly build: Builder<K> }> } = {
  disk: () => import('./disk.ts'),
  net: () => import('./net.ts'),
  rng: () => import('./rng.ts'),
  balloon: () => import('./balloon.ts'),
  vsock: () => import('./vsock.ts'),
  console: () => import('./console.ts'),
  share: () => import('./share.ts'),
  mem: () => import('./mem.ts'),
  module: () => import('./module.ts'),
  inline: () => import('./inline.ts'),
};

/** Kinds with {@link BuiltDevice.usesLoop}. */
const LOOPING: ReadonlySet<DeviceConfig['kind']> = new Set(['module', 'inline', 'vsock', 'console']);

/**
 * Builds a device and opens what it needs on the host.
 * @throws VmError of the device's kind: ERR_FILE_*, ERR_DISK, ERR_NETWORK, ERR_DEVICE, ERR_BAR.
 */
export async function buildDevice(config: DeviceConfig, env: DeviceEnvironment): Promise<BuiltDevice> {
  const { build } = await BUILDERS[config.kind]();
  const built = await (build as Builder<DeviceConfig['kind']>)(config, env);
  return LOOPING.has(config.kind) ? { ...built, usesLoop: true } : built;
}
