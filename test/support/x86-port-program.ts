import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One step of a program of port accesses: a read, a write, or a wait of so many ns. */
export type PortOp =
  | { readonly in: number; readonly size: 1 | 2 | 4 }
  | { readonly out: number; readonly size: 1 | 2 | 4; readonly value: number }
  | { readonly wait: number };

/** What a step did: the value read (0 for the others), and when, in ns of the guest's clock. */
export interface PortResult {
  readonly value: number;
  readonly ns: number;
}

const QEMU = 'qemu-system-x86_64';
const AS = 'x86_64-linux-gnu-as';
const LD = 'x86_64-linux-gnu-ld';
const OBJCOPY = 'x86_64-linux-gnu-objcopy';

/** Time of one instruction: 2^10 ns. */
const SHIFT = 10;
/** Instructions from the RDTSC that is recorded to the end of the access, where its time is. */
const LATENCY = 5;

const DEBUG_PORT = 0xe9;
const ROM_BYTES = 0x8_0000;
const ROM = 0x1_0000_0000 - ROM_BYTES;
const MAX_OPS = (ROM_BYTES - 0x1_0000) / 12;

/** The tools that `runOnQemu` misses on this machine. */
export function missingX86Tools(): string[] {
  return [QEMU, AS, LD, OBJCOPY].filter(t => spawnSync(t, ['--version']).status !== 0);
}

/** A step is three words: the entry of `table`, the port or ns, the value. */
function encode(op: PortOp): [number, number, number] {
  const kinds = { 1: 1, 2: 2, 4: 3 } as const;
  if ('wait' in op) return [7, Math.ceil(op.wait), 0];
  return 'in' in op ? [kinds[op.size], op.in, 0] : [3 + kinds[op.size], op.out, op.value];
}

/**
 * Firmware that interprets `ops`. It runs from the reset vector in flat 32-bit mode without memory. Each step sends the
 * value and the time to the debug port. Interrupts stay disabled.
 */
function assembly(ops: readonly PortOp[]): string {
  const handlers = ['in %dx, %al', 'in %dx, %ax', 'in %dx, %eax', 'out %al, %dx', 'out %ax, %dx', 'out %eax, %dx'];
  const send = (register: string) => [
    `mov %${register}, %eax`,
    ...[0, 1, 2, 3].flatMap(i => [`out %al, $${DEBUG_PORT}`, ...(i < 3 ? ['shr $8, %eax'] : [])]),
  ];
  return `
    .text
    .code32
    ops: ${ops.map(o => `.long ${encode(o).join(', ')}`).join('\n')}
    .long 0, 0, 0
    table: .long done, ${handlers.map((_, i) => `h${i}`).join(', ')}, wait
    protected:
      mov $0x10, %eax
      mov %eax, %ds
      mov $ops, %esi
    next:
      mov (%esi), %ecx
      mov 8(%esi), %ebp
      jmp *table(, %ecx, 4)
    ${handlers
      .map((h, i) => `h${i}: rdtsc; mov %eax, %edi; mov %edx, %ebx; mov 4(%esi), %edx; mov %ebp, %eax; ${h}; jmp sent`)
      .join('\n')}
    sent:
      mov %eax, %ecx
      ${send('ecx').join('\n')}
      ${send('edi').join('\n')}
      ${send('ebx').join('\n')}
      add $12, %esi
      jmp next
    wait:
      rdtsc
      mov %eax, %edi
      mov %edx, %ebx
      add 4(%esi), %edi
      adc $0, %ebx
    1: rdtsc
      cmp %ebx, %edx
      ja 2f
      jb 1b
      cmp %edi, %eax
      jb 1b
    2: xor %eax, %eax
      jmp sent
    done:
      mov $0xcf9, %edx
      mov $6, %al
      out %al, %dx
    1: jmp 1b
    .org ${ROM_BYTES - 0x100}
    segment:
    gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
    gdtr: .word 23
      .long gdt
    .code16
    real:
      cli
      lgdtl %cs:(gdtr - segment + 0xff00)
      mov %cr0, %eax
      or $1, %al
      mov %eax, %cr0
      ljmpl $8, $protected
    .org ${ROM_BYTES - 16}
      jmp real
    .org ${ROM_BYTES}
  `;
}

/**
 * Runs `ops` as code on QEMU's q35 machine, whose time is a count of instructions: the same each time, whatever the host's
 * speed.
 * @param args further arguments, which say what the machine has.
 */
export function runOnQemu(ops: readonly PortOp[], args: readonly string[]): PortResult[] {
  if (ops.length > MAX_OPS) throw new Error(`more than ${MAX_OPS} steps`);
  const dir = mkdtempSync(join(tmpdir(), 'x86-ports-'));
  const run = (command: string, ...a: string[]) => {
    const r = spawnSync(command, a, { cwd: dir, timeout: 60_000, encoding: 'utf8' });
    if (r.status !== 0) throw new Error(`${command}: ${r.error ?? r.signal ?? r.status}: ${r.stderr}`);
  };
  try {
    writeFileSync(join(dir, 'a.s'), assembly(ops));
    run(AS, '--32', '-o', 'a.o', 'a.s');
    run(LD, '-m', 'elf_i386', `-Ttext=0x${ROM.toString(16)}`, '-e', '0', '-o', 'a.elf', 'a.o');
    run(OBJCOPY, '-O', 'binary', '-j', '.text', 'a.elf', 'a.bin');
    const machine = `-M q35 -accel tcg -icount shift=${SHIFT} -nodefaults -display none -monitor none -no-reboot`;
    run(QEMU, ...machine.split(' '), '-bios', 'a.bin', '-debugcon', 'file:out.bin', ...args);
    const out = readFileSync(join(dir, 'out.bin'));
    if (out.length !== 12 * ops.length) throw new Error(`${out.length / 12} of ${ops.length} steps were done`);
    return ops.map((op, n) => {
      const value = 'in' in op ? out.readUInt32LE(12 * n) % 2 ** (8 * op.size) : 0;
      const tsc = Number(out.readBigUInt64LE(12 * n + 4));
      return { value, ns: tsc + ('wait' in op ? 0 : LATENCY * 2 ** SHIFT) };
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
}
