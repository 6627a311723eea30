import { buildModuleDevice } from '../device-modules.ts';
import type { Builder } from './build.ts';

/** A device that is written with the kit: the user's module, or one that comes with tsvisor. */
export const build: Builder<'module'> = buildModuleDevice;
