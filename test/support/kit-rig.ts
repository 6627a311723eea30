// A PCI bus with one device of the kit on it, its BARs placed and decoding: no thread, no real clock.
import { createAddressBus } from '../../src/bus/address-bus.ts';
import { createPciDevice, type DeviceKitEnvironment } from '../../src/devices/kit/create.ts';
import type { PciDeviceDefinition } from '../../src/devices/kit/definition.ts';
import type { DeviceFunction } from '../../src/devices/kit/function.ts';
import type { DeviceFailure } from '../../src/devices/kit/program.ts';
import type { MsiMessage } from '../../src/irq/types.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import type { PinLimits } from '../../src/memory/pin-types.ts';
import { setBarAddress } from '../../src/pci/bar.ts';
import { BarMapper } from '../../src/pci/bar-mapper.ts';
import { PciHost } from '../../src/pci/host.ts';
import { COMMAND } from '../../src/pci/regs.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';

/** What {@link kitRig} can be told. */
export interface KitRigOptions {
  readonly options?: Record<string, unknown>;
  readonly ramBase?: number;
  readonly limits?: PinLimits;
  /** Default: createPciDevice(). */
  readonly create?: (env: DeviceKitEnvironment, pins: PinTable) => DeviceFunction;
}

export const RAM_BASE = 0x4000_0000;
const RAM_BYTES = 0x1_0000;
const MEMORY_WINDOW = { space: 'memory', base: 0x1000_0000, size: 0x1000_0000 } as const;
const IO_WINDOW = { space: 'io', base: 0, size: 0x1_0000 } as const;

/** Makes the device and lets the guest's firmware do its work. */
export function kitRig(
  definition: PciDeviceDefinition,
  { options = {}, ramBase = RAM_BASE, limits = {}, create }: KitRigOptions = {},
) {
  const memoryBus = createAddressBus();
  const ioBus = createAddressBus();
  const bytes = new Uint8Array(new SharedArrayBuffer(RAM_BYTES));
  const memory = createGuestMemory([{ base: ramBase, size: RAM_BYTES, kind: 'ram', bytes }]);
  const pins = new PinTable({ memory, limits });
  const messages: MsiMessage[] = [];
  const wire = { level: false };
  const clock = createVirtualClock({ startWall: 0n });
  const failures: DeviceFailure[] = [];
  const lines: string[] = [];
  const line = {
    set: (level: boolean) => {
      wire.level = level;
    },
  };
  const host = new PciHost({
    mapper: new BarMapper({ memory: memoryBus, io: ioBus, apertures: [MEMORY_WINDOW, IO_WINDOW] }),
    pins,
    interrupts: {
      line: () => line,
      signalMsi: m => {
        if (m.address >= ramBase && m.address < ramBase + RAM_BYTES) return false;
        messages.push(m);
        return true;
      },
      reset: () => {},
      save: () => undefined,
      restore: () => {},
    },
    intx: [line, line, line, line],
  });
  const env: DeviceKitEnvironment = { clock, log: l => lines.push(l), failed: f => failures.push(f) };
  const f = create?.(env, pins) ?? createPciDevice(definition, env, options);
  host.add(f, { device: 1 });
  const addresses = new Map<number | 'rom', number>();
  const place = () => {
    let next = MEMORY_WINDOW.base;
    let port = 0x1000;
    for (const spec of f.bars) {
      const at = spec.kind === 'io' ? port : Math.ceil(next / spec.size) * spec.size;
      if (spec.kind === 'io') port += spec.size;
      else next = at + spec.size;
      setBarAddress(f.config, spec, at);
      addresses.set(spec.index, at);
    }
    f.configWrite(COMMAND, 2, 7);
  };
  place();
  const busOf = (bar: number | 'rom') => (f.bars.find(b => b.index === bar)?.kind === 'io' ? ioBus : memoryBus);
  return {
    function: f,
    host,
    memory,
    pins,
    messages,
    wire,
    failures,
    lines,
    /** Enables what a driver would: MSI with one message to `address`. */
    enableMsi: (address = 0x0802_0040, data = 48) => {
      const at = capability(f, 0x05);
      f.configWrite(at + 4, 4, address);
      f.configWrite(at + 12, 2, data);
      f.configWrite(at + 2, 2, 1);
    },
    capability: (id: number) => capability(f, id),
    /** Gives the BARs their addresses and lets them decode again, after a reset. */
    place,
    read: (bar: number | 'rom', offset: number, size: number): bigint => {
      const at = addresses.get(bar)! + offset;
      return size === 8 ? busOf(bar).read64(at) : BigInt(busOf(bar).read(at, size as 1 | 2 | 4));
    },
    write: (bar: number | 'rom', offset: number, size: number, value: bigint | number): void => {
      const at = addresses.get(bar)! + offset;
      if (size === 8) busOf(bar).write64(at, BigInt(value));
      else busOf(bar).write(at, size as 1 | 2 | 4, Number(value));
    },
    /** Lets `ns` pass. */
    advance: (ns: number) => {
      clock.advanceTo(clock.nowNs() + ns);
      clock.runDue();
    },
  };
}

/** Offset of the capability `id`; throws when there is none. */
function capability(f: DeviceFunction, id: number): number {
  for (let at = f.config.bytes[0x34]!; at !== 0; at = f.config.bytes[at + 1]!) if (f.config.bytes[at] === id) return at;
  throw new Error(`no capability ${id}`);
}
