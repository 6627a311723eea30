/** The virtual machine as a library; what `import ... from 'tsvisor'` gives. */

export {
  type BarHandlers,
  type DeviceBar,
  type DeviceDma,
  type DeviceVector,
  definePciDevice,
  type PciDevice,
  type PciDeviceBar,
  type PciDeviceCapability,
  type PciDeviceDefinition,
  type PciDeviceSetup,
  type PciDeviceSpec,
} from '../machine/device-kit.ts';
export { latencyBound, latencyPercentile } from '../machine/exit-meter.ts';
export { type Capability, type HostProbe, probeHost } from '../machine/host.ts';
export type {
  AccessStats,
  BalloonStatistics,
  ClockInfo,
  ClockSample,
  ExitReason,
  MachineInfo,
  MachineName,
  MachineReport,
  MachineStats,
  MemoryCell,
  MemoryMap,
  MemoryMapRegion,
  PinInfo,
  PinLeak,
  PinReport,
  PinStats,
  PtpInfo,
  ThreadStats,
  VcpuCounters,
  VcpuInfo,
  VcpuStats,
} from '../machine/machine.ts';
export type { BarInfo, PciFunctionInfo, VectorInfo } from '../pci/report.ts';
export { type ErrorCode, VmError, type VmErrorOptions } from '../util/errors.ts';
export type { VmBalloon } from './balloon.ts';
export type { VmChannel } from './channel.ts';
export type { VmConsole, WaitOptions } from './console.ts';
export { askVm, onlyVm, runningVms } from './control/client.ts';
export { type ControlServer, serveControl } from './control/server.ts';
export {
  type DeviceOptions,
  type DiskOptions,
  type ForwardOptions,
  type NetOptions,
  relocateDevices,
  type ShareOptions,
} from './device-options.ts';
export { type EngineChoice, whyNotKvm } from './engine-choice.ts';
export type { ForkOptions } from './fork.ts';
export { DEFAULT_PARAMS, MAX_EMULATED_RAM, MAX_RAM } from './machine-choice.ts';
export type { VmMemory } from './memory.ts';
export type { MemoryFile } from './memory-file.ts';
export type { MemoryImage } from './memory-image.ts';
export {
  OPTION_NAMES,
  OPTIONS,
  type OptionSpec,
  type ResolvedOptions,
  resolveOptions,
  TRACE_TOPICS,
  type TraceTopic,
  type VmOptions,
} from './options.ts';
export { VmPci } from './pci.ts';
export { StreamError } from './port-stream.ts';
export type { ConsoleMatch } from './transcript.ts';
export { formatSize, parseDuration, parseSize } from './units.ts';
export type { VmVcpu } from './vcpu.ts';
export {
  type CreateOptions,
  Vm,
  type VmClock,
  type VmEvents,
  type VmExit,
  type VmInfo,
  type VmState,
  type VmStats,
} from './vm.ts';
export type { VmVsock, VmVsockListener, VmVsockStream } from './vsock.ts';
