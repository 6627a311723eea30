import { IIDR, MSI_IIDR, MSI_SETSPI_NS, MSI_TYPER } from './regs.ts';
import { RegisterFrame } from './wide.ts';

/**
 * A GICv2m frame (Server Base System Architecture, appendix E), 4 KiB: a write of an INTID to MSI_SETSPI_NS pulses that
 * SPI, so the SPI must be configured as edge-triggered. `base` is the first INTID, `count` their number.
 */
export class V2mFrame extends RegisterFrame {
  readonly name = 'GICv2m';

  constructor(
    readonly base: number,
    readonly count: number,
    private readonly pulse: (intid: number) => void,
  ) {
    super();
  }

  /** Raises `intid` if it is one of the frame's. */
  raise(intid: number): void {
    if (intid >= this.base && intid < this.base + this.count) this.pulse(intid);
  }

  protected override read32(offset: number): number {
    if (offset === MSI_TYPER) return (this.base << 16) | this.count;
    return offset === MSI_IIDR ? IIDR : 0;
  }

  protected override write32(offset: number, value: number): void {
    if (offset === MSI_SETSPI_NS) this.raise(value & 0x3ff);
  }
}
