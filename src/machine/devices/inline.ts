import { buildInlineDevice } from '../inline-device.ts';
import type { Builder } from './build.ts';

/** A device whose program is closures on the user's thread. */
export const build: Builder<'inline'> = buildInlineDevice;
