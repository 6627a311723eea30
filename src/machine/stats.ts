import type { VcpuCounters } from '../engines/engine.ts';
import type { AccessStats } from './exit-meter.ts';

export type { VcpuCounters } from '../engines/engine.ts';

/** What one vCPU has done so far. */
export interface VcpuStats {
  readonly id: number;
  readonly state: 'on' | 'off' | 'idle';
  /** Instructions retired since the last reset; undefined where nobody counts them (KVM). */
  readonly instructions: number | undefined;
  /** Where its time went since the last reset; undefined on the emulated engine, where it runs in {@link ThreadStats.runNs}. */
  readonly counters: VcpuCounters | undefined;
}

/** Where the time of the machine's thread went, ns. What is left is the event loop: files, sockets, timers, messages. */
export interface ThreadStats {
  /** In the engine, since the start: the guest and its exits, and on KVM waiting for either. */
  readonly runNs: number;
  /** Of that, answers to exits, since the stats were asked for the first time. */
  readonly exitNs: number;
  /** Asleep, since the start. */
  readonly idleNs: number;
}

/** What a machine has counted. Plain data; numbers only grow, but for those of vCPUs, which begin anew at a reset. */
export interface MachineStats {
  /** The host's monotonic time of this sample, ns; only differences mean something. */
  readonly nowNs: number;
  readonly vcpus: readonly VcpuStats[];
  readonly thread: ThreadStats;
  /**
   * Accesses to devices since the stats were asked for the first time. Accesses that the kernel answers (KVM's interrupt controllers,
   * doorbells by ioeventfd) are no exits.
   */
  readonly accesses: readonly AccessStats[];
}
