/** A register whose write is an event. */
export interface Doorbell {
  /** Offset in the BAR, bytes. */
  readonly offset: number;
  /** Width of the write, bytes. */
  readonly size: 1 | 2 | 4;
  /** Only writes of this value; undefined: any. */
  readonly value?: number;
  ring(): void;
}

/** What an engine offers for doorbells. Without it, or when it declines, the write reaches the BAR's device. */
export interface DoorbellEvents {
  /** Delivers writes at guest-physical or port `address` to the doorbell until disposed; undefined: not possible. */
  register(space: 'memory' | 'io', address: number, doorbell: Doorbell): Disposable | undefined;
}
