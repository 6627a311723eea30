import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { assemble } from '../../scripts/asm/assemble.ts';
import { ARM64_REGISTERS } from '../../src/engines/arm64-registers.ts';
import { createMachine } from '../../src/machine/create.ts';
import type { Machine } from '../../src/machine/machine.ts';
import { VmError } from '../../src/util/errors.ts';

// What holding a machine and setting registers must do on every engine: the integration tests and those in the lab run it. No
// vitest here, the lab has none.

/** Where X21 and X23 point to, and what the guest does. */
const GUEST = `
image:  b       boot
        .word   0
        .quad   0
        .quad   end - image
        .quad   0xa
        .quad   0, 0, 0
        .ascii  "ARM\\x64"
        .word   0
boot:   ldr     x1, =0x09000000
        mov     w2, #0x701              // UARTCR: DTR, RXE, TXE, UARTEN
        str     w2, [x1, #0x30]
        ldr     x2, =0x40300000
        mov     sp, x2
        ldr     x3, =0x0123456789abcdef
        msr     tpidr_el1, x3
        ldr     x4, =0x40280000
        msr     vbar_el1, x4
        ldr     x26, =0x40200000        // a counter for each vCPU
        adr     x21, print
        adr     x23, wait
        adr     x1, other
        ldr     x0, =0xc4000003         // CPU_ON, PSCI 1.1 section 5.6
        mov     x2, x1
        mov     x1, #1
        ldr     x3, =0x40200008
        hvc     #0
        mov     x24, x0                 // 0, or INVALID_PARAMETERS with one vCPU
count:  isb
        mrs     x22, cntvct_el0
        add     x20, x20, #1
        str     x20, [x26]
        b       count
other:  mov     x20, #0                 // X0: where to count
1:      add     x20, x20, #1
        str     x20, [x0]
        b       1b
wait:   mov     x27, #1
2:      wfi
        b       2b
print:  ldr     x1, =0x09000000         // says X0, and powers off
        str     w0, [x1]
        ldr     x0, =0x84000008
        hvc     #0
3:      b       3b
end:
`;

const COUNTERS = 0x4020_0000;
/** Longer than a pause is expected to be lost in the noise of. */
const PAUSE_MS = 300;

/** A machine that runs {@link GUEST}. */
class Rig implements AsyncDisposable {
  text = '';
  reason: string | undefined;
  readonly machine: Machine;

  private constructor(machine: Machine) {
    this.machine = machine;
  }

  static async create(engine: 'emu' | 'kvm', cpus: number): Promise<Rig> {
    let rig: Rig | undefined;
    const machine = await createMachine(
      {
        machine: 'arm-virt',
        engine,
        kernel: assemble(GUEST).bytes,
        initrd: undefined,
        params: '',
        memoryBytes: 64 << 20,
        cpus,
        clock: 'host',
        gic: 3,
        trace: [],
        devices: [],
        pciSlots: 0,
      },
      {
        console: bytes => {
          rig!.text += Buffer.from(bytes).toString('latin1');
        },
        exit: reason => {
          rig!.reason = reason;
        },
        log: () => undefined,
      },
    );
    rig = new Rig(machine);
    return rig;
  }

  /** Steps until `done`, or for a minute: a guest that hangs fails the assertion that follows. */
  async runUntil(done: () => boolean): Promise<void> {
    const end = performance.now() + 60_000;
    while (!done() && performance.now() < end) {
      await sleep(1);
      this.machine.step();
    }
    assert.ok(done(), `the guest never got there; it said '${this.text}'`);
  }

  /** What the guest has counted on a vCPU. */
  counted(cpu: number): number {
    const { base, bytes } = this.machine.ram()[0]!;
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(COUNTERS - base + 8 * cpu, true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.machine.stop();
    await this.machine.close();
  }
}

/** The registers of vCPU 0 that every engine has, but for the timer's, which time changes. */
function common(machine: Machine): Record<string, bigint> {
  const all = machine.registers(0);
  const names = ARM64_REGISTERS.filter(n => n !== 'cntv_ctl_el0');
  return Object.fromEntries(
    names.map(n => {
      assert.equal(typeof all[n], 'bigint', `there is no ${n}`);
      return [n, all[n]!];
    }),
  );
}

/** The VmError's code that `f` throws. */
function codeOf(f: () => unknown): string | undefined {
  try {
    f();
    return undefined;
  } catch (e) {
    if (e instanceof VmError) return e.code;
    throw e;
  }
}

/** Registers are what the guest has put there, and the guest goes on with what is put there. */
export async function registersCase(engine: 'emu' | 'kvm'): Promise<void> {
  await using rig = await Rig.create(engine, 1);
  const { machine } = rig;
  await rig.runUntil(() => rig.counted(0) > 0);
  assert.equal(
    codeOf(() => machine.setRegisters(0, { x0: 1n })),
    'ERR_STATE',
  );
  machine.pause();
  const before = common(machine);
  assert.equal(before.sp_el1, 0x4030_0000n);
  assert.equal(before.tpidr_el1, 0x0123_4567_89ab_cdefn);
  assert.equal(before.vbar_el1, 0x4028_0000n);
  assert.equal(before.x26, BigInt(COUNTERS));
  // D, A, I, F and EL1h; the guest sets no flags.
  assert.equal(before.pstate! & 0xfff_ffffn, 0x3c5n);
  // The instruction that stores the count may come next.
  assert.ok([0n, 1n].includes(before.x20! - BigInt(rig.counted(0))));
  // The MMU is off.
  assert.equal(before.sctlr_el1! & 1n, 0n);
  assert.equal(
    codeOf(() => machine.setRegisters(0, { x0: 1n, x31: 0n })),
    'ERR_USAGE',
  );
  assert.equal(
    codeOf(() => machine.setRegisters(0, { pstate: 0x3cdn })),
    'ERR_USAGE',
  );
  assert.equal(
    codeOf(() => machine.registers(1)),
    'ERR_USAGE',
  );
  assert.deepEqual(common(machine), before, 'what was refused has changed something');
  const changes = {
    x19: 2n ** 64n - 1n,
    sp_el0: 0x1230n,
    sp_el1: 0x4560n,
    elr_el1: 0x7000n,
    far_el1: 0x8001n,
    ttbr0_el1: 0x4100_0000n,
    tpidr_el0: 5n,
    cntv_cval_el0: 0xffff_ffff_ffffn,
    pstate: 0xa000_03c4n,
  };
  machine.setRegisters(0, changes);
  assert.deepEqual(common(machine), { ...before, ...changes });
  // Back from EL1t: the stack pointers are where they were put.
  machine.setRegisters(0, { pc: before.x21!, x0: 0x41n, pstate: 0x3c5n });
  assert.equal(machine.registers(0).sp_el1, changes.sp_el1);
  machine.resume();
  await rig.runUntil(() => rig.reason !== undefined);
  assert.equal(rig.text, 'A');
  assert.equal(rig.reason, 'shutdown');
}

/** A vCPU that waits for an interrupt that never comes goes on where it is put. */
export async function waitingCase(engine: 'emu' | 'kvm'): Promise<void> {
  await using rig = await Rig.create(engine, 1);
  const { machine } = rig;
  await rig.runUntil(() => rig.counted(0) > 0);
  machine.pause();
  const { x21, x23 } = machine.registers(0);
  machine.setRegisters(0, { pc: x23! });
  machine.resume();
  await rig.runUntil(() => machine.registers(0).x27 === 1n);
  machine.pause();
  machine.setRegisters(0, { pc: x21!, x0: 0x57n });
  machine.resume();
  await rig.runUntil(() => rig.reason !== undefined);
  assert.equal(rig.text, 'W');
}

/** No vCPU runs while the machine is held, and all of them do afterwards. */
export async function heldCase(engine: 'emu' | 'kvm', cpus: number): Promise<void> {
  await using rig = await Rig.create(engine, cpus);
  const { machine } = rig;
  const all = () => Array.from({ length: Math.min(cpus, 2) }, (_, n) => rig.counted(n));
  await rig.runUntil(() => all().every(n => n > 0));
  for (let round = 0; round < 3; round++) {
    machine.pause();
    assert.equal(
      codeOf(() => machine.pause()),
      'ERR_STATE',
    );
    const then = all();
    for (let n = 0; n < 5; n++) {
      await sleep(5);
      assert.equal(machine.step(), 'idle');
      assert.equal(machine.idleMs(), Number.POSITIVE_INFINITY);
    }
    machine.registers(0);
    machine.info();
    assert.deepEqual(all(), then);
    machine.resume();
    assert.equal(
      codeOf(() => machine.resume()),
      'ERR_STATE',
    );
    await rig.runUntil(() => all().every((count, n) => count !== then[n]));
  }
}

/** The guest's counter stands while it is held. */
export async function timeCase(engine: 'emu' | 'kvm'): Promise<void> {
  await using rig = await Rig.create(engine, 1);
  const { machine } = rig;
  await rig.runUntil(() => rig.counted(0) > 0);
  // From the beginning of the step in which the guest looked at its counter the first time, to the end of the second one:
  // the guest cannot have seen more time than passed outside of the pause.
  let hostNs = 0;
  const look = () => {
    const began = performance.now();
    const before = rig.counted(0);
    while (rig.counted(0) === before) machine.step();
    return began;
  };
  const first = look();
  machine.pause();
  hostNs += (performance.now() - first) * 1e6;
  const { timeNs } = machine.info();
  const { x22: then } = machine.registers(0);
  await sleep(PAUSE_MS);
  assert.equal(machine.info().timeNs, timeNs);
  const again = performance.now();
  machine.resume();
  look();
  machine.pause();
  hostNs += (performance.now() - again) * 1e6;
  const { x22: now } = machine.registers(0);
  const guestNs = (Number(now! - then!) * 1e9) / machine.info().counterHz;
  assert.ok(guestNs > 0, 'the counter does not go on');
  // The clock that this reads has steps of its own.
  assert.ok(guestNs <= hostNs + 1e6, `the guest saw ${guestNs} ns, it ran for at most ${hostNs} ns`);
}
