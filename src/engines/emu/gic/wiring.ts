import type { InterruptLine } from '../../../irq/types.ts';
import { VmError } from '../../../util/errors.ts';
import type { CpuInterruptWires } from '../../engine.ts';

/** nIRQ and nFIQ of every CPU; the wires hear of changes only. */
export class InterruptSignals {
  /** Bit 0 IRQ, bit 1 FIQ; -1: not told yet. */
  readonly #last: Int8Array;

  constructor(
    cpus: number,
    private readonly wires: CpuInterruptWires,
  ) {
    this.#last = new Int8Array(cpus);
  }

  set(cpu: number, signals: number): void {
    if (this.#last[cpu] === signals) return;
    this.#last[cpu] = signals;
    this.wires.setIrq(cpu, (signals & 1) !== 0, (signals & 2) !== 0);
  }

  /** The wires may hold anything: the next set() tells them. */
  forget(): void {
    this.#last.fill(-1);
  }
}

/** @throws VmError ERR_USAGE for a number of CPUs or SPIs that a GIC cannot have. */
export function checkConfig(cpus: number, spis: number): void {
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 8) {
    throw new VmError('ERR_USAGE', `an interrupt controller for ${cpus} CPUs`, { hint: 'Use 1 to 8 CPUs.' });
  }
  if (!Number.isInteger(spis) || spis < 32 || spis > 960 || spis % 32 !== 0) {
    throw new VmError('ERR_USAGE', `an interrupt controller with ${spis} shared interrupts`, {
      hint: 'Use a multiple of 32 from 32 to 960.',
    });
  }
}

/** @throws VmError ERR_USAGE when there is no SPI `gsi`. */
export function spiLine(gsi: number, spis: number, set: (level: boolean) => void): InterruptLine {
  if (!Number.isInteger(gsi) || gsi < 0 || gsi >= spis) {
    throw new VmError('ERR_USAGE', `interrupt ${gsi} of a controller with ${spis} shared interrupts`, {
      hint: `Use 0 to ${spis - 1}.`,
    });
  }
  return { set };
}
