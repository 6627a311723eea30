import { VirtioVsock } from '../../devices/virtio/vsock/device.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** A socket device. The machine reaches it through {@link BuiltDevice.vsock}. */
export const build: Builder<'vsock'> = async ({ name, cid }, env) => {
  const vsock = new VirtioVsock({ guestCid: cid, clock: env.clock });
  return { name, function: virtioFunction(vsock, name, env), vsock };
};
