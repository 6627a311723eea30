import type { ClockSource } from '../time/types.ts';

/** Who answers the calls of a guest's ptp_kvm driver. */
export interface PtpInfo {
  /** 'kernel': KVM itself; 'tsvisor': we; 'nobody': the guest finds no such clock, or its calls fail. */
  readonly answeredBy: 'kernel' | 'tsvisor' | 'nobody';
  /** Why, for a person; always there for 'nobody'. */
  readonly reason?: string;
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
