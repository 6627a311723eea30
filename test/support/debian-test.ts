import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { assemble } from '../../scripts/asm/assemble.ts';
import { bootDebian, type Guest, type Listener } from './guest.ts';

/** Bytes of a MiB. */
export const MIB = 2 ** 20;

/** Boots, or skips the test and prints the reason. */
export async function boot(
  skip: (why: string) => void,
  options: Parameters<typeof bootDebian>[0],
  onLog?: Listener,
  prepare?: Parameters<typeof bootDebian>[2],
): Promise<Guest> {
  const guest = await bootDebian({ memory: '256M', slots: 0, ...options }, onLog, prepare);
  if (typeof guest !== 'string') return guest;
  skip(guest);
  throw new Error('skipped');
}

/** A folder for the tests of a file, gone after them. */
export function testFolder(name: string): { at(file: string): string } {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), `tsvisor-${name}-`));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });
  return { at: file => join(folder, file) };
}

/** A file of random bytes. */
export function randomFile(path: string, bytes: number): Buffer {
  const content = randomBytes(bytes);
  writeFileSync(path, content);
  return content;
}

/** MD5 (hex), which busybox in the guest works out fastest. */
export function md5(content: Uint8Array): string {
  return createHash('md5').update(content).digest('hex');
}

/** MD5 of a file, see {@link md5}. */
export function md5Of(path: string): string {
  return md5(readFileSync(path));
}

/** Where {@link program} puts what it makes. */
const PROGRAM_BASE = 0x40_0000;
/** Bytes of an ELF header and of one program header. */
const HEADERS = 64 + 56;

/** Bytes of zeroes behind a {@link program}. */
const BUFFER = 128 * 1024;

/** A static arm64 Linux program of some assembly, which may use {@link BUFFER} bytes behind its end. */
export function program(source: string): Uint8Array {
  const { bytes } = assemble(source, { base: BigInt(PROGRAM_BASE + HEADERS) });
  const elf = Buffer.alloc(HEADERS + bytes.length);
  elf.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  elf.writeUInt16LE(2, 16); // ET_EXEC
  elf.writeUInt16LE(183, 18); // EM_AARCH64
  elf.writeUInt32LE(1, 20);
  elf.writeUInt32LE(PROGRAM_BASE + HEADERS, 24);
  elf.writeUInt32LE(64, 32);
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(7, 68); // of everything, readable, writable and executable
  elf.writeUInt32LE(PROGRAM_BASE, 80);
  elf.writeUInt32LE(PROGRAM_BASE, 88);
  elf.writeUInt32LE(elf.length, 96);
  elf.writeUInt32LE(elf.length + BUFFER, 104);
  elf.writeUInt32LE(0x1000, 112);
  elf.set(bytes, HEADERS);
  return elf;
}

/** The shell command that puts a small program into the guest. */
export function install(path: string, bytes: Uint8Array): string {
  return `echo ${Buffer.from(bytes).toString('base64')} | base64 -d >${path} && chmod +x ${path}`;
}
