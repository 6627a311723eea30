import type { VirtioDevice } from '../../devices/virtio/device.ts';
import { createVirtioPci, hasLegacyInterface } from '../../devices/virtio/pci-transport.ts';
import { ExpressCapability } from '../../pci/caps/express.ts';
import { PmCapability } from '../../pci/caps/pm.ts';
import type { PciFunction } from '../../pci/function.ts';
import type { DeviceEnvironment } from './build.ts';

/** A virtio device as the machine has it: a PCI Express endpoint with power management and function-level reset. */
export function virtioFunction(device: VirtioDevice, name: string, env: DeviceEnvironment): PciFunction {
  return createVirtioPci({
    device,
    name,
    transitional: env.virtio === 'transitional' && hasLegacyInterface(device),
    capabilities: [new PmCapability(), new ExpressCapability({ type: 'endpoint', functionReset: true })],
    log: line => env.events.log(line),
  });
}
