import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** GNU binutils for x86-64, by their names in Debian; plain ones do on a host of that architecture. */
const PREFIXES = ['x86_64-linux-gnu-', ...(process.arch === 'x64' ? [''] : [])];
/** Bytes that a program may have. */
const ROOM = 0x2000;

/** A program in the Intel syntax of GNU as. Its labels are local ones (`1:`); data has fixed addresses. */
export interface X86Program {
  readonly bits: 16 | 32 | 64;
  readonly source: string;
}

/** Prefix of the tools' names; undefined: they are not installed (Debian: binutils). */
export function x86Binutils(): string | undefined {
  return PREFIXES.find(p => ['as', 'objcopy'].every(t => spawnSync(p + t, ['--version']).status === 0));
}

/**
 * Assembles programs, all by one run of the assembler: its start costs more than its work. Each may have 8 KiB, and begins at a
 * multiple of that, so that `.p2align` up to 13 holds at its address, too.
 * @throws Error with the assembler's messages, or when the tools are missing.
 */
export function assembleX86(programs: readonly X86Program[]): Uint8Array[] {
  const prefix = x86Binutils();
  if (prefix === undefined) throw new Error('GNU as for x86-64 is not installed (Debian: binutils)');
  const folder = mkdtempSync(join(tmpdir(), 'tsvisor-x86-'));
  const [object, binary] = [join(folder, 'a.o'), join(folder, 'a.bin')];
  // .org cannot go back: a program that is too long is an error.
  const sections = programs.map((p, n) => `\n.org ${n * ROOM}\n.code${p.bits}\n${p.source}`);
  try {
    execFileSync(`${prefix}as`, ['--64', '-o', object, '-'], {
      input: `.intel_syntax noprefix\n.text\n${sections.join('')}\n.org ${programs.length * ROOM}\n`,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    execFileSync(`${prefix}objcopy`, ['-O', 'binary', '-j', '.text', object, binary]);
    const all = readFileSync(binary);
    return programs.map((_, n) => Uint8Array.from(all.subarray(n * ROOM, (n + 1) * ROOM)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
