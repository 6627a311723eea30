/** What a program that makes machines needs to define devices, for those above the machine. */
export type { PciDeviceDefinition } from '../devices/kit/definition.ts';
export { deviceName, isPciDeviceDefinition } from '../devices/kit/definition.ts';
export {
  type BarHandlers,
  type DeviceBar,
  type DeviceDma,
  type DeviceVector,
  type DmaPin,
  definePciDevice,
  type PciDevice,
  type PciDeviceBar,
  type PciDeviceCapability,
  type PciDeviceSetup,
  type PciDeviceSpec,
} from '../devices/kit/index.ts';
export type { DeviceFailure } from '../devices/kit/program.ts';
