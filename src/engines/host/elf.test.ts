import { expect, test } from 'vitest';
import { type ByteReader, elfInterpreter, elfMachine, libcOf } from './elf.ts';

/** A 64-bit little-endian ELF file: a header, two program headers, and PT_INTERP's string if there is one. */
function elf(machine: number, interpreter?: string): Uint8Array {
  const bytes = new Uint8Array(0x200);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, machine, true);
  view.setBigUint64(32, 64n, true); // e_phoff
  view.setUint16(54, 56, true); // e_phentsize
  view.setUint16(56, interpreter === undefined ? 1 : 2, true); // e_phnum
  view.setUint32(64, 1, true); // PT_LOAD
  if (interpreter !== undefined) {
    view.setUint32(64 + 56, 3, true); // PT_INTERP
    view.setBigUint64(64 + 56 + 8, 0x180n, true); // p_offset
    view.setBigUint64(64 + 56 + 32, BigInt(interpreter.length + 1), true); // p_filesz
    bytes.set(new TextEncoder().encode(`${interpreter}\0`), 0x180);
  }
  return bytes;
}

const readerOf =
  (bytes: Uint8Array): ByteReader =>
  (offset, length) =>
    bytes.subarray(offset, offset + length);

test('the machine of an ELF file, and undefined for anything else', () => {
  expect(elfMachine(readerOf(elf(62)))).toBe(62);
  expect(elfMachine(readerOf(elf(183)))).toBe(183);
  expect(elfMachine(readerOf(new Uint8Array(0)))).toBeUndefined();
  expect(elfMachine(readerOf(new TextEncoder().encode('#!/bin/sh\n'.repeat(10))))).toBeUndefined();
  const thirtyTwoBits = elf(3);
  thirtyTwoBits[4] = 1;
  expect(elfMachine(readerOf(thirtyTwoBits))).toBeUndefined();
  const bigEndian = elf(21);
  bigEndian[5] = 2;
  expect(elfMachine(readerOf(bigEndian))).toBeUndefined();
});

test.each([
  ['/lib64/ld-linux-x86-64.so.2', 'glibc'],
  ['/lib/ld-linux-aarch64.so.1', 'glibc'],
  ['/nix/store/abc-glibc-2.38/lib/ld-linux-x86-64.so.2', 'glibc'],
  ['/lib/ld-musl-x86_64.so.1', 'musl'],
  ['/lib/ld-musl-aarch64.so.1', 'musl'],
  ['/system/bin/linker64', undefined],
  [undefined, undefined],
])('a program of the dynamic linker %s is of %s', (interpreter, libc) => {
  const file = readerOf(elf(62, interpreter));
  expect(elfInterpreter(file)).toBe(interpreter);
  expect(libcOf(file)).toBe(libc);
});

test('headers that make no sense are passed over', () => {
  const outside = elf(62, '/lib64/ld-linux-x86-64.so.2');
  new DataView(outside.buffer).setBigUint64(32, 0xffff_ffff_ffffn, true);
  expect(elfInterpreter(readerOf(outside))).toBeUndefined();
  const tiny = elf(62, '/lib64/ld-linux-x86-64.so.2');
  new DataView(tiny.buffer).setUint16(54, 0, true);
  expect(elfInterpreter(readerOf(tiny))).toBeUndefined();
});
