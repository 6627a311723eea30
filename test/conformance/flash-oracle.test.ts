// CFI flash against the flash of QEMU's virt board, through QEMU's qtest protocol: the guest's CPUs never run. Left out are the
// things in which the two mean to differ, or in which QEMU is content with what drivers need:
// - CFI-6: QEMU stores what is programmed, ours can only clear bits. Here bits are only cleared.
// - CFI-2: QEMU has no lock bits. Here blocks are unlocked only.
// - CFI-3, CFI-4: what follows a wrong second cycle. QEMU goes back to read-array mode and reports nothing.
// - The status right behind "clear status", which is not ready in QEMU until the next operation.
// - Writes while the query table is shown: QEMU leaves it for 0xff only.
// - Codes that are no commands, 0x00 and 0xf0 among them, with which QEMU goes back to read-array mode.
// - In the query table the times, the interface's code and the features; odd bytes of anything but the array.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CfiFlash } from '../../src/devices/cfi-flash/device.ts';

const QEMU = 'qemu-system-aarch64';
const missing = spawnSync(QEMU, ['--version']).error;
if (missing) console.log(`skipped: flash-oracle: ${QEMU} (package qemu-system-arm) does not run: ${missing.message}`);

const MIB = 2 ** 20;
/** The second bank, and its geometry (hw/arm/virt.c: sectors of 256 KiB; a buffer of 2 KiB a chip). */
const BASE = 0x400_0000;
const GEOMETRY = { size: 64 * MIB, blockSize: 256 * 1024, bufferSize: 4096 };
/** Blocks that are used. */
const BLOCKS = [0, 1, 2, 255];
/** Bytes of each block that are used, at its start and at its end. */
const EDGE = 256;

type Size = 1 | 2 | 4 | 8;
interface Op {
  readonly offset: number;
  readonly size: Size;
  /** Undefined: a read. */
  readonly value?: number;
}

const LETTER = { 1: 'b', 2: 'w', 4: 'l', 8: 'q' } as const;

/** What QEMU reads, in the order of the reads among `ops`. */
async function onQemu(ops: readonly Op[]): Promise<bigint[]> {
  const commands = ops.map(({ offset, size, value }) =>
    value === undefined ? `read${LETTER[size]} ${BASE + offset}\n` : `write${LETTER[size]} ${BASE + offset} ${value}\n`,
  );
  const args = ['-machine', 'virt', '-accel', 'tcg', '-S', '-nodefaults', '-display', 'none', '-serial', 'null'];
  args.push('-qtest', 'stdio', '-qtest-log', 'none');
  const qemu = spawn(QEMU, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    qemu.stdin.end(commands.join(''));
    const answers: string[] = [];
    for await (const line of createInterface(qemu.stdout)) {
      if (!line.startsWith('OK')) expect.fail(`${commands[answers.length]}: ${line}`);
      if (answers.push(line) === ops.length) break; // QEMU stays at the end of its input
    }
    return answers.filter((_, i) => ops[i]?.value === undefined).map(l => BigInt(l.slice(3)));
  } finally {
    qemu.kill();
  }
}

/** The same of ours. */
function onOurs(ops: readonly Op[]): bigint[] {
  const flash = new CfiFlash({ name: 'flash', geometry: GEOMETRY, array: new Uint8Array(GEOMETRY.size) });
  const values: bigint[] = [];
  for (const { offset, size, value } of ops) {
    if (value !== undefined) flash.write(offset, size as 4, value);
    else if (size === 8) values.push(flash.read64(offset));
    else values.push(BigInt(flash.read(offset, size)));
  }
  return values;
}

/** Whole commands, as a driver gives them, with the reads that show what became of them. */
class Script {
  readonly ops: Op[] = [];
  /** What is in the flash, for values that only clear bits. */
  readonly #array = new Uint8Array(GEOMETRY.size);

  erase(block: number): void {
    const at = block * GEOMETRY.blockSize;
    this.#command(at, 0x20);
    this.#command(at, 0xd0);
    this.#read(at, 4);
    this.#array.fill(0xff, at, at + GEOMETRY.blockSize);
  }

  word(code: number, at: number, size: 1 | 2 | 4, value: number): void {
    this.#command(at, code);
    this.#data(at, size, value);
    this.#read(at - (at % 4), 4);
  }

  buffer(at: number, words: readonly number[]): void {
    this.#command(at, 0xe8);
    this.#read(at, 4);
    this.#command(at, words.length - 1);
    for (const [i, w] of words.entries()) this.#data(at + 4 * i, 4, w);
    this.#command(0, 0xd0);
    this.#read(at, 4);
  }

  /** Another operation, whose end is the status again, before the status is looked at. */
  clear(block: number): void {
    this.#command(0, 0x50);
    this.#read(block * GEOMETRY.blockSize, 4);
    this.unlock(block);
  }

  unlock(block: number): void {
    const at = block * GEOMETRY.blockSize;
    this.#command(at, 0x60);
    this.#command(at, 0xd0);
    this.#read(at, 4);
  }

  status(at: number, size: 2 | 4 | 8): void {
    this.#command(at, 0x70);
    this.#read(at, size);
  }

  identifier(block: number, word: number): void {
    this.#command(0, 0x90);
    this.#read(block * GEOMETRY.blockSize + 4 * word, 4);
  }

  query(entry: number, size: 2 | 4 | 8): void {
    this.#command(0, 0x98);
    this.#read(4 * entry, size);
    this.#command(0, 0xff);
  }

  array(at: number, size: Size): void {
    this.#command(0, 0xff);
    this.#read(at, size);
  }

  #command(offset: number, code: number): void {
    this.ops.push({ offset: offset - (offset % 4), size: 4, value: ((code << 16) | code) >>> 0 });
  }

  #data(at: number, size: 1 | 2 | 4, value: number): void {
    let cleared = 0;
    for (let i = size - 1; i >= 0; i--) {
      this.#array[at + i]! &= value >>> (8 * i);
      cleared = cleared * 256 + this.#array[at + i]!;
    }
    this.ops.push({ offset: at, size, value: cleared });
  }

  #read(offset: number, size: Size): void {
    this.ops.push({ offset, size });
  }
}

// What both tables have: identification, set of commands, its table, supply, size, buffer, blocks, "PRI10".
const ENTRIES = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x1b, 0x1c, 0x27, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30];
ENTRIES.push(0x31, 0x32, 0x33, 0x34, 0x35, 0x3ff);

describe.skipIf(missing)('CFI flash and that of QEMU', () => {
  it('erases, programs, shows status, identifier, query table and contents alike', async () => {
    const block = fc.constantFrom(...BLOCKS);
    const at = fc
      .record({ block, edge: fc.nat(2 * EDGE - 1) })
      .map(r => r.block * GEOMETRY.blockSize + (r.edge < EDGE ? r.edge : GEOMETRY.blockSize - 2 * EDGE + r.edge));
    const aligned = (size: number) => at.map(a => a - (a % size));
    const value = fc.nat(0xffff_ffff);
    const step = fc.oneof(
      { weight: 1, arbitrary: block.map(b => (s: Script) => s.erase(b)) },
      {
        weight: 4,
        arbitrary: fc
          .tuple(fc.constantFrom(0x40, 0x10), fc.constantFrom(1 as const, 2 as const, 4 as const), at, value)
          .map(
            ([code, size, a, v]) =>
              (s: Script) =>
                s.word(code, a - (a % size), size, v),
          ),
      },
      {
        weight: 3,
        arbitrary: fc.tuple(aligned(EDGE), fc.array(value, { minLength: 1, maxLength: EDGE / 4 })).map(
          ([a, words]) =>
            (s: Script) =>
              s.buffer(a, words),
        ),
      },
      { weight: 1, arbitrary: block.map(b => (s: Script) => s.clear(b)) },
      { weight: 1, arbitrary: block.map(b => (s: Script) => s.unlock(b)) },
      {
        weight: 2,
        arbitrary: fc.tuple(aligned(8), fc.constantFrom(2 as const, 4 as const, 8 as const)).map(
          ([a, size]) =>
            (s: Script) =>
              s.status(a, size),
        ),
      },
      {
        weight: 2,
        arbitrary: fc.tuple(block, fc.nat(5)).map(
          ([b, w]) =>
            (s: Script) =>
              s.identifier(b, w),
        ),
      },
      {
        weight: 2,
        arbitrary: fc.tuple(fc.constantFrom(...ENTRIES), fc.constantFrom(2 as const, 4 as const)).map(
          ([e, size]) =>
            (s: Script) =>
              s.query(e, size),
        ),
      },
      {
        weight: 4,
        arbitrary: fc.tuple(fc.constantFrom<Size>(1, 2, 4, 8), at).map(
          ([size, a]) =>
            (s: Script) =>
              s.array(a - (a % size), size),
        ),
      },
    );
    const script = new Script();
    // QEMU's flash without a file is zeroes, which are left alone in all other blocks.
    for (const b of BLOCKS) script.erase(b);
    for (const entry of ENTRIES) script.query(entry, 4);
    for (const b of BLOCKS) for (let word = 0; word < 5; word++) script.identifier(b, word);
    for (const play of fc.sample(step, { seed: 3, numRuns: 3000 })) play(script);
    for (const b of BLOCKS) {
      for (let a = 0; a < EDGE; a += 8) {
        script.array(b * GEOMETRY.blockSize + a, 8);
        script.array((b + 1) * GEOMETRY.blockSize - EDGE + a, 8);
      }
    }
    script.array(3 * GEOMETRY.blockSize, 4);
    expect(onOurs(script.ops)).toEqual(await onQemu(script.ops));
  });
});
