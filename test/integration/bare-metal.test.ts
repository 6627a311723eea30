import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { assembleGuest, guestModule } from '../../scripts/gen-embedded-guest.ts';
import { identifyKernel } from '../../src/firmware/kernel.ts';
import { embeddedGuest } from '../../src/images/embedded-guest.ts';
import { createMachine } from '../../src/machine/create.ts';
import type { MachineConfig } from '../../src/machine/machine.ts';

const QEMU = 'qemu-system-aarch64';
const qemu = spawnSync(QEMU, ['--version']).status === 0;
const why = qemu ? '' : ` (skipped: ${QEMU} is not installed; Debian: qemu-system-arm)`;

/** Runs the guest until it powers off. */
async function run(options: Pick<MachineConfig, 'cpus' | 'gic' | 'clock'> & { readonly memoryMib?: number }) {
  let text = '';
  let reason: string | undefined;
  const log: string[] = [];
  const machine = await createMachine(
    {
      machine: 'arm-virt',
      engine: 'emu',
      kernel: embeddedGuest(),
      initrd: undefined,
      params: '',
      memoryBytes: (options.memoryMib ?? 64) << 20,
      cpus: options.cpus,
      clock: options.clock,
      gic: options.gic,
      seed: 1,
      trace: [],
      devices: [],
      pciSlots: 0,
    },
    {
      console: bytes => {
        text += Buffer.from(bytes).toString('latin1');
      },
      exit: why => {
        reason = why;
      },
      log: line => log.push(line),
    },
  );
  // Far more steps than the guest takes: a guest that hangs fails with its text.
  for (let steps = 0; steps < 2000; steps++) {
    const state = machine.step();
    if (state === 'stopped') break;
    if (state === 'idle') {
      if (machine.idleMs() === Number.POSITIVE_INFINITY) break;
      await sleep(machine.idleMs());
    }
  }
  return {
    text,
    reason,
    log,
    hash: options.clock === 'virtual' ? machine.memoryHash() : '',
    instructions: machine.info().instructions,
  };
}

/** What the guest prints on every machine; CPUs report in any order. */
function expectAll(text: string, expected: { readonly cpus: number; readonly gic: 3 | 2; readonly mib: number }): void {
  const { cpus, gic, mib } = expected;
  const lines = text.replaceAll('\r', '').split('\n');
  expect(lines[0]).toBe('tsvisor: embedded guest, no kernel is needed');
  expect(lines[2]).toBe(`  memory   ${mib} MiB at 0x40000000`);
  expect(lines[3]).toMatch(new RegExp(`^  cpus     ${cpus}, MIDR_EL1 0x[0-9a-f]+$`));
  expect(lines[4]).toBe(`  gic      GICv${gic} at 0x8000000`);
  expect(lines[5]).toBe('  counter  62500000 Hz');
  expect(lines[6]).toBe('  psci     1.1 by HVC');
  expect(lines[7]).toMatch(/^ {2}uart {5}PL011 revision \d+ at 0x9000000$/);
  expect(lines.slice(8, 12)).toEqual([
    'mmu: on, unaligned access works',
    'timer: took interrupt 27',
    'gic: took SGI 1 from itself',
    'el0: SVC 7 from EL0 brought 42',
  ]);
  const reports = Array.from({ length: cpus - 1 }, (_, n) => `psci: cpu ${n + 1} is on, MPIDR_EL1 0x8000000${n + 1}`);
  expect(lines.slice(12, 12 + cpus - 1).sort()).toEqual(reports);
  const others = cpus === 1 ? [] : [`psci: cpus that ran and are off again: ${cpus - 1}`];
  expect(lines.slice(12 + cpus - 1)).toEqual([...others, 'tsvisor: embedded guest done', '']);
}

describe('the embedded guest', () => {
  it('is what its sources assemble to', () => {
    const file = new URL('../../src/images/embedded-guest.ts', import.meta.url);
    expect(readFileSync(file, 'utf8')).toBe(guestModule());
    expect(Buffer.from(embeddedGuest()).equals(assembleGuest())).toBe(true);
  });

  it('is a kernel', () => {
    expect(identifyKernel(embeddedGuest())).toBe('image');
  });

  for (const gic of [3, 2] as const) {
    it.each([1, 2, 4, 8])(`runs with GICv${gic} and %i CPUs`, async cpus => {
      const { text, reason, log } = await run({ cpus, gic, clock: 'host' });
      expectAll(text, { cpus, gic, mib: 64 });
      expect(text).toContain('  machine  tsvisor arm-virt\n');
      expect(reason).toBe('shutdown');
      expect(log).toEqual([]);
    });

    it(`runs the same way twice with GICv${gic} and the virtual clock`, async () => {
      const first = await run({ cpus: 4, gic, clock: 'virtual' });
      const second = await run({ cpus: 4, gic, clock: 'virtual' });
      expectAll(first.text, { cpus: 4, gic, mib: 64 });
      expect(second).toEqual(first);
    });
  }

  it('finds RAM beyond the first GiB', async () => {
    const { text, reason } = await run({ cpus: 1, gic: 3, clock: 'host', memoryMib: 1536 });
    expectAll(text, { cpus: 1, gic: 3, mib: 1536 });
    expect(reason).toBe('shutdown');
  });
});

describe.skipIf(!qemu)(`the embedded guest on QEMU${why}`, () => {
  for (const gic of [3, 2] as const) {
    it.each([1, 4])(`runs with GICv${gic} and %i CPUs`, cpus => {
      const folder = mkdtempSync(join(tmpdir(), 'tsvisor-guest-'));
      try {
        const image = join(folder, 'guest.img');
        writeFileSync(image, embeddedGuest());
        const machine = ['-M', `virt,gic-version=${gic}`, '-cpu', 'cortex-a57', '-smp', `${cpus}`, '-m', '128'];
        const output = ['-nodefaults', '-nographic', '-serial', 'stdio', '-no-reboot', '-kernel', image];
        const text = execFileSync(QEMU, [...machine, ...output], { encoding: 'latin1', timeout: 60_000, input: '' });
        expectAll(text, { cpus, gic, mib: 128 });
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});
