import { setTimeout as sleep } from 'node:timers/promises';
import { askVm, latencyPercentile, onlyVm, parseDuration, VmError, type VmStats } from '../vmm/index.ts';
import { openScreen } from './screen.ts';
import { formatTop } from './top-format.ts';

/** Options of the verb. */
export interface TopCommandOptions {
  readonly json?: boolean;
  readonly once?: boolean;
  /** Time between two samples, as the library's durations. */
  readonly interval?: string;
}

/** What a vCPU did in an interval; shares are of the interval, 0 to 1. */
export interface TopVcpu {
  readonly id: number;
  readonly state: 'on' | 'off' | 'idle';
  /** Millions of instructions per second; the emulated engine counts them. */
  readonly mips: number | undefined;
  /** On KVM: exits that were answered here, time inside the guest or halted, and time waiting for answers. */
  readonly exitsPerSecond: number | undefined;
  readonly guest: number | undefined;
  readonly wait: number | undefined;
}

/** Use of one register in an interval. */
export interface TopAccess {
  readonly space: 'memory' | 'port' | 'hypercall';
  readonly device: string;
  readonly offset: number | undefined;
  readonly readsPerSecond: number;
  readonly writesPerSecond: number;
  /** How long the answers took, ns; the percentile is an upper bound, exact to 19 %. */
  readonly meanNs: number;
  readonly p99Ns: number;
}

/** What happened between two samples of a VM's stats. */
export interface TopSample {
  readonly name: string;
  readonly engine: 'emu' | 'kvm';
  readonly state: VmStats['state'];
  /** ns. */
  readonly interval: number;
  readonly exitsPerSecond: number;
  /** Shares of the machine's thread, together 1. With several vCPUs on KVM guests run on other threads. */
  readonly thread: {
    readonly guest: number;
    readonly exits: number;
    readonly eventLoop: number;
    readonly idle: number;
  };
  readonly vcpus: readonly TopVcpu[];
  /** Those that were used, the busiest first. */
  readonly accesses: readonly TopAccess[];
}

/**
 * `tsvisor top [NAME]`: what a running VM does, again and again until it ends, `signal` aborts or, on a terminal, q is typed.
 * @throws VmError ERR_STATE when there is no such VM, or it ends before the first sample is complete.
 */
export async function top(name: string | undefined, options: TopCommandOptions, signal: AbortSignal): Promise<void> {
  const { json = false, once = false } = options;
  const ms = parseDuration(options.interval ?? '1s', 'interval');
  const vm = name ?? (await onlyVm());
  const stats = async () => (await askVm(vm, { verb: 'stats' })) as VmStats;
  const quit = new AbortController();
  using screen = process.stdout.isTTY && !json && !once ? openScreen({ quit: () => quit.abort() }) : undefined;
  const stop = AbortSignal.any([signal, quit.signal]);
  let before = await stats();
  let shown = false;
  while (!stop.aborted) {
    await sleep(ms, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) break;
    let after: VmStats;
    try {
      after = await stats();
    } catch (e) {
      // A VM that ends is no mistake of who watched it.
      if (shown && e instanceof VmError && e.code === 'ERR_STATE') break;
      throw e;
    }
    const sample = difference(vm, before, after);
    if (json) process.stdout.write(`${JSON.stringify(sample)}\n`);
    else if (screen === undefined) process.stdout.write(`${shown ? '\n' : ''}${formatTop(sample)}`);
    else screen.show(formatTop(sample, process.stdout.rows - 1));
    if (once) return;
    shown = true;
    before = after;
  }
}

/** What happened between two samples. Counters of vCPUs begin anew at a reset, which counts as nothing here. */
export function difference(name: string, before: VmStats, after: VmStats): TopSample {
  const interval = after.nowNs - before.nowNs;
  const grown = (now: number, then = 0) => Math.max(0, now - then);
  const perSecond = (count: number) => (count * 1e9) / interval;
  const share = (ns: number) => Math.min(1, ns / interval);
  const vcpus = after.vcpus.map(({ id, state, instructions, counters }) => {
    const old = before.vcpus.find(v => v.id === id);
    const then = old?.counters;
    return {
      id,
      state,
      mips: instructions === undefined ? undefined : perSecond(grown(instructions, old?.instructions)) / 1e6,
      exitsPerSecond: counters && perSecond(grown(counters.exits, then?.exits)),
      guest: counters && share(grown(counters.guestNs, then?.guestNs)),
      wait: counters && share(grown(counters.waitNs, then?.waitNs)),
    };
  });
  const accesses = after.accesses
    .map(a => {
      const old = before.accesses.find(b => b.space === a.space && b.device === a.device && b.offset === a.offset);
      const reads = a.reads - (old?.reads ?? 0);
      const writes = a.writes - (old?.writes ?? 0);
      const latency = a.latency.map((n, i) => n - (old?.latency[i] ?? 0));
      return {
        space: a.space,
        device: a.device,
        offset: a.offset,
        readsPerSecond: perSecond(reads),
        writesPerSecond: perSecond(writes),
        meanNs: (a.totalNs - (old?.totalNs ?? 0)) / Math.max(1, reads + writes),
        p99Ns: latencyPercentile(latency, 0.99) ?? 0,
      };
    })
    .filter(a => a.readsPerSecond + a.writesPerSecond > 0)
    .sort((a, b) => b.readsPerSecond + b.writesPerSecond - a.readsPerSecond - a.writesPerSecond);
  return {
    name,
    engine: after.engine,
    state: after.state,
    interval,
    exitsPerSecond: accesses.reduce((sum, a) => sum + a.readsPerSecond + a.writesPerSecond, 0),
    thread: threadSplit(interval, before, after, vcpus),
    vcpus,
    accesses,
  };
}

function threadSplit(
  interval: number,
  { thread: then }: VmStats,
  { engine, thread: now }: VmStats,
  vcpus: readonly TopVcpu[],
): TopSample['thread'] {
  const run = Math.min(1, (now.runNs - then.runNs) / interval);
  const answers = Math.min(run, (now.exitNs - then.exitNs) / interval);
  const slept = Math.min(1 - run, (now.idleNs - then.idleNs) / interval);
  const eventLoop = Math.max(0, 1 - run - slept);
  if (engine === 'emu') return { guest: run - answers, exits: answers, eventLoop, idle: slept };
  // KVM: one vCPU runs on this thread, and all the way out of the guest and back belongs to its exits. Of several it waits for exits.
  if (vcpus.length > 1) return { guest: 0, exits: answers, eventLoop, idle: slept + run - answers };
  const guest = Math.min(run, vcpus[0]?.guest ?? 0);
  return { guest, exits: run - guest, eventLoop, idle: slept };
}
