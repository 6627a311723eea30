// One run of ptp.ts, in a process that can be stopped as a whole: boots a guest with N vCPUs whose chrony follows the host's
// clock, and prints JSON about it. A line `ready` says that all is set up and that the process may be slowed.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  chronyRoot,
  FOLLOW_PTP0,
  preciseOffsets,
  refclockOffsets,
  spread,
  startChrony,
  waitForChrony,
} from '../support/chrony.ts';
import { bootDebian } from '../support/guest.ts';

/** How far the guest's clock is from the host's, by the guest's own reads. All in ns. */
export interface PtpRun {
  /** Of VmInfo.clock: where the host's time comes from, and the bound of its error. */
  readonly source: string;
  readonly errorNs: number;
  readonly reads: number;
  /** Calls that failed. */
  readonly errors: number;
  readonly median: number;
  readonly p99: number;
  /** The same by chrony's own log, of the same time. */
  readonly chrony: { readonly median: number; readonly p99: number; readonly samples: number };
}

/** `settle` is for chrony, in seconds, from its first correction to the first read. */
const [cpus, reads, settle] = process.argv.slice(2).map(Number) as [number, number, number];
/** Between two reads, ms, so that they are spread over many of chrony's corrections. */
const PAUSE_MS = 20;

const chrony = await chronyRoot();
if (typeof chrony === 'string') throw new Error(chrony);
const share = { directory: chrony.root, tag: 'chrony', readOnly: true };
const guest = await bootDebian({ cpus, share, net: 'none', memory: '256M', engine: 'emu' });
if (typeof guest === 'string') throw new Error(guest);
try {
  await startChrony(guest, FOLLOW_PTP0);
  console.log('ready');
  await waitForChrony(guest, 0.001);
  await sleep(settle * 1000);
  const before = (await refclockOffsets(guest)).length;
  const { offsets, errors } = await preciseOffsets(guest, reads, PAUSE_MS);
  const own = (await refclockOffsets(guest)).slice(before);
  const { source, errorNs } = (await guest.vm.info()).clock;
  const run: PtpRun = {
    source,
    errorNs: Math.round(errorNs),
    reads,
    errors,
    ...spread(offsets),
    chrony: { ...spread(own), samples: own.length },
  };
  console.log(JSON.stringify(run));
} finally {
  await guest.vm.kill();
}
