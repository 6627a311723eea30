import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Addon } from '../../src/engines/host/addon.ts';
import {
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  KVM_SET_USER_MEMORY_REGION,
  kvm_userspace_memory_region,
} from '../../src/engines/kvm/abi/common.generated.ts';
import { KvmGuest, MMIO, PROGRAMS } from './kvm-guest.ts';

// What is done with vCPUs in processes and Workers of their own: under a storm of signals, with a stuck vCPU, with the
// addon's sanitizer builds. native.ts bundles this file and starts it: node vcpu-tasks.mjs ADDON TASK [ARGUMENT].

const EINTR = 4;
const MILLISECOND = 1e6;
const PAGE = 4096;
const [PROT_READ_WRITE, MAP_SHARED_ANONYMOUS] = [3, 0x21];
const turn = () => new Promise(resolve => setImmediate(resolve));

/** What a task found; printed as JSON, or posted to the thread that started the Worker. */
export type TaskResult = Record<string, number | boolean | null>;

/** Offset of the write in the program `count`. */
const COUNT_OUT = 2;

/** Counts exits of guests with the program `count` and compares each with what the guest says. */
class Tally {
  readonly seen: number[];
  readonly #guest: KvmGuest;

  constructor(guest: KvmGuest) {
    this.#guest = guest;
    this.seen = guest.vcpus.map(() => 0);
  }

  /** An exit that was returned by run(). @throws Error when one was lost or doubled. */
  check(vcpu: number): void {
    const exit = this.#guest.exit(vcpu);
    const expected = ++this.seen[vcpu]!;
    if (exit.reason !== 'out' || !('value' in exit) || exit.value !== expected) {
      throw new Error(`vCPU ${vcpu}: exit ${expected} is ${JSON.stringify(exit)}`);
    }
  }

  /**
   * Pauses, takes the exits that wait, completes all, and compares with the guests' registers. The next run() goes on.
   * @returns the exits of all vCPUs.
   */
  settle(): number {
    const { addon, runner, counters, vcpus } = this.#guest;
    if (!addon.pause(runner, 10_000)) throw new Error('pause: a vCPU did not come out');
    vcpus.forEach((_, n) => {
      if (this.#guest.programs[n] !== PROGRAMS.count) return;
      const state = counters[n * 8 + 6];
      if (state === 1 || state === 3) throw new Error(`vCPU ${n} is in state ${state} after pause()`);
      if (state === 2) this.check(n);
      const errno = addon.completeExit(runner, n);
      if (errno !== EINTR) throw new Error(`completeExit of vCPU ${n} returned ${errno}`);
      // GET_REGS would wait for a vCPU inside KVM_RUN. A kick may have come between counting and writing.
      const eax = this.#guest.register(n, 'rax');
      const between = this.#guest.register(n, 'rip') - this.#guest.entry(n) === COUNT_OUT ? 1 : 0;
      if (eax !== this.seen[n]! + between) throw new Error(`vCPU ${n} counted ${eax}, ${this.seen[n]} exits came`);
    });
    return this.seen.reduce((a, b) => a + b);
  }
}

/** Runs counting guests for `seconds`, kicks them at random, lets the event loop turn; every now and then all is compared. */
async function storm(addon: Addon, { seconds = 1, threads = false }): Promise<TaskResult> {
  using guest = new KvmGuest(
    addon,
    threads ? [PROGRAMS.count, PROGRAMS.count, PROGRAMS.count] : [PROGRAMS.count],
    threads,
  );
  const tally = new Tally(guest);
  process.stdout.write('ready\n');
  const end = performance.now() + seconds * 1000;
  let timers = 0;
  const interval = setInterval(() => timers++, 2);
  let pauses = 0;
  while (performance.now() < end) {
    for (let i = 0; i < 200; i++) {
      const n = guest.run(Math.random() < 0.1 ? Math.random() * 100_000 : 5 * MILLISECOND);
      if (n >= 0) tally.check(n);
      else if (n === -1) await turn();
      else throw new Error(`run() returned ${n}`);
      if (Math.random() < 0.1) addon.kick(guest.runner);
    }
    tally.settle();
    pauses++;
  }
  clearInterval(interval);
  const exits = tally.settle();
  const sum = (cell: number) => guest.vcpus.reduce((a, _, n) => a + guest.counters[n * 8 + cell]!, 0);
  return { exits, pauses, timers, runs: sum(0), delivered: sum(1), kicks: sum(4) };
}

/** Pauses and resumes threads `times` times; after each pause no vCPU moves. */
async function pauses(addon: Addon, { times = 100 }): Promise<TaskResult> {
  using guest = new KvmGuest(addon, [PROGRAMS.count, PROGRAMS.spin], true);
  const tally = new Tally(guest);
  const state = (n: number) => guest.counters[n * 8 + 6];
  for (let i = 0; i < times; i++) {
    // From at once to in the midst of it; the second vCPU is certainly inside each fourth time.
    do {
      const n = guest.run((i % 8) * 30_000);
      if (n === 0) tally.check(n);
      else if (n !== -1) throw new Error(`run() returned ${n}`);
    } while (i % 4 === 3 && state(1) !== 1);
    if (!addon.pause(guest.runner, 10_000)) throw new Error('pause: a vCPU did not come out');
    if (state(0) === 1 || state(1) !== 0) throw new Error(`states ${state(0)}, ${state(1)} after pause()`);
    if (i % 2 === 0) {
      tally.settle();
    } else {
      // These calls would wait for a vCPU inside KVM_RUN.
      guest.register(0, 'rax');
      guest.register(1, 'rip');
    }
    if (i % 16 === 0) await turn();
  }
  return { exits: tally.settle(), kicks: guest.counters[4]! + guest.counters[12]! };
}

/**
 * Adds and removes memory slots for `seconds`, under a guest that writes its counter there: into the slot while it is mapped, by an exit
 * else. No number may be missing or come twice, wherever it went. Other slots come and go beside.
 */
async function slots(addon: Addon, { seconds = 1, threads = false }): Promise<TaskResult> {
  using guest = new KvmGuest(addon, threads ? [PROGRAMS.mmio, PROGRAMS.count] : [PROGRAMS.mmio], threads);
  const memory = addon.mmap(16 * PAGE, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0);
  const written = new Uint32Array(memory, 0, 1);
  const set = (slot: number, at: number, size: number, flags: number) => {
    const region = new DataView(new ArrayBuffer(kvm_userspace_memory_region.sizeof));
    region.setUint32(kvm_userspace_memory_region.slot, slot, true);
    region.setUint32(kvm_userspace_memory_region.flags, flags, true);
    region.setUint32(kvm_userspace_memory_region.guest_phys_addr, at, true);
    region.setUint32(kvm_userspace_memory_region.memory_size, size, true);
    const address = addon.addressOf(new Uint8Array(memory, (slot - 1) * PAGE));
    addon.storeAddress(region, kvm_userspace_memory_region.userspace_addr, address);
    addon.ioctl(guest.vm, KVM_SET_USER_MEMORY_REGION, region);
    addon.releaseAddress(address);
  };
  /** The last number that is accounted for. */
  let last = 0;
  const others = new Tally(guest);
  const run = async (ms: number) => {
    for (const end = performance.now() + ms; performance.now() < end; ) {
      const n = guest.run(Math.random() * MILLISECOND);
      if (n === -1) await turn();
      else if (n > 0) others.check(n);
      else {
        const exit = guest.exit(0);
        if (exit.reason !== 'mmio write' || exit.value !== ++last) {
          throw new Error(`exit ${last} is ${JSON.stringify(exit)}`);
        }
      }
      if (Math.random() < 0.1) addon.kick(guest.runner);
    }
  };
  const there = new Set<number>();
  let changes = 0;
  let inSlot = 0;
  const started = performance.now();
  while (performance.now() < started + seconds * 1000) {
    written[0] = 0;
    set(1, MMIO, PAGE, [0, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY][changes % 3]!);
    for (let i = 0; i < 8; i++) {
      const slot = 2 + Math.floor(Math.random() * 15);
      const gone = there.delete(slot);
      if (!gone) there.add(slot);
      set(slot, MMIO + (slot - 1) * PAGE, gone ? 0 : PAGE, 0);
      changes++;
    }
    await run(Math.random() * 3);
    set(1, MMIO, 0, 0);
    changes += 2;
    const value = written[0]!;
    if (value !== 0) {
      if (value <= last) throw new Error(`the slot has ${value}, exit ${last} came before`);
      inSlot += value - last;
      last = value;
    }
    await run(Math.random() * 3);
  }
  return { changes, exits: last - inSlot, inSlot, others: threads ? others.seen[1]! : null };
}

/** Makes and destroys runners, a few exits each; some doorbells too. */
async function churn(addon: Addon, { times = 20 }): Promise<TaskResult> {
  let exits = 0;
  for (let i = 0; i < times; i++) {
    const threads = i % 2 === 1;
    using guest = new KvmGuest(addon, threads ? [PROGRAMS.count, PROGRAMS.ring] : [PROGRAMS.five], threads);
    const bell = addon.eventfd(0, 0);
    addon.runnerWatch(guest.runner, bell, i);
    addon.eventfdWrite(bell, 1n);
    const watchdog = addon.runnerWatchdog(guest.runner, 5000);
    let rung = 0;
    for (let left = 6; left > 0 || rung === 0; ) {
      const n = guest.run(1000 * MILLISECOND);
      if (n === -1) await turn();
      else if (n === -1000 - i) rung++;
      else left--;
      if (n >= 0) exits++;
    }
    addon.runnerUnwatch(guest.runner, bell);
    addon.close(bell);
    addon.close(watchdog);
    if (!guest.close()) throw new Error('a vCPU is stuck');
  }
  return { exits };
}

/** Runs guests for ever; the Worker is terminated from outside. Posts the descriptors that it leaves open. */
async function spin(addon: Addon, { threads = false }): Promise<TaskResult> {
  const guest = new KvmGuest(addon, threads ? [PROGRAMS.spin, PROGRAMS.count] : [PROGRAMS.spin], threads);
  parentPort?.postMessage({ fds: [guest.vm, ...guest.vcpus] });
  for (;;) {
    if (guest.run(Number.POSITIVE_INFINITY) === -1) await turn();
  }
}

/** Leaves runners of both kinds to the end of the thread, one of them forgotten. Posts the descriptors left open. */
async function leave(addon: Addon): Promise<TaskResult> {
  const fds: number[] = [];
  for (const threads of [false, true]) {
    const guest = new KvmGuest(addon, [PROGRAMS.count], threads);
    fds.push(guest.vm, ...guest.vcpus);
    for (let exits = 0; exits < 3; ) {
      if (guest.run(1000 * MILLISECOND) >= 0) exits++;
      else await turn();
    }
  }
  parentPort?.postMessage({ fds });
  return {};
}

const threadsOfProcess = () => readdirSync('/proc/self/task').length;
/** Without the descriptor that reads the folder. */
const descriptors = () => readdirSync('/proc/self/fd').length - 1;

/** Starts a Worker and waits for its end. */
async function inWorker(addon: Addon, addonPath: string, task: string, terminate: boolean): Promise<void> {
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { addonPath, task, options: { times: 2, threads: terminate && Math.random() < 0.5 } },
  });
  let left: number[] = [];
  let failure: unknown;
  worker.on('error', e => {
    failure = e;
  });
  worker.on('message', (m: { fds?: number[] }) => {
    left = m.fds ?? left;
    if (m.fds !== undefined && terminate) setTimeout(() => worker.terminate(), Math.random() * 20);
  });
  await new Promise(resolve => worker.once('exit', resolve));
  for (const fd of left) addon.close(fd);
  if (failure !== undefined) throw failure;
}

/** `loads` Workers, two at a time, each of which loads the addon and makes runners. What is left after it is counted. */
async function loads(addon: Addon, { times = 20 }, addonPath: string): Promise<TaskResult> {
  const one = async (i: number) => {
    const kind = i % 4;
    if (kind === 0) await inWorker(addon, addonPath, 'spin', true);
    else if (kind === 1) await inWorker(addon, addonPath, 'leave', false);
    else await inWorker(addon, addonPath, 'churn', false);
  };
  const some = async (count: number) => {
    for (let i = 0; i < count; i += 2) await Promise.all([one(i), one(i + 1)]);
    globalThis.gc?.();
    await sleep(50);
    return { threads: threadsOfProcess(), fds: descriptors(), rss: process.memoryUsage.rss() };
  };
  // The first ones make what Node and the C library keep.
  const before = await some(Math.max(8, times / 5));
  const after = await some(times);
  return {
    threads: after.threads - before.threads,
    fds: after.fds - before.fds,
    rssMib: (after.rss - before.rss) / 2 ** 20,
  };
}

/** A vCPU of threads that never comes out: it is told of, all else goes on, and the rest is freed. */
async function stuckThread(addon: Addon): Promise<TaskResult> {
  const guest = new KvmGuest(addon, [PROGRAMS.count, PROGRAMS.count], true);
  addon.close(addon.runnerWatchdog(guest.runner, 200));
  let others = 0;
  let stuck = 0;
  let ticks = 0;
  const interval = setInterval(() => ticks++, 5);
  const end = performance.now() + 10_000;
  for (let i = 0; performance.now() < end && stuck === 0; i++) {
    const n = guest.run(MILLISECOND);
    if (n >= 0) others++;
    else if (n === -1) await turn();
    else stuck = n;
    if (i % 100 === 0) addon.kick(guest.runner);
  }
  const paused = addon.pause(guest.runner, 50);
  const again = guest.run(MILLISECOND);
  clearInterval(interval);
  return { stuck, others, ticks, paused, again, destroyed: guest.close(50) };
}

/** An inline vCPU that never comes out: this thread watches the eventfd of the Worker that hangs. */
async function stuckInline(addon: Addon, _: object, addonPath: string): Promise<TaskResult> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { addonPath, task: 'hang', options: {} } });
  const [fd] = await new Promise<number[]>(resolve => {
    worker.on('message', (m: { fds?: number[] }) => resolve(m.fds ?? []));
  });
  const start = performance.now();
  await new Promise<void>(resolve => {
    const keep = setInterval(() => {}, 1000);
    addon.watch(fd!, () => {
      clearInterval(keep);
      resolve();
    });
  });
  return { ms: performance.now() - start, exitNow: true };
}

async function hang(addon: Addon): Promise<TaskResult> {
  const guest = new KvmGuest(addon, [PROGRAMS.count], false);
  parentPort?.postMessage({ fds: [addon.runnerWatchdog(guest.runner, 200)] });
  await turn();
  for (;;) if (guest.run(10 * MILLISECOND) === -1) await turn();
}

/** A KVM_RUN that fails is told once, and the vCPU rests until a pause. */
async function failing(addon: Addon, { threads = false }): Promise<TaskResult> {
  using guest = new KvmGuest(addon, [PROGRAMS.count], threads);
  const next = async () => {
    for (let i = 0; i < 200; i++) {
      const n = guest.run(5 * MILLISECOND);
      if (n >= 0) return n;
      await turn();
    }
    return -1;
  };
  const first = await next();
  const errno = guest.counters[5]!;
  const state = guest.counters[6]!;
  const runs = guest.counters[0]!;
  for (let i = 0; i < 5; i++) {
    if (guest.run(MILLISECOND) >= 0) throw new Error('told twice');
    await turn();
  }
  const rested = guest.counters[0] === runs;
  addon.pause(guest.runner, 1000);
  const parked = guest.counters[6]!;
  return { first, errno, state, rested, parked, second: await next() };
}

/** Both clocks, from many threads, into memory of each kind. */
async function clocks(_: Addon, { times = 20_000, threads = 3 }, addonPath: string): Promise<TaskResult> {
  const workers = Array.from({ length: threads }, () => {
    const data = { addonPath, task: 'readClocks', options: { times } };
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: data });
    return new Promise<void>((resolve, reject) => worker.once('error', reject).once('exit', () => resolve()));
  });
  await Promise.all(workers);
  return { read: threads * times };
}

async function readClocks(addon: Addon, { times = 1 }): Promise<TaskResult> {
  const shared = new BigInt64Array(new SharedArrayBuffer(32), 8);
  const into = [new BigInt64Array(3), shared];
  for (let i = 0; i < times; i++) addon.clockPair(into[i % 2]!);
  if (into.some(pair => pair[0]! <= 0n || pair[1]! <= 0n || pair[2]! < 0n)) throw new Error('a clock is negative');
  return {};
}

export const TASKS = {
  storm,
  pauses,
  slots,
  churn,
  spin,
  leave,
  loads,
  stuckThread,
  stuckInline,
  hang,
  failing,
  clocks,
  readClocks,
};

async function main(addonPath: string, task: string, options: object): Promise<void> {
  const addon = createRequire(import.meta.url)(addonPath) as Addon;
  const result: TaskResult = await TASKS[task as keyof typeof TASKS](addon, options, addonPath);
  if (!isMainThread) return;
  process.stdout.write(`${JSON.stringify(result)}\n`);
  // One of the threads never returns.
  if (result.exitNow === true) addon.exitNow(7);
}

if (isMainThread) {
  const [addonPath, task, options] = process.argv.slice(2);
  await main(addonPath!, task!, JSON.parse(options ?? '{}'));
} else {
  const { addonPath, task, options } = workerData as { addonPath: string; task: string; options: object };
  await main(addonPath, task, options);
}
