import type { ClockPair, ClockSource } from '../time/types.ts';

/** Who answers the calls of a guest's ptp_kvm driver. */
export interface PtpInfo {
  /** 'kernel': KVM itself; 'tsvisor': we; 'nobody': the guest finds no such clock, or its calls fail. */
  readonly answeredBy: 'kernel' | 'tsvisor' | 'nobody';
  /** Why, for a person; always there for 'nobody'. */
  readonly reason?: string;
  /** Calls that were answered with a time, since the machine was made; where tsvisor answers. */
  readonly calls?: number;
}

/** How a machine's guest gets its time. */
export interface ClockInfo {
  /** 'host' follows the host's clocks, 'virtual' counts instructions. */
  readonly mode: 'host' | 'virtual';
  /** Where the machine's own wall-clock time comes from: that of its real-time clock, and of PTP where tsvisor answers. */
  readonly source: ClockSource;
  /** Error bound of that source now, ns; see ClockPair.errorNs. */
  readonly errorNs: number;
  readonly ptp: PtpInfo;
}

/** How a machine's guest gets its time, with the time itself: one moment. Plain data. */
export interface ClockSample extends ClockInfo {
  /** The host's monotonic time, ns; only differences mean something. */
  readonly nowNs: number;
  /** The machine's own time, ns; see MachineInfo.timeNs. It stands during a pause. */
  readonly timeNs: number;
  /** The wall clock at that moment, CLOCK_REALTIME: ns since 1970. */
  readonly wallNs: bigint;
  /**
   * How far the wall clock has moved against the machine's own time since the guest was started, by create() or a reset, ns: what PTP
   * makes a guest correct that took its time from the real-time clock then. Positive after a pause, or when the host's clock was
   * set forward: the guest is late. A fork is late by what its parent was, and by the time that forking took.
   */
  readonly offsetNs: number;
  /** Error bound of {@link offsetNs}, ns: that of this sample and that of the start together. {@link errorNs} is the sample's alone. */
  readonly offsetErrorNs: number;
}

/**
 * How far wall-clock time has moved against a machine's own time from one moment to another.
 * @returns ns; exact to the ns below 2^53 ns (104 days).
 */
export function clockOffset(start: ClockPair, now: ClockPair): { offsetNs: number; offsetErrorNs: number } {
  return {
    offsetNs: Number(now.wallNs - start.wallNs) - (now.ns - start.ns),
    offsetErrorNs: start.errorNs + now.errorNs,
  };
}
