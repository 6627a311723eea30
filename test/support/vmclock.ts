import * as R from '../../src/devices/vmclock/regs.ts';

/** The fields of a VM clock's page that tests look at. */
export interface VmClockReading {
  readonly magic: number;
  readonly size: number;
  readonly version: number;
  readonly counterId: number;
  readonly timeType: number;
  readonly seqCount: number;
  readonly disruptionMarker: bigint;
  readonly flags: bigint;
  readonly clockStatus: number;
  readonly counterValue: bigint;
  readonly timeSec: bigint;
  readonly timeMaxErrorNs: bigint;
  readonly vmGenerationCounter: bigint;
}

/** Reads a page that nobody writes meanwhile. */
export function readVmClock(page: Uint8Array): VmClockReading {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const u32 = (at: number) => view.getUint32(at, true);
  const u64 = (at: number) => view.getBigUint64(at, true);
  return {
    magic: u32(R.MAGIC),
    size: u32(R.SIZE),
    version: view.getUint16(R.VERSION, true),
    counterId: view.getUint8(R.COUNTER_ID),
    timeType: view.getUint8(R.TIME_TYPE),
    seqCount: u32(R.SEQ_COUNT),
    disruptionMarker: u64(R.DISRUPTION_MARKER),
    flags: u64(R.FLAGS),
    clockStatus: view.getUint8(R.CLOCK_STATUS),
    counterValue: u64(R.COUNTER_VALUE),
    timeSec: u64(R.TIME_SEC),
    timeMaxErrorNs: u64(R.TIME_MAXERROR_NANOSEC),
    vmGenerationCounter: u64(R.VM_GENERATION_COUNTER),
  };
}

/**
 * The time that a guest computes from a page when its counter is at `counter`, ns: UAPI.13 VMClock, "Calculating time", in the
 * integers that Linux's driver uses (128 bits, each step rounded down).
 */
export function guestTime(page: Uint8Array, counter: bigint): bigint {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const u64 = (at: number) => view.getBigUint64(at, true);
  const ticks = BigInt.asUintN(64, counter - u64(R.COUNTER_VALUE));
  const passed = (ticks * u64(R.COUNTER_PERIOD_FRAC_SEC)) >> BigInt(view.getUint8(R.COUNTER_PERIOD_SHIFT));
  const fraction = passed + u64(R.TIME_FRAC_SEC);
  const seconds = u64(R.TIME_SEC) + (fraction >> 64n);
  return seconds * 1_000_000_000n + ((BigInt.asUintN(64, fraction) * 1_000_000_000n) >> 64n);
}
