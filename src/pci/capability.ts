import type { ConfigSpace } from './config-space.ts';

/** What a capability may ask of its function. */
export interface CapabilityHost {
  readonly name: string;
  readonly config: ConfigSpace;
  /** Something that decides about interrupts has changed (an enable bit, a mask): the function looks again. */
  interruptsChanged(): void;
  /** Something that decides about decoding or bus mastering has changed (a power state). */
  decodeChanged(): void;
  /** Sends a message-signalled interrupt, if the function may; `data` is 32 bits. */
  sendMessage(address: number, data: number): void;
  /** Resets the function as an FLR does. */
  functionReset(): void;
}

/** One entry of the capability list at 0x34, or of the extended list at 0x100. */
export interface Capability {
  readonly id: number;
  /** Bytes with the header (2 bytes, or 4 of an extended one). */
  readonly size: number;
  /** Version field of an extended capability's header; undefined: a conventional capability. */
  readonly extendedVersion?: number | undefined;
  /** Defines the registers behind the header, which starts at `offset`. Called once, while the function is made. */
  install(host: CapabilityHost, offset: number): void;
  /** The configuration bytes are back to their initial values: state beyond them follows. */
  reset?(): void;
  /** State beyond the configuration bytes, as plain data; and such state back, when the bytes are there already. */
  save?(): unknown;
  restore?(state: unknown): void;
  /** The function has been put on the root bus, or below a port (EXP-1). */
  placed?(belowPort: boolean): void;
}
