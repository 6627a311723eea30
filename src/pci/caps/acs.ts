import type { Capability, CapabilityHost } from '../capability.ts';
import { EXT_CAP_ID_ACS } from '../regs.ts';

const CAPABILITY = 4;
const CONTROL = 6;
/** Source validation, translation blocking, request and completion redirect, upstream forwarding, direct translated. */
const PORT = 0x005f;

/**
 * Access Control Services of a root port (PCI Express Base 4.0 section 7.7.7). Functions here reach RAM and interrupt
 * controllers only, never each other, so the isolation that a guest asks for is there before it asks; the registers let the
 * guest's VFIO put each device into an IOMMU group of its own.
 */
export class AcsCapability implements Capability {
  readonly id = EXT_CAP_ID_ACS;
  readonly size = 8;
  readonly extendedVersion = 1;

  install({ config }: CapabilityHost, offset: number): void {
    config.define(offset + CAPABILITY, 2, PORT);
    config.define(offset + CONTROL, 2, 0, PORT);
  }
}
