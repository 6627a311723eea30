import type { PinOwner, Pins } from '../../../memory/pin-types.ts';
import type { DrivenClock } from '../../../time/types.ts';
import { PinnedStruct } from './pinned-struct.ts';
import { type PvclockScale, pvclockScale, ticksToNs } from './pvclock-scale.ts';
import type { Tsc } from './tsc.ts';

/** Linux, Documentation/virt/kvm/x86/msr.rst. Their predecessors 0x11 and 0x12 have a feature bit of their own, which is not set. */
export const MSR_KVM_WALL_CLOCK_NEW = 0x4b56_4d00;
export const MSR_KVM_SYSTEM_TIME_NEW = 0x4b56_4d01;

/** struct pvclock_wall_clock: offsets of its 32-bit fields, in bytes. */
export const PVCLOCK_WALL_CLOCK = { version: 0, sec: 4, nsec: 8, sizeof: 12 } as const;

/** struct pvclock_vcpu_time_info: version and tsc_to_system_mul have 32 bits, the other two longer ones 64, the last two 8. */
export const PVCLOCK_VCPU_TIME_INFO = {
  version: 0,
  pad0: 4,
  tsc_timestamp: 8,
  system_time: 16,
  tsc_to_system_mul: 24,
  tsc_shift: 28,
  flags: 29,
  sizeof: 32,
} as const;

/** Flags: all vCPUs' pages give the same time; the host has stopped the guest for a while (guests clear this one). */
export const PVCLOCK_TSC_STABLE_BIT = 1;
export const PVCLOCK_GUEST_STOPPED = 2;

const ENABLE = 1n;
const PAGE = 4096n;
const NSEC_PER_SEC = 1_000_000_000n;

/** What a machine's kvmclock is made of. */
export interface KvmclockOptions {
  readonly clock: Pick<DrivenClock, 'nowNs' | 'pair'>;
  readonly tsc: Tsc;
  readonly cpus: number;
  readonly pins: Pins;
}

/** What {@link Kvmclock.save} gives: the MSRs, 64 bits each, and what pages are written from. */
export interface KvmclockState {
  readonly wallClock: bigint;
  /** Of each vCPU. */
  readonly systemTime: readonly bigint[];
  readonly reference: KvmclockReference;
}

/** A moment that all pages are written from. */
export interface KvmclockReference {
  /** Of the machine's clock. */
  readonly ns: number;
  /** kvmclock then, ns. */
  readonly systemTime: bigint;
}

/**
 * kvmclock: the machine's own time, in pages that guests read with their TSC and without an exit (specification of ptp, 2.2 and EMU-X2 to
 * EMU-X6; msr.rst). All pages are written from one reference, as KVM's are with its master clock: what a guest computes is a little slow
 * or fast (see pvclockScale()), so with references of their own, two vCPUs would see different times.
 *
 * A page that cannot be written, because there is no RAM, is left alone and tried again the next time; guests are not told, as by KVM.
 */
export class Kvmclock {
  readonly #clock: Pick<DrivenClock, 'nowNs' | 'pair'>;
  readonly #tsc: Tsc;
  readonly #pins: Pins;
  readonly #owner: PinOwner;
  readonly #scale: PvclockScale;
  #reference: KvmclockReference;
  #wallClock = 0n;
  readonly #systemTime: bigint[];

  constructor({ clock, tsc, cpus, pins }: KvmclockOptions) {
    this.#clock = clock;
    this.#tsc = tsc;
    this.#pins = pins;
    this.#owner = pins.owner('kvmclock');
    this.#scale = pvclockScale(tsc.hz);
    const ns = Math.floor(clock.nowNs());
    this.#reference = { ns, systemTime: BigInt(ns) };
    this.#systemTime = new Array<bigint>(cpus).fill(0n);
    tsc.onChange(() => this.#updateAll(0));
  }

  /** RDMSR. undefined: no register of ours, #GP(0). */
  read(cpu: number, msr: number): bigint | undefined {
    if (msr === MSR_KVM_WALL_CLOCK_NEW) return this.#wallClock;
    return msr === MSR_KVM_SYSTEM_TIME_NEW ? this.#systemTime[cpu] : undefined;
  }

  /**
   * WRMSR of 64 bits. false: no register of ours, #GP(0). msr.rst wants addresses to be multiples of 4, which KVM does not check, and so
   * neither do we: it writes wherever it is told to, but for a page of system time that crosses a page of memory (pfncache.c,
   * kvm_gpc_refresh()), and a wall clock at 0 (x86.c, kvm_write_wall_clock()). The MSR has the value then, too.
   */
  write(cpu: number, msr: number, value: bigint): boolean {
    if (msr === MSR_KVM_WALL_CLOCK_NEW) {
      this.#wallClock = value;
      this.#writeWallClock();
    } else if (msr === MSR_KVM_SYSTEM_TIME_NEW) {
      this.#systemTime[cpu] = value;
      this.update(cpu);
    } else return false;
    return true;
  }

  /** kvmclock at `ns` of the machine's clock, as guests read it, in ns. */
  timeAt(ns: number): bigint {
    const from = this.#reference;
    const ticks = BigInt.asUintN(64, this.#tsc.countAt(ns) - this.#tsc.countAt(from.ns));
    return from.systemTime + ticksToNs(ticks, this.#scale);
  }

  /** Writes a vCPU's page again, if its guest has one: for a vCPU that is about to run after it has not for a while (EMU-X4). */
  update(cpu: number): void {
    this.#writeSystemTime(cpu, 0);
  }

  /**
   * The machine has been stopped, or comes from a snapshot, and no vCPU runs yet (EMU-X6). Its clock goes on where it was; guests are
   * told, so that their watchdogs forgive them, as by KVM_KVMCLOCK_CTRL (api.rst 4.74).
   */
  resumed(): void {
    const ns = Math.floor(this.#clock.nowNs());
    const seen = this.timeAt(ns);
    // What a slow page has lost is made up for; a guest is never taken back.
    this.#reference = { ns, systemTime: seen > BigInt(ns) ? seen : BigInt(ns) };
    this.#updateAll(PVCLOCK_GUEST_STOPPED);
  }

  /** The machine's reset: no page is written any more. */
  reset(): void {
    this.#wallClock = 0n;
    this.#systemTime.fill(0n);
  }

  save(): KvmclockState {
    return { wallClock: this.#wallClock, systemTime: [...this.#systemTime], reference: this.#reference };
  }

  /** The state of a machine whose memory and clock this one has; {@link resumed} follows. */
  restore({ wallClock, systemTime, reference }: KvmclockState): void {
    this.#wallClock = wallClock;
    this.#reference = reference;
    for (const [cpu, value] of systemTime.entries()) this.#systemTime[cpu] = value;
  }

  #updateAll(flags: number): void {
    for (const cpu of this.#systemTime.keys()) this.#writeSystemTime(cpu, flags);
  }

  #writeSystemTime(cpu: number, flags: number): void {
    const msr = this.#systemTime[cpu]!;
    const gpa = msr & ~ENABLE;
    const F = PVCLOCK_VCPU_TIME_INFO;
    if ((msr & ENABLE) === 0n || (gpa % PAGE) + BigInt(F.sizeof) > PAGE) return;
    using page = PinnedStruct.pin(this.#pins, this.#owner, gpa, F.sizeof);
    if (page === undefined) return;
    // The last word: tsc_shift, flags, and two bytes of padding.
    const stopped = (page.u32(F.tsc_shift) >>> 8) & PVCLOCK_GUEST_STOPPED;
    const stable = this.#tsc.synchronized ? PVCLOCK_TSC_STABLE_BIT : 0;
    const last = (this.#scale.shift & 0xff) | ((flags | stopped | stable) << 8);
    const timestamp = this.#tsc.at(cpu, this.#reference.ns);
    update(page, () => {
      page.setU32(F.pad0, 0);
      page.setU64(F.tsc_timestamp, timestamp);
      page.setU64(F.system_time, this.#reference.systemTime);
      page.setU32(F.tsc_to_system_mul, this.#scale.mul);
      page.setU32(F.tsc_shift, last);
    });
  }

  /** Wall-clock time when kvmclock was 0: a guest adds the two. KVM writes it once for each write of the MSR, and never again. */
  #writeWallClock(): void {
    const F = PVCLOCK_WALL_CLOCK;
    if (this.#wallClock === 0n) return;
    using page = PinnedStruct.pin(this.#pins, this.#owner, this.#wallClock, F.sizeof);
    if (page === undefined) return;
    const { wallNs, ns } = this.#clock.pair();
    const epoch = BigInt.asUintN(64, wallNs - this.timeAt(ns));
    update(page, () => {
      page.setU32(F.sec, Number(BigInt.asUintN(32, epoch / NSEC_PER_SEC)));
      page.setU32(F.nsec, Number(epoch % NSEC_PER_SEC));
    });
  }
}

/** Both structures begin with a version, which is odd while the rest is being written. */
function update(page: PinnedStruct, body: () => void): void {
  const version = (page.u32(0) + 1) | 1;
  page.setU32(0, version);
  body();
  page.setU32(0, version + 1);
}
