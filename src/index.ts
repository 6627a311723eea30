/** tsvisor's library: virtual machines from Node. See docs/api.md. */
export type { ExitReason, MachineInfo, VcpuInfo } from './machine/machine.ts';
export { type ErrorCode, VmError, type VmErrorOptions } from './util/errors.ts';
export type { VmConsole, WaitOptions } from './vmm/console.ts';
export type { EngineChoice } from './vmm/engine-choice.ts';
export { DEFAULT_PARAMS, MAX_EMULATED_RAM, TRACE_TOPICS, type TraceTopic, type VmOptions } from './vmm/options.ts';
export type { ConsoleMatch } from './vmm/transcript.ts';
export { type CreateOptions, Vm, type VmEvents, type VmExit, type VmInfo, type VmState } from './vmm/vm.ts';
