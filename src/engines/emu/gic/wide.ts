import type { AccessSize, BusDevice } from '../../../bus/types.ts';
import { upper32 } from '../../../util/words.ts';

/** The 32-bit half of a 64-bit register that `offset` names. */
export function half(register: bigint, offset: number): number {
  return offset & 4 ? upper32(register) : Number(BigInt.asUintN(32, register));
}

/** `register` with the half that `offset` names replaced. */
export function withHalf(register: bigint, offset: number, value: number): bigint {
  const v = BigInt(value >>> 0);
  return offset & 4 ? BigInt.asUintN(32, register) | (v << 32n) : ((register >> 32n) << 32n) | v;
}

/** JSON has no bigint: a 64-bit register as a hexadecimal string. */
export const toHex = (register: bigint): string => `0x${register.toString(16)}`;

/**
 * A register frame as the GIC's are: 32-bit registers, some 64-bit ones that also take 32-bit accesses to their
 * halves (IHI 0069 section 12.1.3). Misaligned and narrower accesses are RAZ/WI unless a subclass says otherwise.
 */
export abstract class RegisterFrame implements BusDevice {
  abstract readonly name: string;
  protected abstract read32(offset: number): number;
  protected abstract write32(offset: number, value: number): void;

  /** The 64-bit register at `offset` (a multiple of 8), undefined when there is none. */
  protected readWide(_offset: number): bigint | undefined {
    return undefined;
  }

  /** Writes the 64-bit register at `offset` (a multiple of 8) if there is one. */
  protected writeWide(_offset: number, _value: bigint): void {}

  /** 8-bit and 16-bit accesses. */
  protected readNarrow(_offset: number, _size: 1 | 2): number {
    return 0;
  }

  protected writeNarrow(_offset: number, _size: 1 | 2, _value: number): void {}

  read(offset: number, size: AccessSize): number {
    if (size !== 4) return this.readNarrow(offset, size);
    if (offset & 3) return 0;
    const wide = this.readWide(offset & ~7);
    return wide === undefined ? this.read32(offset) >>> 0 : half(wide, offset);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 4) {
      this.writeNarrow(offset, size, value);
      return;
    }
    if (offset & 3) return;
    const wide = this.readWide(offset & ~7);
    if (wide === undefined) this.write32(offset, value >>> 0);
    else this.writeWide(offset & ~7, withHalf(wide, offset, value));
  }

  read64(offset: number): bigint {
    if (offset & 7) return 0n;
    return this.readWide(offset) ?? BigInt(this.read(offset, 4)) | (BigInt(this.read(offset + 4, 4)) << 32n);
  }

  write64(offset: number, value: bigint): void {
    if (offset & 7) return;
    if (this.readWide(offset) !== undefined) {
      this.writeWide(offset, BigInt.asUintN(64, value));
      return;
    }
    this.write(offset, 4, half(value, 0));
    this.write(offset + 4, 4, half(value, 4));
  }
}
