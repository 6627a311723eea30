import { KVM_EXIT_DIRTY_RING_FULL } from '../../../src/engines/kvm/abi/common.generated.ts';
import { fail, refuse } from './errno.ts';
import type { FakeVcpu } from './fake-vcpu.ts';
import type { FakeVm } from './fake-vm.ts';
import type { FakeEventFd } from './files.ts';

/** Cells of a row of the counters; see Addon.runnerCounters. */
const CELLS = 8;
const RUNS = 0;
const EXITS = 1;
const KICKS = 4;
const ERRNO = 5;
const STATE = 6;
/** Values of the cell STATE. */
const PARKED = 0;
const RUNNING = 1;
const PENDING = 2;
const FAILED = 3;
const EINTR = 4;
const EBUSY = 16;
const ETIMEDOUT = 110;

/** The vCPUs of a VM, which do what their scripts say; native/vcpu.h without time, threads and signals. */
export class FakeRunner {
  readonly counters: Float64Array;
  /** The limits that run() was given, ns. */
  readonly limits: number[] = [];
  destroyed = false;
  readonly threads: boolean;
  readonly #vm: FakeVm;
  readonly #cpus: readonly FakeVcpu[];
  readonly #states: readonly ArrayBuffer[];
  readonly #watched = new Map<number, readonly [event: FakeEventFd, tag: number]>();
  #kicked = false;
  #next = 0;

  constructor(vm: FakeVm, cpus: readonly FakeVcpu[], mapSize: number, threads: boolean) {
    if (!threads && cpus.length !== 1) refuse('one vCPU runs inline');
    this.#vm = vm;
    this.#cpus = cpus;
    this.threads = threads;
    this.counters = new Float64Array(cpus.length * CELLS);
    this.#states = cpus.map(() => new ArrayBuffer(mapSize));
    for (const [i, cpu] of cpus.entries()) cpu.run = new DataView(this.#states[i]!);
  }

  state(vcpu: number): ArrayBuffer {
    this.#alive();
    return this.#states[vcpu] ?? refuse('there is no such vCPU');
  }

  ring(vcpu: number): ArrayBuffer {
    this.#alive();
    return this.#cpus[vcpu]?.ring?.buffer ?? refuse('the runner was made without dirty rings');
  }

  run(limitNs?: number): number {
    this.#alive();
    if (limitNs !== undefined) {
      if (!(limitNs >= 0)) refuse('limitNs is out of range');
      this.limits.push(limitNs);
    }
    for (;;) {
      const rung = this.#rung();
      if (rung !== undefined) return -1000 - rung;
      if (this.#kicked) {
        this.#kicked = false;
        const stuck = this.threads ? this.#cpus.findIndex(c => c.stuck) : -1;
        return stuck < 0 ? -1 : -2 - stuck;
      }
      const cpu = this.#ready();
      if (cpu === undefined) return -1;
      const who = this.#step(cpu);
      if (who !== undefined) return who;
    }
  }

  kick(): void {
    this.#alive();
    this.#kicked = true;
    for (let i = 0; i < this.#cpus.length; i++) this.counters[i * CELLS + KICKS]!++;
  }

  pause(): boolean {
    this.#alive();
    for (const [i, cpu] of this.#cpus.entries()) {
      this.counters[i * CELLS + ERRNO] = 0;
      if (this.counters[i * CELLS + STATE] !== PENDING) this.counters[i * CELLS + STATE] = cpu.stuck ? RUNNING : PARKED;
    }
    return this.#cpus.every(c => !c.stuck);
  }

  completeExit(vcpu: number): number {
    this.#alive();
    const cpu = this.#cpus[vcpu] ?? refuse('there is no such vCPU');
    if (cpu.stuck) return ETIMEDOUT;
    if (this.counters[vcpu * CELLS + STATE] === RUNNING) return EBUSY;
    cpu.complete();
    return EINTR;
  }

  watch(fd: number, event: FakeEventFd, tag: number): void {
    this.#alive();
    if (this.#watched.has(fd)) fail('EEXIST', 'runnerWatch');
    this.#watched.set(fd, [event, tag]);
  }

  unwatch(fd: number): void {
    this.#alive();
    if (!this.#watched.delete(fd)) fail('ENOENT', 'runnerUnwatch');
  }

  destroy(): boolean {
    this.#alive();
    this.destroyed = true;
    // Who still has one of them sees no memory any more.
    const rings = this.#cpus.flatMap(c => c.ring?.buffer ?? []);
    for (const buffer of [...this.#states, ...rings]) structuredClone(buffer, { transfer: [buffer] });
    for (const cpu of this.#cpus) cpu.run = undefined;
    return this.#cpus.every(c => !c.stuck);
  }

  #alive(): void {
    if (this.destroyed) refuse('the runner has been destroyed');
  }

  #rung(): number | undefined {
    for (const [event, tag] of this.#watched.values()) if (event.take() > 0n) return tag;
    return undefined;
  }

  /** The next vCPU that has something to do, in turn. */
  #ready(): FakeVcpu | undefined {
    for (let i = 0; i < this.#cpus.length; i++) {
      const n = (this.#next + i) % this.#cpus.length;
      const cpu = this.#cpus[n]!;
      const failed = this.counters[n * CELLS + STATE] === FAILED;
      if (failed || cpu.stuck || (cpu.script.length === 0 && cpu.completion === undefined)) continue;
      this.#next = n + 1;
      return cpu;
    }
    return undefined;
  }

  /** KVM_RUN; what run() returns for it, if anything. */
  #step(cpu: FakeVcpu): number | undefined {
    const row = this.#cpus.indexOf(cpu) * CELLS;
    this.counters[row + RUNS]!++;
    cpu.complete();
    // vcpu_enter_guest() of x86 looks at that first.
    const outcome = cpu.ring?.full ? ringFull(cpu) : (cpu.script.shift()?.(cpu, this.#vm) ?? 'on');
    if (outcome === 'on') return undefined;
    if (outcome === 'stuck') {
      cpu.stuck = true;
      this.counters[row + STATE] = RUNNING;
      return undefined;
    }
    if (outcome === 'exit') this.counters[row + STATE] = PARKED;
    else {
      this.counters[row + ERRNO] = outcome.errno;
      this.counters[row + STATE] = FAILED!;
    }
    this.counters[row + EXITS]!++;
    return row / CELLS;
  }
}

function ringFull(cpu: FakeVcpu): 'exit' {
  cpu.exit(KVM_EXIT_DIRTY_RING_FULL);
  return 'exit';
}
