import type { MessagePort } from 'node:worker_threads';
import type { MachineConfig } from '../machine/machine.ts';
import { checkLinuxFits, readGuestFile } from './files.ts';
import { type InlineHost, placeDevices } from './inline-devices.ts';
import { DEFAULT_PARAMS } from './machine-choice.ts';
import type { ResolvedOptions } from './options.ts';

/** The files that go into the guest. */
export interface GuestFiles {
  readonly kernel: Uint8Array | undefined;
  readonly initrd: Uint8Array | undefined;
  /** Their buffers that are ours to give away. */
  readonly transfer: readonly ArrayBuffer[];
}

/** Reads what goes into the guest. @throws VmError as readGuestFile() and checkLinuxFits(). */
export async function readFiles(o: ResolvedOptions, signal: AbortSignal | undefined): Promise<GuestFiles> {
  const transfer: ArrayBuffer[] = [];
  const load = async (what: 'kernel' | 'initrd') => {
    const source = o[what];
    if (typeof source !== 'string') return source;
    const bytes = await readGuestFile(source, what, o.memory, signal);
    // A small file's bytes may lie in a buffer that Node shares with others.
    if (bytes.byteLength === bytes.buffer.byteLength) transfer.push(bytes.buffer as ArrayBuffer);
    return bytes;
  };
  const [kernel, initrd] = await Promise.all([load('kernel'), load('initrd')]);
  if (kernel !== undefined) checkLinuxFits(kernel, initrd, o.memory);
  return { kernel, initrd, transfer };
}

/** The machine's configuration, and what is given away with it. */
export function makeConfig(
  o: ResolvedOptions,
  { kernel, initrd, transfer }: GuestFiles,
  chosen: Pick<MachineConfig, 'machine' | 'engine'>,
  host: InlineHost,
): { readonly config: MachineConfig; readonly transfer: readonly (ArrayBuffer | MessagePort)[] } {
  const placed = placeDevices(o.devices, host);
  const config: MachineConfig = {
    ...chosen,
    kernel,
    firmware: o.firmware,
    flash: o.flash,
    initrd,
    params: o.params ?? DEFAULT_PARAMS[chosen.machine],
    memoryBytes: o.memory,
    cpus: o.cpus,
    clock: o.clock,
    gic: o.gic ?? 3,
    ...(o.seed === undefined ? {} : { seed: o.seed }),
    trace: o.trace,
    devices: placed.devices,
    pciSlots: o.slots,
    pciHost: o.pciHost,
    virtio: o.virtio,
    ...(o.invariantTsc === undefined ? {} : { invariantTsc: o.invariantTsc }),
    ptp: o.ptp,
    ...(o.pinLimit === undefined ? {} : { pinLimitBytes: o.pinLimit }),
  };
  return { config, transfer: [...transfer, ...placed.transfer] };
}
