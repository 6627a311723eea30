/** A level-triggered wire into an interrupt controller. */
export interface InterruptLine {
  set(level: boolean): void;
}

/** What a device writes to raise a message-signalled interrupt. */
export interface MsiMessage {
  /** Guest-physical doorbell address. */
  readonly address: number;
  readonly data: number;
  /** Requester id for controllers that translate (GICv3 ITS). */
  readonly deviceId?: number;
}

/** The machine's interrupt controller as devices see it. */
export interface InterruptController {
  /** A shared peripheral interrupt wire; `gsi` counts from 0 (GIC: INTID 32 + gsi). */
  line(gsi: number): InterruptLine;
  /** Delivers a message; false when its address is no doorbell of this controller. */
  signalMsi(m: MsiMessage): boolean;
  reset(): void;
  save(): unknown;
  restore(state: unknown): void;
}
