import { hex } from '../util/hex.ts';
import type { MachineEvents } from './machine.ts';

/** Unhandled accesses that are worth a line each in the log. */
const LOGGED_ACCESSES = 20;

/** An access that no device of a bus answers. */
export interface UnhandledAccess {
  readonly address: number;
  /** Bytes. */
  readonly size: number;
  /** undefined: a read. */
  readonly value?: number | undefined;
}

/** Tells the host's user of the first accesses that nothing answers. */
export function unhandledAccesses(events: MachineEvents): (access: UnhandledAccess) => void {
  let count = 0;
  return ({ address, size, value }) => {
    if (++count > LOGGED_ACCESSES) return;
    const what = value === undefined ? 'read of' : `write of ${hex(value)} to`;
    const more = count === LOGGED_ACCESSES ? ' (no more of these will be reported)' : '';
    events.log(`guest: ${8 * size}-bit ${what} ${hex(address)}, where nothing is${more}`);
  };
}
