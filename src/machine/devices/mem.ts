import { VirtioMem } from '../../devices/virtio/mem/device.ts';
import { VmError } from '../../util/errors.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** A virtio-mem over the machine's region for memory that is plugged later. */
export const build: Builder<'mem'> = async ({ name }, env) => {
  if (env.hotplug === undefined) throw new VmError('ERR_INTERNAL', `${name}: the machine has no memory to plug`);
  const device = new VirtioMem({ ...env.hotplug, memory: env.pins });
  return { name, function: virtioFunction(device, name, env), hotplug: device };
};
