import type { MemorySlots } from '../../memory/types.ts';
import { isMasterAbort } from '../../pci/dma.ts';
import type { Clock } from '../../time/types.ts';
import { deviceName, type PciDeviceDefinition } from './definition.ts';
import type { DmaPort } from './dma.ts';
import { DeviceFunction } from './function.ts';
import { type DeviceFailure, RunningProgram } from './program.ts';

/** What a device needs of its machine. */
export interface DeviceKitEnvironment {
  /** The device's name among those of its machine. Default: the definition's. */
  readonly name?: string | undefined;
  readonly clock: Clock;
  /** Memory for BARs that the guest reaches without an exit; undefined: every access is answered by the device. */
  readonly slots?: MemorySlots | undefined;
  /** One line for the host's user. */
  log(line: string): void;
  /** The device's program has thrown. Called at most once for each device. */
  failed(failure: DeviceFailure): void;
}

/**
 * Makes a device of `definition` and runs its setup. A setup that throws gives a device that has failed, as a handler that
 * throws does later.
 * @param options what the device finds in `dev.options`.
 * @throws VmError ERR_MEMORY_TOO_LARGE when the engine has no memory for a BAR.
 */
export function createPciDevice(
  definition: PciDeviceDefinition,
  env: DeviceKitEnvironment,
  options: Readonly<Record<string, unknown>> = {},
): DeviceFunction {
  const name = env.name ?? deviceName(definition.spec);
  const f = new DeviceFunction(definition.spec, name, env.slots);
  f.connect(
    new RunningProgram(
      definition,
      {
        name,
        asynchronous: true,
        trigger: n => f.trigger(n),
        setIntx: level => f.setIntx(level),
        dma: dmaPort(f),
        configRead: (offset, size) => f.configRead(offset, size),
        memory: bar => f.memories.get(bar)!,
        after: (ns, callback) => env.clock.at(env.clock.nowNs() + ns, callback),
        log: line => env.log(line),
        failed: failure => {
          f.setIntx(false);
          env.failed(failure);
        },
      },
      options,
    ),
  );
  return f;
}

/** The way of a program on this thread into guest memory. What no memory answers is a master abort. */
function dmaPort(f: DeviceFunction): DmaPort {
  const gate = f.dma;
  const refused = () => {
    if (isMasterAbort(gate.refused)) f.masterAborted();
  };
  return {
    get mayMaster() {
      return gate.allowed;
    },
    borrow: (address, length, access, use) => {
      const bytes = gate.borrow(address, length, access);
      if (bytes !== undefined) return use(bytes);
      refused();
      return undefined;
    },
    pin: (address, length, access, longterm) => {
      if (!gate.allowed) return 0;
      const handle = gate.pin(address, length, access, gate.owner(`${f.name} DMA`), longterm);
      if (handle === 0) refused();
      return handle;
    },
    pinned: handle => gate.pinned(handle),
    unpin: handle => {
      gate.unpin(handle);
      gate.released();
    },
  };
}
