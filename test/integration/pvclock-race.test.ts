// A page of kvmclock is written while a guest reads it on another thread. A longer race: PVCLOCK_RACE_UPDATES=1500000.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { Kvmclock, MSR_KVM_SYSTEM_TIME_NEW } from '../../src/devices/kvm-hypervisor/x86/kvmclock.ts';
import { Tsc } from '../../src/devices/kvm-hypervisor/x86/tsc.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import { createVirtualClock } from '../../src/time/virtual-clock.ts';

const UPDATES = Number(process.env.PVCLOCK_RACE_UPDATES ?? 100_000);
/** Reads of different times, and reads that were disturbed, which the guest has to have had before the race may end. */
const READS = 2000;
const RETRIES = 100;
/** Updates before the test gives up on a guest that does not get there. */
const LIMIT = 2_000_000;
/** ns from one update to the next: both halves of 64 bits change, and LIMIT of them are exact in a double. */
const STEP = 0x1_0000_0007;

const GPA = 0x40;
const [READ, RETRIED, END] = [0, 1, 2];

it(`EMU-X4: a guest never finds a torn page, and does find time (${UPDATES} updates)`, async () => {
  const buffer = new SharedArrayBuffer(4096);
  const memory = createGuestMemory([{ base: 0, size: 4096, kind: 'ram', bytes: new Uint8Array(buffer) }]);
  const clock = createVirtualClock({ startWall: 0n });
  const tsc = new Tsc({ hz: 1_000_000_000, cpus: 1, clock });
  const kvmclock = new Kvmclock({ clock, tsc, cpus: 1, pins: new PinTable({ memory }) });
  kvmclock.write(0, MSR_KVM_SYSTEM_TIME_NEW, BigInt(GPA) | 1n);
  const control = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(new URL('./fixtures/pvclock-reader.mjs', import.meta.url), {
    workerData: { memory: buffer, control, gpa: GPA },
    execArgv: [],
  });
  try {
    expect(await once(worker, 'message')).toEqual(['ready']);
    const answer = once(worker, 'message') as Promise<[{ errors: string[]; flags: number }]>;
    answer.catch(() => undefined);
    let updates = 0;
    const enough = () => Atomics.load(control, READ) >= READS && Atomics.load(control, RETRIED) >= RETRIES;
    for (; updates < UPDATES || (!enough() && updates < LIMIT); updates++) {
      clock.advanceTo(clock.nowNs() + STEP);
      // The flags change, too: a guest clears GUEST_STOPPED.
      if (updates % 3 === 0) memory.setU8(GPA + 29, memory.u8(GPA + 29) & ~2);
      if (updates % 3 === 1) kvmclock.resumed();
      else kvmclock.update(0);
      // Between two updates there is time for a read, more or less of it.
      for (let spin = (updates % 64) * 16; spin > 0; spin--) Atomics.load(control, END);
    }
    Atomics.store(control, END, 1);
    const [{ errors, flags }] = await answer;
    expect(errors).toEqual([]);
    const [reads, retries] = [control[READ]!, control[RETRIED]!];
    expect([reads >= READS, retries >= RETRIES, flags]).toEqual([true, true, 2]);
    console.log(`pvclock race: ${updates} updates; ${reads} different times read, ${retries} reads disturbed`);
  } finally {
    await worker.terminate();
  }
});
