// Runs one benchmark program on the emulated engine in this process and prints one line of JSON: what the guest printed,
// instructions retired and the time that took. A process of its own for each run, so that none profits from another.
import { readFileSync } from 'node:fs';
import { createMachine } from '../../src/machine/create.ts';

/** What this program prints. */
export interface GuestRun {
  readonly console: string;
  readonly reason: string;
  readonly instructions: number;
  readonly wallMs: number;
}

const [image, params = ''] = process.argv.slice(2);
let console_ = '';
let reason = '';
const machine = await createMachine(
  {
    machine: 'arm-virt',
    engine: 'emu',
    kernel: readFileSync(image!),
    initrd: undefined,
    params,
    memoryBytes: 256 << 20,
    cpus: 1,
    clock: 'host',
    gic: 3,
    trace: [],
    devices: [],
    pciSlots: 0,
  },
  {
    console: bytes => {
      console_ += Buffer.from(bytes).toString('latin1');
    },
    exit: (why, detail) => {
      reason = detail === undefined ? why : `${why}: ${detail}`;
    },
    log: line => process.stderr.write(`${line}\n`),
  },
);
const start = performance.now();
while (machine.step() !== 'stopped') {
  // The programs never wait.
}
const run: GuestRun = {
  console: console_,
  reason,
  instructions: machine.info().instructions ?? 0,
  wallMs: performance.now() - start,
};
process.stdout.write(`${JSON.stringify(run)}\n`);
