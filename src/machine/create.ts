import { warmUpCore } from '../engines/emu/a64/core-instance.ts';
import type { MakeBoard } from './board.ts';
import { GuestMachine } from './guest-machine.ts';
import type { CreateMachine, MachineConfig } from './machine.ts';

/** Builds the machine that a configuration names. See {@link CreateMachine}. */
export const createMachine: CreateMachine = async (config, events) =>
  await GuestMachine.create(config, events, await boardOf(config));

/** The board and the engine of a configuration. What is not used is not loaded. */
async function boardOf({ machine, engine }: MachineConfig): Promise<MakeBoard> {
  if (machine === 'x86-pc') {
    const { X86Pc } = await import('./x86-pc.ts');
    const { KvmX86Cpus } = await import('./x86-cpus-kvm.ts');
    return context => new X86Pc(context, (c, ram, hotplug) => new KvmX86Cpus(c, ram, hotplug));
  }
  const { ArmVirt } = await import('./arm-virt.ts');
  if (engine === 'kvm') {
    const { KvmArmCpus } = await import('./arm-cpus-kvm.ts');
    return context => new ArmVirt(context, (c, hotplug) => new KvmArmCpus(c, hotplug));
  }
  const { EmulatedArmCpus } = await import('./arm-cpus-emu.ts');
  return context => new ArmVirt(context, (c, hotplug) => new EmulatedArmCpus(c, hotplug));
}

/** What can be done before the configuration is known. */
export const prepare: () => void = warmUpCore;
