import type { GuestMemory } from '../../src/memory/types.ts';

// A guest's side of kvmclock, by Linux's Documentation/virt/kvm/x86/msr.rst and the specification of ptp, 2.2. Nothing of ours is in it.

/** A page of system time as a guest finds it. */
export interface GuestTimeInfo {
  readonly version: number;
  readonly tscTimestamp: bigint;
  readonly systemTime: bigint;
  readonly mul: number;
  readonly shift: number;
  readonly flags: number;
  /** Bytes 4 to 7, and 30 and 31. */
  readonly padding: readonly number[];
}

export function readTimeInfo(memory: GuestMemory, gpa: number): GuestTimeInfo {
  return {
    version: memory.u32(gpa),
    tscTimestamp: memory.u64(gpa + 8),
    systemTime: memory.u64(gpa + 16),
    mul: memory.u32(gpa + 24),
    shift: (memory.u8(gpa + 28) << 24) >> 24,
    flags: memory.u8(gpa + 29),
    padding: [4, 5, 6, 7, 30, 31].map(at => memory.u8(gpa + at)),
  };
}

/** kvmclock at a value of the TSC, ns. */
export function guestTime({ tscTimestamp, systemTime, mul, shift }: GuestTimeInfo, tsc: bigint): bigint {
  let delta = BigInt.asUintN(64, tsc - tscTimestamp);
  delta = shift < 0 ? delta >> BigInt(-shift) : BigInt.asUintN(64, delta << BigInt(shift));
  return systemTime + ((delta * BigInt(mul)) >> 32n);
}

/** The frequency of the TSC, kHz, which a guest uses instead of measuring it. */
export function guestTscKhz({ mul, shift }: Pick<GuestTimeInfo, 'mul' | 'shift'>): bigint {
  const khz = (1_000_000n << 32n) / BigInt(mul);
  return shift < 0 ? khz << BigInt(-shift) : khz >> BigInt(shift);
}

/** A wall-clock page: its version, and the time, ns since 1970, at which kvmclock was 0. */
export function readWallClock(memory: GuestMemory, gpa: number): { readonly version: number; readonly ns: bigint } {
  return { version: memory.u32(gpa), ns: BigInt(memory.u32(gpa + 4)) * 1_000_000_000n + BigInt(memory.u32(gpa + 8)) };
}
