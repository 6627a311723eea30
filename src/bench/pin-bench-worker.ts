/** A thread of `tsvisor bench pin`: attaches to the table, warms up, waits for the others, measures. */

import { parentPort, workerData } from 'node:worker_threads';
import { PinTable } from '../memory/pin-table.ts';
import { benchMemory, type PinBenchMessage, type PinBenchWorkerData } from './pin-bench.ts';
import { pass } from './pin-passes.ts';

/** Calls before measuring: enough for V8 to have optimized what is measured. */
const WARM_UP_CALLS = 200_000;

const { bytes, state, pass: options, repeats, go } = workerData as PinBenchWorkerData;
const table = new PinTable({ memory: benchMemory(bytes), ...(state === undefined ? {} : { state }) });
const calls = Math.ceil(options.pages / options.pagesPerCall);
const handles = new Float64Array(calls);
const nowNs = () => Number(process.hrtime.bigint());

function send(m: PinBenchMessage): void {
  parentPort!.postMessage(m);
}

for (let n = 0; n < WARM_UP_CALLS; n += calls) pass(table, options, handles, nowNs);
send({ ready: true });
Atomics.wait(go, 0, 0);
const times = Array.from({ length: repeats }, () => pass(table, options, handles, nowNs));
const leaks = state === undefined ? table.leaks() : [];
if (leaks.length > 0) throw new Error(`bench pin: ${leaks[0]!.pages} pages are still pinned`);
table.detach();
send({ times });
