import { createUserNetwork } from '../../backends/net/index.ts';
import { openTap } from '../../backends/net/tap.ts';
import type { NetBackend } from '../../devices/virtio/net/backend.ts';
import { VirtioNet } from '../../devices/virtio/net/device.ts';
import { host } from '../../engines/host/host.ts';
import type { NetConfig } from '../machine.ts';
import type { Builder, DeviceEnvironment } from './build.ts';
import { virtioFunction } from './virtio.ts';

/** A virtio-net device on the user-mode network, or on a TAP interface. */
export const build: Builder<'net'> = async (config, env) => {
  const { name, mac } = config;
  const backend = await openBackend(config, env);
  const device = new VirtioNet({ mac: Uint8Array.from(mac.split(':'), byte => Number.parseInt(byte, 16)), backend });
  return {
    name,
    function: virtioFunction(device, name, env),
    expectsIo: () => backend.active,
    close: () => backend.close(),
  };
};

async function openBackend(config: NetConfig, { events }: DeviceEnvironment): Promise<NetBackend> {
  const { name } = config;
  if (config.backend === 'tap') {
    return openTap({ name: config.interface, host, onLost: e => events.log(`${name}: ${e.message}`) });
  }
  const network = await createUserNetwork({
    forward: config.forwards.map(({ protocol, ...ports }) => ({ proto: protocol, ...ports })),
  });
  for (const { proto, hostAddress, hostPort, guestPort } of network.forwards) {
    events.report?.({ type: 'forward', name, forward: { protocol: proto, hostAddress, hostPort, guestPort } });
  }
  return network;
}
