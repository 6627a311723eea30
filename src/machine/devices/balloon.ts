import { VirtioBalloon } from '../../devices/virtio/balloon/device.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/**
 * A memory balloon. Without native code there is no way to give a page back to the host, so what the guest gives up stays where
 * it is: the contents of ballooned pages mean nothing to anybody (virtio 1.2 section 5.5.6).
 */
export const build: Builder<'balloon'> = async ({ name }, env) => {
  const device = new VirtioBalloon({
    ram: env.memory.regions.filter(r => r.kind === 'ram').map(r => ({ base: r.base, size: r.size })),
    discarder: { discard: () => undefined, discardView: () => undefined },
    clock: env.clock,
  });
  return { name, function: virtioFunction(device, name, env) };
};
