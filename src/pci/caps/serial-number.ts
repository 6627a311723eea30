import { upper32 } from '../../util/words.ts';
import type { Capability, CapabilityHost } from '../capability.ts';
import { EXT_CAP_ID_DSN } from '../regs.ts';

/** The Device Serial Number extended capability (PCI Express Base 4.0 section 7.9.3). */
export class SerialNumberCapability implements Capability {
  readonly id = EXT_CAP_ID_DSN;
  readonly size = 12;
  readonly extendedVersion = 1;

  /** @param serial an EUI-64, 64 bits. */
  constructor(readonly serial: bigint) {}

  install({ config }: CapabilityHost, offset: number): void {
    config.define(offset + 4, 4, Number(BigInt.asUintN(32, this.serial)));
    config.define(offset + 8, 4, upper32(this.serial));
  }
}
