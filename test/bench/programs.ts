import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('./programs/', import.meta.url));
/** Where everything that is built for the benchmark goes. */
export const BUILD = fileURLToPath(new URL('../../build/bench/', import.meta.url));
/** The cross compiler. */
export const GCC = 'aarch64-linux-gnu-gcc';
const OBJCOPY = 'aarch64-linux-gnu-objcopy';

/** The benchmark programs, with the least part of QEMU's speed that issue 2 asks for. */
export const PROGRAMS = [
  { name: 'coremark-like', asked: 0.25 },
  { name: 'sieve', asked: 0.3 },
  { name: 'bytes', asked: 0.3 },
  { name: 'fib', asked: 0.3 },
  { name: 'switch', asked: 0.3 },
  { name: 'linpack', asked: 0.3 },
] as const;

// Loops stay what they are in the source: no vector instructions, no calls of memset() in their place.
const CFLAGS = [
  ...['-O2', '-march=armv8-a', '-ffreestanding', '-nostdlib', '-static', '-fno-pic', '-no-pie', '-Wall', '-Wextra'],
  ...['-fno-builtin', '-fno-tree-vectorize', '-fno-tree-loop-distribute-patterns', '-fno-stack-protector'],
  ...['-fno-asynchronous-unwind-tables', '-Wl,--build-id=none', '-Wl,--no-warn-rwx-segments', '-Wl,-T,link.ld'],
];

/** Why the programs cannot be built here, or undefined. */
export function missingCompiler(): string | undefined {
  for (const tool of [GCC, OBJCOPY]) {
    if (spawnSync(tool, ['--version']).status !== 0) {
      return `${tool} is not installed (Debian: gcc-aarch64-linux-gnu)`;
    }
  }
  return undefined;
}

/** Builds one program into build/bench and returns the path of its arm64 Image. */
export function buildProgram(name: string): string {
  mkdirSync(BUILD, { recursive: true });
  const elf = join(BUILD, `${name}.elf`);
  const image = join(BUILD, `${name}.img`);
  tool(GCC, [...CFLAGS, '-o', elf, 'crt0.S', 'runtime.c', `${name}.c`]);
  tool(OBJCOPY, ['-O', 'binary', elf, image]);
  return image;
}

function tool(command: string, args: readonly string[]): void {
  const r = spawnSync(command, args, { cwd: SOURCES, encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${command} failed:\n${r.stderr}`);
}
