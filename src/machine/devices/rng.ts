import { VirtioRng } from '../../devices/virtio/rng/device.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** A source of randomness: the host's, or a seed's in a deterministic run. */
export const build: Builder<'rng'> = async ({ name }, env) => {
  const device = new VirtioRng({ fill: into => into.set(env.entropy(into.length)) });
  return { name, function: virtioFunction(device, name, env) };
};
