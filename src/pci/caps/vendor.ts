import type { Capability, CapabilityHost } from '../capability.ts';
import type { ConfigWindow } from '../config-space.ts';
import { CAP_ID_VENDOR } from '../regs.ts';

/** Behind id and next pointer: the capability's length, then what the vendor wants. */
const LENGTH = 2;
const BODY = 3;

/** Options of {@link VendorCapability}. */
export interface VendorOptions {
  /** Bits that a guest may write, for each byte of the body; default: none. */
  readonly writable?: Uint8Array;
  /** Bytes that something else answers. */
  readonly window?: {
    /** From the capability's start, bytes. */
    readonly offset: number;
    /** Bytes. */
    readonly length: number;
    readonly window: ConfigWindow;
  };
}

/** A vendor-specific capability (PCI Local Bus 3.0 appendix H), such as the ones that describe virtio's registers. */
export class VendorCapability implements Capability {
  readonly id = CAP_ID_VENDOR;
  readonly size: number;
  readonly #initial: Uint8Array;
  readonly #options: VendorOptions;
  #bytes: Uint8Array | undefined;

  /** @param body what follows the length byte, at most 188 bytes. */
  constructor(body: Uint8Array, options: VendorOptions = {}) {
    this.size = BODY + body.length;
    this.#initial = body.slice();
    this.#options = options;
  }

  /** The body as the guest has written it: a view of the configuration space. */
  get body(): Uint8Array {
    return this.#bytes ?? this.#initial;
  }

  install({ config }: CapabilityHost, offset: number): void {
    config.define(offset + LENGTH, 1, this.size);
    const { writable, window } = this.#options;
    for (const [i, value] of this.#initial.entries()) config.define(offset + BODY + i, 1, value, writable?.[i] ?? 0);
    this.#bytes = config.bytes.subarray(offset + BODY, offset + this.size);
    if (window !== undefined) config.window(offset + window.offset, window.length, window.window);
  }
}
