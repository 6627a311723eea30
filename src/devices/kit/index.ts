/** What a device module imports: `import { definePciDevice } from 'tsvisor/devices'`. It brings no virtual machine along. */
export { type ErrorCode, VmError, type VmErrorOptions } from '../../util/errors.ts';
export {
  definePciDevice,
  type PciDeviceBar,
  type PciDeviceCapability,
  type PciDeviceDefinition,
  type PciDeviceSetup,
  type PciDeviceSpec,
} from './definition.ts';
export type { BarHandlers, DeviceBar, DeviceDma, DeviceVector, DmaPin, PciDevice } from './device.ts';
