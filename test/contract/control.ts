import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import type { Rig } from './contract.ts';

// What a host does to a guest that runs, on every architecture.

/** A budget that no test waits for, ns. */
const LONG_NS = 60e9;
/** Much less than that, ms. */
const SOON_MS = 20_000;

/** One step with a budget that nothing but the host's will ends early. */
export function longStep(rig: Rig): 'yield' | 'idle' | 'stopped' {
  // Should the engine not hear of the host's wish, this timer ends the step, too late.
  const net = setTimeout(() => undefined, SOON_MS);
  const started = performance.now();
  try {
    return rig.step(LONG_NS);
  } finally {
    clearTimeout(net);
    const ms = performance.now() - started;
    assert.ok(ms < SOON_MS, `the step took ${Math.round(ms)} ms`);
  }
}

/** Long steps until the guest has made its first access; gives the last one's result. */
async function stepToAccess(rig: Rig): Promise<'yield' | 'idle' | 'stopped'> {
  for (;;) {
    const result = longStep(rig);
    // The event loop may have had something to do before.
    if (rig.trace.length > 0 || result === 'stopped') return result;
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}

/** For a guest that writes to `at` and then spins: kick() ends the step. */
export async function kickedByExit(rig: Rig, at: number): Promise<void> {
  rig.onWrite(at, () => rig.engine.kick());
  rig.start();
  assert.equal(await stepToAccess(rig), 'yield');
}

/** For a guest that spins and counts: another thread ends the step. */
export async function kickedByThread(rig: Rig, count: () => bigint): Promise<void> {
  // Where there is a word, the thread stores 1 into it; else its message does, an event of this thread's loop.
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    parentPort.postMessage('ready');
    setTimeout(() => {
      if (workerData !== undefined) Atomics.store(workerData, 0, 1);
      parentPort.postMessage('kick');
    }, 50);
  `;
  const worker = new Worker(source, { eval: true, workerData: rig.engine.kickWord });
  await new Promise(resolve => worker.once('message', resolve));
  let kicked = false;
  worker.once('message', () => {
    kicked = true;
  });
  rig.start();
  // The event loop may have something to do before.
  while (!kicked) {
    assert.equal(longStep(rig), 'yield');
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  assert.ok(count() > 0n);
  await worker.terminate();
}

/** For a guest that spins: a timer of the machine's ends the step. */
export function endedByTimer(rig: Rig): void {
  const { clock } = rig.engine;
  let fired = false;
  clock.at(clock.nowNs() + 20e6, () => {
    fired = true;
  });
  rig.start();
  const limit = performance.now() + SOON_MS;
  // An engine may end its steps before that.
  while (!fired && performance.now() < limit) rig.step(1e6);
  assert.ok(fired);
}

/** For a guest that writes to `at` and then spins and counts: stop() ends the step, and every later one. */
export async function stoppedByExit(rig: Rig, at: number, count: () => bigint): Promise<void> {
  rig.onWrite(at, () => rig.engine.stop());
  rig.start();
  assert.equal(await stepToAccess(rig), 'stopped');
  const stopped = count();
  assert.equal(longStep(rig), 'stopped');
  assert.equal(count(), stopped);
}

/** Runs a guest that ends its machine; nothing of it runs afterwards. */
export async function toTheEnd(rig: Rig): Promise<void> {
  rig.start();
  await rig.until('the end of the machine', () => rig.event !== undefined);
  assert.equal(longStep(rig), 'stopped');
}
