import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { host } from '../../src/engines/host/host.ts';
import { hostMemory } from '../../src/engines/host/host-memory.ts';
import * as kvm from '../../src/engines/kvm/abi/common.generated.ts';
import { KvmEngine } from '../../src/engines/kvm/engine.ts';
import { guestRam } from '../../src/engines/kvm/guest-ram.ts';
import { Struct } from '../../src/engines/kvm/structs.ts';
import { type KvmHost, KvmSystem } from '../../src/engines/kvm/system.ts';
import { KvmVm } from '../../src/engines/kvm/vm.ts';
import { X86Architecture } from '../../src/engines/kvm/x86/architecture.ts';
import type { X86Cpu } from '../../src/engines/kvm/x86/cpu.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import { createHostClock } from '../../src/time/host-clock.ts';
import { RecordingSink } from './fake-kvm/sink.ts';
import { assembleX86 } from './x86-assembler.ts';

// Pages that guests write, by the rings of their vCPUs and by the dirty log: guests of a few instructions in flat 32-bit mode, for this
// machine's KVM and that of the lab. No vitest here, the lab has none.

const PAGE = 4096;
const GDT = 0x1000;
const CODE = 0x2000;
/** Each vCPU's order: address, bytes to the next page, pages. */
const ORDER = 0x3000;
const DATA = 0x100_0000;
const PAGES = 8192;
const PORT = 0x300;
/** Entries of a ring: more than KVM keeps in reserve for Intel's processors, and an eighth of PAGES. */
export const ENTRIES = 1024;
/** ms; nothing takes a hundredth of it on a machine that has time for it. */
const LIMIT = 120_000;

/**
 * Leaves the guest and comes back, every 32 pages: KVM compares a ring with its reserve of 64 entries when it enters a guest, and
 * a KVM that runs such a guest by software alone enters it far too rarely. CL: counts pages. DX is lost.
 */
const BREATHE = `
        test    cl, 31
        jnz     9f
        mov     dx, ${PORT + 4}
        in      al, dx
9:`;
/** Asks for an order by reads of {@link PORT} until it gets 1, adds 1 to a word of each page, and again. RSI: where the order is. */
const WRITER = `
        mov     ebp, esi
1:      mov     dx, ${PORT}
        in      al, dx
        test    al, al
        jz      1b
        mov     esi, [ebp]
        mov     ebx, [ebp + 4]
        mov     ecx, [ebp + 8]
2:      inc     dword ptr [esi + 8]
        add     esi, ebx
        ${BREATHE}
        dec     ecx
        jnz     2b
        jmp     1b`;
/** Writes pages in an order of its own (a linear congruential generator's), for ever. RSI: the seed. */
const SCATTER = `
1:      imul    esi, esi, 1664525
        add     esi, 1013904223
        mov     edi, esi
        shr     edi, 7
        and     edi, ${(PAGES - 1) * PAGE}
        inc     dword ptr [edi + ${DATA + 16}]
        inc     ecx
        ${BREATHE}
        jmp     1b`;

let programs: readonly Uint8Array[] | undefined;
/** The bytes of {@link WRITER} and {@link SCATTER}. */
const code = (n: 0 | 1) => {
  programs ??= assembleX86([WRITER, SCATTER].map(source => ({ bits: 32, source })));
  return programs[n]!;
};

/** How the guests of a case run. */
export interface WrittenPagesOptions {
  /** 1: on the caller's thread; more: on threads of their own. */
  readonly cpus: number;
  /** See KvmEngineOptions.dirtyRing. */
  readonly dirtyRing: number;
}

/** Gives each vCPU its orders. */
class Orders extends RecordingSink {
  /** vCPUs that are to fetch one, and that carry one out. */
  readonly waiting = new Set<number>();
  readonly working = new Set<number>();

  override portIn(cpu: number, port: number): number {
    if (port !== PORT) return 0;
    this.working.delete(cpu);
    if (!this.waiting.delete(cpu)) return 0;
    this.working.add(cpu);
    return 1;
  }
}

/** An engine whose vCPUs all run the same program. */
class Guest implements AsyncDisposable {
  readonly engine: KvmEngine;
  /** How many times rings were reset because one was full. */
  full = 0;
  #collecting = false;
  readonly #orders = new Orders();
  readonly #cpus: number;

  constructor(program: Uint8Array, o: WrittenPagesOptions) {
    this.#cpus = o.cpus;
    const architecture = new X86Architecture({ cpus: o.cpus, invariantTsc: false, reserved: 0xfeff_c000 });
    const addon = host();
    const counting: KvmHost = {
      ...addon,
      ioctl: (fd, request, argument) => {
        if (request === kvm.KVM_RESET_DIRTY_RINGS && !this.#collecting) this.full++;
        return addon.ioctl(fd, request, argument);
      },
    };
    this.engine = new KvmEngine({
      vm: new KvmVm(new KvmSystem(counting), architecture.vmType),
      architecture,
      ram: guestRam(0, DATA + PAGES * PAGE),
      hotplug: undefined,
      hostMemory: hostMemory(),
      clock: createHostClock(),
      counterHz: 0,
      dirtyRing: o.dirtyRing,
    });
    const { memory } = this.engine;
    memory.setU64(GDT + 0x10, 0x00cf_9b00_0000_ffffn);
    memory.setU64(GDT + 0x18, 0x00cf_9300_0000_ffffn);
    memory.write(CODE, program);
    this.engine.attach(this.#orders);
  }

  get ram(): Uint8Array {
    return this.engine.memory.regions[0]!.bytes;
  }

  /** Starts every vCPU, without any firmware; again after a reset. @param rsi by vCPU. */
  boot(rsi: (cpu: number) => number): void {
    for (let id = 0; id < this.#cpus; id++) {
      const cpu = this.engine.cpu(id) as X86Cpu;
      const gdt = { base: GDT, limit: 0x1f };
      cpu.start({ mode: 'protected', rip: CODE, rsp: GDT, rsi: rsi(id), rbx: 0, cr3: 0, gdt });
      host().ioctl(cpu.fd, kvm.KVM_SET_MP_STATE, new Struct(4).u32(0, kvm.KVM_MP_STATE_RUNNABLE).bytes);
    }
  }

  /** Lets each vCPU, a {@link WRITER}, write to some pages, and waits until all have. */
  async write(...orders: readonly (readonly [first: number, stride: number, count: number])[]): Promise<void> {
    for (const [cpu, [first, stride, count]] of orders.entries()) {
      const fields = [DATA + first * PAGE, stride * PAGE, count];
      for (const [i, v] of fields.entries()) this.engine.memory.setU32(order(cpu) + 4 * i, v);
      this.#orders.waiting.add(cpu);
    }
    await this.runUntil(() => this.#orders.waiting.size + this.#orders.working.size === 0);
  }

  /** Runs it until `done`, with turns of the event loop. */
  async runUntil(done: () => boolean): Promise<void> {
    for (const end = performance.now() + LIMIT; !done(); await setImmediate()) {
      if (performance.now() > end) throw new Error(`the guest is not there after ${LIMIT} ms`);
      assert.equal(this.engine.step(2e6), 'yield');
    }
  }

  /** Calls `told` with each page from DATA on that was written since the last call. */
  collect(told: (page: number) => void): void {
    this.#collecting = true;
    this.engine.writeTracker.collectCpu({
      markDirty: (base, length) => {
        for (let a = Math.max(base, DATA); a < base + length; a += PAGE) told((a - DATA) / PAGE);
      },
    });
    this.#collecting = false;
  }

  collected(): number[] {
    const pages = new Set<number>();
    this.collect(p => void pages.add(p));
    return [...pages].sort((a, b) => a - b);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
  }
}

const order = (cpu: number) => ORDER + 16 * cpu;
const every = (first: number, stride: number, count: number) =>
  Array.from({ length: count }, (_, n) => first + n * stride);

/** First pages of each vCPU's part of the data. */
const parts = (cpus: number) => every(0, PAGES / cpus, cpus);

/** A case. @throws AssertionError. */
export interface WrittenPagesCase {
  readonly title: string;
  run(o: WrittenPagesOptions): Promise<void>;
}

/** All of them. */
export const WRITTEN_PAGES_CASES: readonly WrittenPagesCase[] = [
  {
    title: 'are exactly those, several times as many as a ring has room for',
    run: async o => {
      await using g = new Guest(code(0), o);
      g.boot(order);
      const size = PAGES / o.cpus;
      g.engine.writeTracker.start();
      for (const [stride, count] of [
        [2, size / 2],
        [1, size],
        [5, 3],
      ] as const) {
        await g.write(...parts(o.cpus).map(first => [first, stride, count] as const));
        assert.deepEqual(
          g.collected(),
          parts(o.cpus).flatMap(first => every(first, stride, count)),
        );
        assert.deepEqual(g.collected(), []);
      }
      // No ring has room for a quarter of it.
      if (o.dirtyRing > 0) assert.ok(g.full >= 4, `only ${g.full} rings were full`);
      g.engine.writeTracker.stop();
      await g.write(...parts(o.cpus).map(first => [first, 1, size] as const));
      g.engine.writeTracker.start();
      assert.deepEqual(g.collected(), []);
      // The guest has not noticed: every word was counted up as often as it was its turn.
      const turns = new Uint32Array(PAGES).fill(2);
      for (const first of parts(o.cpus)) {
        for (const p of [...every(first, 2, size / 2), ...every(first, 5, 3)]) turns[p]!++;
      }
      const words = turns.map((_, p) => g.engine.memory.u32(DATA + p * PAGE + 8));
      assert.deepEqual(words, turns);
    },
  },
  {
    title: 'are all that changes: who copies them while the guest runs has the same memory at the end',
    run: async o => {
      await using g = new Guest(code(1), o);
      g.boot(cpu => 0x1234_5678 + cpu * 0x1111_1111);
      g.engine.writeTracker.start();
      const copy = new Uint8Array(g.ram.length);
      copy.set(g.ram);
      let copied = 0;
      const follow = (page: number) => {
        copy.set(g.ram.subarray(DATA + page * PAGE, DATA + (page + 1) * PAGE), DATA + page * PAGE);
        copied++;
      };
      let collections = 0;
      await g.runUntil(() => {
        // Several in a row, and then none before a ring was full.
        if (o.dirtyRing === 0 || collections < 8 * (g.full + 1)) {
          g.collect(follow);
          collections++;
        }
        return copied > 4 * PAGES && (o.dirtyRing === 0 || g.full >= 8);
      });
      g.engine.pause();
      g.collect(follow);
      assert.equal(Buffer.compare(copy, g.ram), 0);
    },
  },
  {
    title: 'are not lost over a reset, and found after it',
    run: async o => {
      await using g = new Guest(code(0), o);
      g.boot(order);
      const orders = (shift: number) => every(shift, 100, o.cpus).map(first => [first, 2, 30] as const);
      g.engine.writeTracker.start();
      await g.write(...orders(0));
      g.engine.reset();
      g.boot(order);
      await g.write(...orders(1));
      assert.deepEqual(
        g.collected(),
        every(0, 100, o.cpus).flatMap(first => every(first, 1, 60)),
      );
    },
  },
  {
    title: 'are merged with those that devices write',
    run: async o => {
      await using g = new Guest(code(0), o);
      g.boot(order);
      const { memory } = g.engine;
      const pins = new PinTable({ memory, limits: {}, discardBytes: (base, length) => g.engine.discard(base, length) });
      pins.dirty.addSource(g.engine.writeTracker);
      using log = pins.dirty.start();
      await g.write(...every(10, 4, o.cpus).map(first => [first, 1, 3] as const));
      pins.borrow(DATA + 9 * PAGE + 100, 2 * PAGE, 'w');
      pins.borrow(DATA + 40 * PAGE, PAGE, 'r');
      const bitmap = new Uint32Array(2);
      const written = [9, ...every(10, 4, o.cpus).flatMap(first => every(first, 1, 3))];
      assert.equal(log.collect(DATA, 64 * PAGE, bitmap), written.length);
      assert.deepEqual(
        every(0, 1, 64).filter(p => (bitmap[p >> 5]! >>> (p & 31)) & 1),
        written,
      );
      assert.equal(log.collect(DATA, 64 * PAGE, bitmap), 0);
    },
  },
];
