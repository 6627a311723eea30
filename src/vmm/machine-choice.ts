import { isX86Kernel } from '../firmware/x86-kernel.ts';
import { ARM_VIRT, HOTPLUG_ALIGNMENT, hotplugRange } from '../machine/address-map.ts';
import type { MachineName } from '../machine/machine.ts';
import { VmError } from '../util/errors.ts';
import type { ResolvedOptions } from './options.ts';
import { formatSize } from './units.ts';

/** One WebAssembly memory of 4 GiB holds the guest's RAM and the engine's own state; this much is left for RAM. */
export const MAX_EMULATED_RAM = 4009 * 2 ** 20;
/** What the machines' address maps have room for. */
export const MAX_RAM = ARM_VIRT.ram.size;

/** The kernel's command line where none is given: console on the UART, from the first message on; a panic restarts, which ends the machine, instead of spinning. */
export const DEFAULT_PARAMS: Readonly<Record<MachineName, string>> = {
  'arm-virt': 'earlycon console=ttyAMA0 panic=-1',
  'x86-pc': 'earlycon=uart,io,0x3f8 console=ttyS0 panic=-1',
};

/** Resolves `machine: 'auto'` by what the guest is: x86 kernels get a PC, everything else the virt board. */
export function chooseMachine(wish: 'auto' | MachineName, kernel: Uint8Array | undefined): MachineName {
  if (wish !== 'auto') return wish;
  return kernel !== undefined && isX86Kernel(kernel) ? 'x86-pc' : 'arm-virt';
}

/**
 * Refuses what the machine or the engine that were chosen do not have.
 * @throws VmError ERR_USAGE, ERR_MEMORY_TOO_LARGE.
 */
export function checkMachine(o: ResolvedOptions, machine: MachineName, engine: 'emu' | 'kvm'): void {
  const x86 = machine === 'x86-pc';
  const foreign = x86 ? { firmware: o.firmware, flash: o.flash, gic: o.gic } : { invariantTsc: o.invariantTsc };
  for (const [option, value] of Object.entries(foreign)) {
    if (value === undefined) continue;
    throw new VmError('ERR_USAGE', `${option}: the machine ${machine} has none`, {
      hint: `leave it out; it belongs to ${x86 ? 'arm-virt' : 'x86-pc'}`,
      details: { option, machine },
    });
  }
  if (engine === 'kvm') {
    if (x86 && !o.ptp) {
      throw new VmError('ERR_USAGE', 'ptp: KVM answers x86-64 guests by itself, and cannot be told not to', {
        hint: 'leave it out; in the guest, do not load ptp_kvm',
        details: { option: 'ptp', machine, engine },
      });
    }
    return;
  }
  const { memory } = o;
  if (memory > MAX_EMULATED_RAM) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `memory: ${formatSize(memory)} is more than the emulator can give`, {
      hint: `use at most ${MAX_EMULATED_RAM / 2 ** 20}M: a WebAssembly memory ends at 4 GiB`,
      details: { memory, maximum: MAX_EMULATED_RAM },
    });
  }
  const size = o.devices.reduce((sum, d) => sum + (d.kind === 'mem' ? d.size : 0), 0);
  if (size === 0) return;
  const { base } = hotplugRange(ARM_VIRT.ram.base + memory, size);
  const all = base + size - ARM_VIRT.ram.base;
  if (all <= MAX_EMULATED_RAM) return;
  const room = Math.floor((MAX_EMULATED_RAM - (all - size)) / HOTPLUG_ALIGNMENT) * HOTPLUG_ALIGNMENT;
  throw new VmError('ERR_MEMORY_TOO_LARGE', `hotplug: ${formatSize(size)} is more than the emulator can give`, {
    hint: `with ${formatSize(memory)} of RAM use at most ${Math.max(0, room) / 2 ** 20}M: a WebAssembly memory ends at 4 GiB`,
    details: { hotplug: size, memory, maximum: MAX_EMULATED_RAM },
  });
}
