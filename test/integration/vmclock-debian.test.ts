// The page of the VM clock as a program of an unmodified Linux guest finds and reads it. Debian's kernel (6.1) is too old for the
// driver, so the program goes through /dev/mem.
import { afterAll, expect, it } from 'vitest';
import * as R from '../../src/devices/vmclock/regs.ts';
import { boot, install, program } from '../support/debian-test.ts';
import { atShell, type Guest } from '../support/guest.ts';
import { guestTime, readVmClock } from '../support/vmclock.ts';

/** How far the machine's own pairs may be off, ns: without the addon Date.now() has steps of 1 ms. */
const ERROR_NS = 1_000_000n;
const NODE = '/proc/device-tree/ptp@90f0000';

/** Prints, as raw bytes, the guest's CLOCK_MONOTONIC_RAW, CNTVCT_EL0, the first 128 bytes of the page under one seq_count, the clock again. */
const READER = program(`
    mov x0, #-100
    adr x1, path
    mov x2, #0          // O_RDONLY
    mov x3, #0
    mov x8, #56         // openat
    svc #0
    mov x4, x0
    mov x0, #0
    mov x1, #4096
    mov x2, #1          // PROT_READ
    mov x3, #1          // MAP_SHARED
    mov x5, #0x090f0000
    mov x8, #222        // mmap
    svc #0
    mov x19, x0
    mov x0, #4          // CLOCK_MONOTONIC_RAW
    adr x1, before
    mov x8, #113        // clock_gettime
    svc #0
1:  ldr w20, [x19, #12]
    tbnz w20, #0, 1b
    dmb sy
    mrs x21, cntvct_el0
    adr x22, counter
    str x21, [x22], #8
    mov x23, #0
2:  ldr x24, [x19, x23]
    str x24, [x22, x23]
    add x23, x23, #8
    cmp x23, #128
    b.ne 2b
    dmb sy
    ldr w24, [x19, #12]
    cmp w24, w20
    b.ne 1b
    mov x0, #4
    adr x1, after
    mov x8, #113
    svc #0
    mov x0, #1
    adr x1, before
    mov x2, #168
    mov x8, #64         // write
    svc #0
    mov x0, #0
    mov x8, #93         // exit
    svc #0
path:
    .asciz "/dev/mem"
    .balign 8
before:
    .quad 0, 0
counter:
    .quad 0
    .quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
after:
    .quad 0, 0
`);

/** What the program finds. */
async function read(guest: Guest) {
  const from = BigInt(Date.now()) * 1_000_000n;
  const output = Buffer.from(await guest.run('/reader | base64'), 'base64');
  const until = BigInt(Date.now() + 1) * 1_000_000n;
  const page = output.subarray(24, 24 + 128);
  const raw = (at: number) => output.readBigUInt64LE(at) * 1_000_000_000n + output.readBigUInt64LE(at + 8);
  return {
    ...readVmClock(page),
    timeNs: guestTime(page, output.readBigUInt64LE(16)),
    /** The host's time around the read. */
    host: [from, until] as const,
    /** The guest's own time before and after the read. */
    raw: [raw(0), raw(152)] as const,
  };
}
type Reading = Awaited<ReturnType<typeof read>>;

/** The guest's calculation gives a time at which the host has seen it read. */
function expectRight({ timeNs, host, seqCount }: Reading): void {
  expect([seqCount & 1, timeNs >= host[0] - ERROR_NS, timeNs <= host[1] + ERROR_NS]).toEqual([0, true, true]);
}

let guest: Guest | undefined;
afterAll(() => guest?.[Symbol.asyncDispose]());

it('a guest finds the page in its device tree, and the time of the host in the page', async ({ skip }) => {
  guest = await boot(skip, { memory: '256M', cpus: 2 });
  const { run } = guest;
  expect(await run(`tr '\\0' ' ' <${NODE}/compatible`)).toBe('amazon,vmclock ');
  expect(await run(`hexdump -v -e '1/1 "%02x"' ${NODE}/reg`)).toBe('00000000090f00000000000000001000');
  await run(install('/reader', READER));
  const first = await read(guest);
  expect(first).toMatchObject({
    ...{ magic: R.MAGIC_VCLK, size: 4096, version: 1, counterId: R.COUNTER_ARM_VCNT, timeType: R.TIME_UTC },
    ...{ flags: R.FLAG_VM_GEN_COUNTER_PRESENT, clockStatus: R.STATUS_FREERUNNING },
  });
  expectRight(first);
  // In between the page is brought up to date, and the guest's own clock says how long that was.
  await run('sleep 2');
  const second = await read(guest);
  expectRight(second);
  expect(second.seqCount).not.toBe(first.seqCount);
  expect([second.disruptionMarker, second.vmGenerationCounter]).toEqual([
    first.disruptionMarker,
    first.vmGenerationCounter,
  ]);
  const passed = second.timeNs - first.timeNs;
  expect(passed >= second.raw[0] - first.raw[1] - 2n * ERROR_NS).toBe(true);
  expect(passed <= second.raw[1] - first.raw[0] + 2n * ERROR_NS).toBe(true);
});

it('a guest cannot write the page, and lives', async ({ skip }) => {
  if (guest === undefined) return skip('no guest');
  const before = await read(guest);
  for (const [offset, width] of [
    [0, 8],
    [0x10, 64],
    [0x28, 32],
    [0xffc, 32],
  ]) {
    await guest.run(`devmem ${0x90f_0000 + offset!} ${width} 0x55`);
  }
  const after = await read(guest);
  expect(after).toMatchObject({ magic: R.MAGIC_VCLK, disruptionMarker: before.disruptionMarker });
  expect(await guest.run(`devmem ${0x90f_0ffc} 32`)).toBe('0x00000000');
  expectRight(after);
});

it('EMU-X6: a pause is a disruption: the guest sees another marker and the right time', async ({ skip }) => {
  if (guest === undefined) return skip('no guest');
  const before = await read(guest);
  await guest.vm.pause();
  const held = Date.now();
  await new Promise(resolve => setTimeout(resolve, 1500));
  const heldNs = BigInt(Date.now() - held) * 1_000_000n;
  await guest.vm.resume();
  const after = await read(guest);
  expect(after.disruptionMarker).toBe(BigInt.asUintN(64, before.disruptionMarker + 1n));
  expect(after.vmGenerationCounter).toBe(before.vmGenerationCounter);
  expectRight(after);
  // What the guest's own clocks have missed.
  const missed = after.timeNs - before.timeNs - (after.raw[1] - before.raw[0]);
  expect(missed >= heldNs - 2n * ERROR_NS).toBe(true);
});

it('a fork finds other markers and the right time, and its parent does not', async ({ skip }) => {
  if (guest === undefined) return skip('no guest');
  const before = await read(guest);
  const child = await guest.vm.fork();
  await using second = atShell(child);
  await child.start();
  const [there, here] = [await read(second), await read(guest)];
  expect([there.disruptionMarker, there.vmGenerationCounter]).toEqual([
    BigInt.asUintN(64, before.disruptionMarker + 1n),
    BigInt.asUintN(64, before.vmGenerationCounter + 1n),
  ]);
  expect([here.disruptionMarker, here.vmGenerationCounter]).toEqual([
    before.disruptionMarker,
    before.vmGenerationCounter,
  ]);
  expectRight(there);
  expectRight(here);
});

it('in a deterministic run the page is a function of the guest alone', async ({ skip }) => {
  const readings = [];
  for (let n = 0; n < 2; n++) {
    await using other = await boot(skip, { memory: '256M', clock: 'virtual' });
    const u64 = (offset: number) => `devmem ${0x90f_0000 + offset} 64`;
    const fields = [
      R.MAGIC,
      R.DISRUPTION_MARKER,
      R.FLAGS,
      R.COUNTER_VALUE,
      R.TIME_SEC,
      R.TIME_FRAC_SEC,
      R.TIME_MAXERROR_NANOSEC,
    ];
    readings.push(await other.run(fields.map(u64).join('; ')));
    await other.vm.pause();
    await other.vm.resume();
    expect(await other.run(fields.map(u64).join('; '))).toBe(readings[n]);
  }
  expect(readings[0]).toMatch(/^0x000010004B4C4356\n/);
  expect(readings[0]).toBe(readings[1]);
});
