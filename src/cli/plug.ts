import { askVm, VmError } from '../vmm/index.ts';
import { flagsToOptions } from './flags.ts';

/** Options that name a device for `tsvisor plug`. */
export const PLUG_OPTIONS = ['disk', 'net', 'rng', 'balloon', 'vsock', 'share', 'pci'] as const;

/** `tsvisor plug [NAME] --disk FILE`: a device into a running VM; prints the device's name. */
export async function plug(vm: string | undefined, flags: Readonly<Record<string, unknown>>): Promise<void> {
  const given = flagsToOptions(flags);
  const device = Object.fromEntries(PLUG_OPTIONS.flatMap(o => (given[o] === undefined ? [] : [[o, given[o]]])));
  if (Object.keys(device).length !== 1) {
    throw new VmError('ERR_USAGE', 'plug: give one device', { hint: 'for example: tsvisor plug --disk data.img' });
  }
  process.stdout.write(`${await askVm(vm, { verb: 'plug', device })}\n`);
}

/** `tsvisor unplug DEVICE [NAME]`: waits until the guest has let go of it. */
export async function unplug(device: string, vm: string | undefined): Promise<void> {
  await askVm(vm, { verb: 'unplug', name: device });
}
