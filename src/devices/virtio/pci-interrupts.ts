import { MsixCapability } from '../../pci/caps/msix.ts';
import type { PciFunction } from '../../pci/function.ts';
import { ISR_CONFIG, ISR_QUEUE, MSIX_BAR, VIRTIO_MSI_NO_VECTOR } from './pci-regs.ts';

/** Vectors and ISR status. */
export interface VirtioInterruptsState {
  readonly queues: readonly number[];
  readonly config: number;
  readonly isr: number;
}

/**
 * The interrupts of a virtio function (sections 4.1.4.5 and 4.1.5): messages by the vectors that the driver has mapped the
 * events to while MSI-X is enabled, INTx and ISR status otherwise.
 */
export class VirtioInterrupts {
  /** A vector for each queue and one for the configuration. */
  readonly msix: MsixCapability;
  readonly #queueVectors: Uint16Array;
  #configVector = VIRTIO_MSI_NO_VECTOR;
  #isr = 0;
  #function: PciFunction | undefined;

  constructor(queues: number) {
    this.msix = new MsixCapability(queues + 1, MSIX_BAR);
    this.#queueVectors = new Uint16Array(queues).fill(VIRTIO_MSI_NO_VECTOR);
  }

  /** Connects the INTx pin. */
  connect(f: PciFunction): void {
    this.#function = f;
  }

  get configVector(): number {
    return this.#configVector;
  }

  /** A vector that does not exist reads back as NO_VECTOR: the mapping has failed (section 4.1.5.1.2.1). */
  set configVector(value: number) {
    this.#configVector = this.#existing(value);
  }

  queueVector(index: number): number {
    return this.#queueVectors[index] ?? VIRTIO_MSI_NO_VECTOR;
  }

  setQueueVector(index: number, value: number): void {
    if (index < this.#queueVectors.length) this.#queueVectors[index] = this.#existing(value);
  }

  interruptQueue(index: number): void {
    if (this.msix.enabled) this.#send(this.queueVector(index));
    else this.#assert(ISR_QUEUE);
  }

  interruptConfig(): void {
    if (!this.msix.enabled) this.#assert(ISR_CONFIG);
    else {
      // Section 4.1.4.5.1 wants this bit with messages, too; the pin stays as it is.
      this.#isr |= ISR_CONFIG;
      this.#send(this.#configVector);
    }
  }

  /** Reading ISR status clears it and lets go of the pin (INTX-1). */
  readIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    this.#function?.setIntx(false);
    return isr;
  }

  save(): VirtioInterruptsState {
    return { queues: [...this.#queueVectors], config: this.#configVector, isr: this.#isr };
  }

  /** The pin's level is the function's to restore. */
  restore(s: VirtioInterruptsState): void {
    this.#queueVectors.set(s.queues);
    this.#configVector = s.config;
    this.#isr = s.isr;
  }

  /** The device has been reset: nothing is pending, and nothing is mapped. */
  reset(): void {
    this.readIsr();
    this.#configVector = VIRTIO_MSI_NO_VECTOR;
    this.#queueVectors.fill(VIRTIO_MSI_NO_VECTOR);
  }

  #existing(vector: number): number {
    return vector < this.msix.vectors ? vector : VIRTIO_MSI_NO_VECTOR;
  }

  #send(vector: number): void {
    if (vector !== VIRTIO_MSI_NO_VECTOR) this.msix.trigger(vector);
  }

  #assert(bit: number): void {
    this.#isr |= bit;
    this.#function?.setIntx(true);
  }
}
