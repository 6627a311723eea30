import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { planX86, type X86Boot } from '../../src/firmware/boot-x86.ts';
import { elfEntry, readElfHeader, readElfNotes, readElfSegments } from '../../src/firmware/elf.ts';
import { isX86Kernel, type LoadedX86Kernel, loadX86Kernel } from '../../src/firmware/x86-kernel.ts';
import { DEBIAN_AMD64 } from '../../src/images/index.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { debian } from '../e2e/debian.ts';
import { installed } from '../support/debs.ts';

/** Debian's kernel and programs of binutils, seen by `file` and `readelf` and by the loader. */
const folder = mkdtempSync(join(tmpdir(), 'tsvisor-x86-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const image = await debian(DEBIAN_AMD64);
const vmlinux = typeof image === 'string' ? image : unpackVmlinux(readFileSync(image.kernel));
if (typeof image !== 'string' && typeof vmlinux === 'string') console.log(`skipped: ${vmlinux}`);
const missing = ['readelf', 'as', 'ld'].filter(name => !installed(name));
const noBinutils = missing.length > 0 ? `not installed: ${missing.join(' ')}` : process.arch !== 'x64' && 'not for x86';
if (noBinutils) console.log(`skipped: ELF files of binutils: ${noBinutils}`);

function run(command: string, ...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** The path of the vmlinux that a bzImage unpacks itself to, made with the program for its compression; or why there is none. */
function unpackVmlinux(bzImage: Buffer): string | { path: string } {
  const code = ((bzImage[0x1f1] || 4) + 1) * 512;
  const start = code + bzImage.readUInt32LE(0x248); // payload_offset
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c)); // payload_length
  // Documentation/arch/x86/boot.rst, "payload_offset", lists the magic numbers.
  const programs = { '02214c18': 'lz4', fd377a58: 'xz', '28b52ffd': 'zstd', '1f8b0800': 'gzip' };
  const magic = payload.subarray(0, 4).toString('hex');
  const program = programs[magic as keyof typeof programs];
  if (program === undefined || !installed(program)) return `there is no program to unpack ${program ?? magic}`;
  // The size that the kernel's build appends is no part of the stream, which some programs complain about.
  const { stdout } = spawnSync(program, ['-dc'], { input: payload, maxBuffer: 2 ** 30 });
  const path = join(folder, 'vmlinux');
  writeFileSync(path, stdout);
  return { path };
}

/** What `readelf` says of program headers: type, then offset, addresses and sizes. */
function readelfSegments(path: string) {
  return [...run('readelf', '-lW', path).matchAll(/^ {2}LOAD +(0x\w+) (0x\w+) (0x\w+) (0x\w+) (0x\w+)/gm)].map(m => ({
    vaddr: BigInt(m[2]!),
    address: Number(m[3]),
    filesz: Number(m[4]),
    size: Number(m[5]),
  }));
}

function readelfEntry(path: string): number {
  return Number(/Entry point address: +(0x\w+)/.exec(run('readelf', '-hW', path))![1]);
}

function expectAsReadelf(path: string): void {
  const file = readFileSync(path);
  const ours = readElfSegments(file).map(s => ({
    vaddr: s.vaddr,
    address: s.address,
    filesz: s.data.length,
    size: s.size,
  }));
  expect(ours).toEqual(readelfSegments(path).filter(s => s.size > 0));
  expect(Number(readElfHeader(file).entry)).toBe(readelfEntry(path));
}

/** A plan for 256 MiB, none of which is touched. */
function plan(kernel: LoadedX86Kernel, initrd?: Uint8Array) {
  const ram = [{ base: 0, size: 256 << 20 }];
  const boot: X86Boot = {
    memory: createGuestMemory([]),
    ram,
    reserved: [{ base: 0xa_0000, size: 0x6_0000, type: 2 }],
    kernel,
    initrd,
    params: 'console=ttyS0',
    acpiRsdp: 0xe_0000,
  };
  return planX86(boot);
}

describe.skipIf(typeof image === 'string')("Debian's kernel for amd64", () => {
  const { kernel: path, initrd, release } = typeof image === 'string' ? { kernel: '', initrd: '', release: '' } : image;

  it('is a bzImage as `file` knows it', context => {
    if (!installed('file')) return context.skip('file is not installed');
    expect(run('file', '-bL', path)).toContain(`Linux kernel x86 boot executable bzImage, version ${release} `);
    expect(isX86Kernel(readFileSync(path))).toBe(true);
    const kernel = loadX86Kernel(readFileSync(path));
    if (kernel.format !== 'bzImage') throw new Error(kernel.format);
    // All of the file but a checksum's worth is code, and the room is enough for what it unpacks to.
    const { protectedMode, setupHeader, initSize } = kernel.header;
    const rest = readFileSync(path).length - protectedMode.length - setupHeader.byteOffset;
    expect(rest).toBeLessThan(65536);
    expect(initSize).toBeGreaterThan(2 * protectedMode.length);
  });

  it('goes where it wants to, with its initrd at the end of RAM', () => {
    const { parts, start } = plan(loadX86Kernel(readFileSync(path)), readFileSync(initrd));
    expect(start).toMatchObject({ mode: 'long', rip: 0x100_0200 });
    expect(parts.at(-1)!.what).toBe('the initrd');
    expect((256 << 20) - parts.at(-1)!.end).toBeLessThan(4096);
  });

  it('has a vmlinux in it, which starts at either of its entry points', context => {
    if (typeof vmlinux === 'string') return context.skip(vmlinux);
    const file = readFileSync(vmlinux.path);
    const kernel = loadX86Kernel(file);
    expect(kernel).toMatchObject({ format: 'vmlinux', entry: 0x100_0000 });
    expect(plan(kernel).start).toMatchObject({ mode: 'long', rip: 0x100_0000 });
    const pvh = loadX86Kernel(file, { entry: 'pvh' });
    expect(plan(pvh).start).toMatchObject({ mode: 'protected', rip: (pvh as { entry: number }).entry });
    if (!installed('readelf')) return context.skip('readelf is not installed');
    expectAsReadelf(vmlinux.path);
    const notes = [...run('readelf', '-nW', vmlinux.path).matchAll(/^ {2}(\w+) +0x\w+\t/gm)].map(m => m[1]);
    expect(readElfNotes(file).map(n => n.owner)).toEqual(notes);
    // readelf prints the bytes of the note with the PVH entry point.
    const note = /type: \(0x0*12\)\s+description data: ((?:\w\w )+)/.exec(run('readelf', '-nW', vmlinux.path));
    const bytes = Buffer.from(note![1]!.replaceAll(' ', ''), 'hex');
    expect((pvh as { entry: number }).entry).toBe(bytes.readUInt32LE());
  });
});

describe.skipIf(noBinutils)('programs of binutils', () => {
  /** Assembles and links a program with its code at 2 MiB and data behind it. */
  function build(name: string, bits: 32 | 64, source: string, ...flags: string[]): string {
    const [asm, object, out] = ['s', 'o', 'elf'].map(e => join(folder, `${name}.${e}`)) as [string, string, string];
    writeFileSync(asm, source);
    run('as', `--${bits}`, '-o', object, asm);
    run('ld', '-m', bits === 64 ? 'elf_x86_64' : 'elf_i386', ...flags, '-Ttext=0x200000', '-o', out, object);
    return out;
  }
  const source = '.globl _start\nnop\n_start: hlt\n.data\n.long 42\n.bss\n.skip 5000\n';
  const note = '.section .note.pvh, "a", @note\n.align 4\n.long 4, 4, 18\n.asciz "Xen"\n.long _start\n.text\n';
  const pvh = `${note}${source}`;

  it.each([
    ['elf64', 64, source],
    ['elf32', 32, source],
    ['pvh', 64, pvh],
    ['pvh', 32, pvh],
  ] as const)('are loaded as %s (%i bits)', (format, bits, text) => {
    const path = build(`${format}-${bits}`, bits, text);
    expectAsReadelf(path);
    const kernel = loadX86Kernel(readFileSync(path));
    expect(kernel).toMatchObject({ format, entry: readelfEntry(path) });
    expect(elfEntry(readFileSync(path))).toBe(0x20_0001);
    expect(plan(kernel).start.rip).toBe(0x20_0001);
  });
});
