import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createMachine } from '../../src/machine/create.ts';
import type { Machine, MachineConfig } from '../../src/machine/machine.ts';
import { debian } from '../e2e/debian.ts';
import { installPtpReads, ptpReadsProgram, readPtp } from '../support/ptp-reads.ts';

// Accuracy does not depend on the speed of the emulation. The machine runs in this process, so that it can be slowed down here.

const program = ptpReadsProgram('aarch64');
const READS = 2000;
/** Far less than a slice of the interpreter takes, ns. A host whose clock is less exact says so (ClockInfo.errorNs). */
const LIMIT_NS = 20_000;

/** A machine at its shell, stepped by whoever waits for its console. */
class SlowGuest implements AsyncDisposable {
  /** For each ms that the guest runs the host takes as many; 1 is as fast as it can. */
  slowness = 1;
  /** Time of the host in the guest, and all of it but what the guest idles away, ms. */
  readonly spent = { running: 0, total: 0 };
  readonly machine: Machine;
  #text = '';
  #commands = 0;

  private constructor(machine: Machine) {
    this.machine = machine;
  }

  static async boot(config: Pick<MachineConfig, 'kernel' | 'initrd' | 'cpus'>): Promise<SlowGuest> {
    let print = (_: string) => {};
    const machine = await createMachine(
      {
        machine: 'arm-virt',
        engine: 'emu',
        params: 'console=ttyAMA0 panic=-1 quiet',
        memoryBytes: 256 << 20,
        clock: 'host',
        gic: 3,
        trace: [],
        devices: [],
        pciSlots: 0,
        ...config,
      },
      { console: bytes => print(Buffer.from(bytes).toString('latin1')), exit: () => {}, log: () => {} },
    );
    const guest = new SlowGuest(machine);
    print = text => {
      guest.#text += text;
    };
    await guest.#until(/~ # /);
    return guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.close();
  }

  /** What a command prints. */
  async run(command: string): Promise<string> {
    const n = ++this.#commands;
    this.#text = '';
    // In what is echoed the mark has quotes in its middle.
    let bytes = Buffer.from(`{ ${command}\n}; echo "<<""${n}>>"\n`);
    while (bytes.length > 0) {
      bytes = bytes.subarray(this.machine.consoleInput(bytes));
      this.#step();
    }
    await this.#until(new RegExp(`<<${n}>>`));
    return this.#text;
  }

  async #until(pattern: RegExp): Promise<void> {
    // Far more steps than any command takes.
    for (let steps = 0; !pattern.test(this.#text); steps++) {
      if (steps > 1_000_000) throw new Error(`the guest does not say ${pattern}: ${this.#text}`);
      if (this.#step() === 'idle') await sleep(Math.min(this.machine.idleMs(), 10));
    }
  }

  #step(): string {
    const began = performance.now();
    const state = this.machine.step();
    if (state === 'stopped') throw new Error(`the guest has ended: ${this.#text}`);
    const running = performance.now() - began;
    const pause = running * (this.slowness - 1);
    if (pause > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
    this.spent.running += running;
    this.spent.total += performance.now() - began;
    return state;
  }
}

it('ACC-4: 2000 precise reads are as exact on an emulation that is ten times as slow', async ({ skip }) => {
  const image = await debian();
  if (typeof image === 'string') return skip(image);
  if (typeof program === 'string') return skip(program);
  const [kernel, initrd] = await Promise.all([readFile(image.kernel), readFile(image.initrd)]);
  await using guest = await SlowGuest.boot({ kernel, initrd, cpus: 2 });
  await installPtpReads(guest, program);

  for (const slowness of [1, 10]) {
    guest.slowness = slowness;
    Object.assign(guest.spent, { running: 0, total: 0 });
    const reads = await readPtp(guest, READS);
    const { running, total } = guest.spent;
    const limit = Math.max(LIMIT_NS, 2 * guest.machine.info().clock.errorNs);
    console.log(
      `${slowness} times as slow: ${Math.round(running)} of ${Math.round(total)} ms in the guest, 99 % of the reads within ${reads.jitter} ns`,
    );
    expect(reads).toMatchObject({ reads: READS, einval: 0, other: 0, monotonic: true });
    expect(reads.jitter).toBeLessThan(limit);
    // It has been as slow as it says.
    expect(total / running).toBeGreaterThan(0.9 * slowness);
  }
});
