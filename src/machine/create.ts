import { warmUpCore } from '../engines/emu/a64/core-instance.ts';
import { ArmVirt } from './arm-virt.ts';
import type { CreateMachine } from './machine.ts';

/** Builds the machine that a configuration names. See {@link CreateMachine}. */
export const createMachine: CreateMachine = (config, events) => ArmVirt.create(config, events);

/** What can be done before the configuration is known. */
export const prepare: () => void = warmUpCore;
