import { openShare } from '../../backends/share/open-share.ts';
import { VirtioFs } from '../../devices/virtio/fs/device.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** A virtio-fs device over a folder of the host. */
export const build: Builder<'share'> = async ({ name, directory, tag, readOnly }, env) => {
  const server = await openShare({ directory, readOnly });
  const device = new VirtioFs({ tag, server });
  return {
    name,
    function: virtioFunction(device, name, env),
    expectsIo: () => device.busy,
    close: async () => server.close(),
  };
};
