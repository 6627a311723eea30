import { ArmVirt } from './arm-virt.ts';
import type { CreateMachine } from './machine.ts';

/** Builds the machine that a configuration names. See {@link CreateMachine}. */
export const createMachine: CreateMachine = async (config, events) => new ArmVirt(config, events);
