import { openDisk } from '../../backends/disk/open.ts';
import { VirtioBlk } from '../../devices/virtio/blk/device.ts';
import type { Builder } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** Host errors of one disk that are worth a line each. */
const LOGGED_ERRORS = 10;

/** A virtio-blk device over a file. Its serial is its name, which the guest finds in /dev/disk/by-id. */
export const build: Builder<'disk'> = async (config, env) => {
  const { name, path, readOnly, cow } = config;
  const disk = await openDisk({
    path,
    readOnly,
    ...(cow === undefined ? {} : { cow }),
    synchronous: env.deterministic,
  });
  let errors = 0;
  const device = new VirtioBlk({
    disk,
    serial: name,
    cpus: env.cpus,
    onError: e => {
      if (++errors <= LOGGED_ERRORS)
        env.events.log(`${name}: ${e instanceof Error ? e.message : e}; the guest sees an I/O error`);
    },
  });
  return {
    name,
    function: virtioFunction(device, name, env),
    expectsIo: () => disk.inFlight > 0,
    close: () => disk.close(),
  };
};
