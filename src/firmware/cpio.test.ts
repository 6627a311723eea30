import { describe, expect, it } from 'vitest';
import { codeOf } from '../../test/support/kernels.ts';
import { type CpioEntry, createCpio, readCpio, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from './cpio.ts';

const text = (s: string) => new TextEncoder().encode(s);
const ENTRIES: CpioEntry[] = [
  { path: 'init', mode: S_IFREG | 0o755, data: text('#!/bin/sh\n') },
  { path: 'bin/sh', mode: S_IFLNK | 0o777, data: text('busybox') },
  { path: 'bin', mode: S_IFDIR | 0o755 },
  { path: 'dev/console', mode: S_IFCHR | 0o600, major: 5, minor: 1 },
];

describe('createCpio', () => {
  it('writes the header that the kernel expects', () => {
    const ascii = new TextDecoder().decode(createCpio([{ path: 'a', mode: S_IFREG | 0o644, data: text('xyz') }]));
    // buffer-format.rst: ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize chksum, each 8 hexadecimal digits
    const fields =
      '00000001 000081a4 00000000 00000000 00000001 00000000 00000003 00000000 00000000 00000000 00000000 00000002 00000000';
    expect(ascii.slice(0, 110)).toBe(`070701${fields.replaceAll(' ', '')}`);
    expect(ascii.slice(110, 116)).toBe('a\0xyz\0'); // 112 is aligned already; one byte of padding behind the data
    expect(ascii.slice(116, 122)).toBe('070701');
    expect(ascii).toContain('TRAILER!!!\0');
    expect(ascii.length % 4).toBe(0);
  });

  it('gives the same bytes for any order, and folders before their contents', () => {
    const bytes = createCpio(ENTRIES);
    expect(createCpio([...ENTRIES].reverse())).toEqual(bytes);
    expect(readCpio(bytes).map(e => e.path)).toEqual(['bin', 'bin/sh', 'dev/console', 'init']);
  });

  it('refuses bad and repeated paths', () => {
    for (const paths of [[''], ['/a'], ['a', 'b', 'a']]) {
      expect(codeOf(() => createCpio(paths.map(path => ({ path, mode: S_IFREG }))))).toBe('ERR_INTERNAL');
    }
  });
});

describe('readCpio', () => {
  it('reads back what was written', () => {
    const sh = readCpio(createCpio(ENTRIES)).find(e => e.path === 'bin/sh');
    expect(sh?.mode).toBe(S_IFLNK | 0o777);
    expect(new TextDecoder().decode(sh?.data)).toBe('busybox');
    expect(readCpio(createCpio(ENTRIES)).find(e => e.path === 'dev/console')).toMatchObject({ major: 5, minor: 1 });
  });

  it('refuses an archive cut off anywhere, and other bytes', () => {
    const bytes = createCpio(ENTRIES);
    for (let n = 0; n < bytes.length - 120; n += 7) {
      expect(codeOf(() => readCpio(bytes.subarray(0, n)))).toBe('ERR_KERNEL_CORRUPT');
    }
    expect(codeOf(() => readCpio(text('x'.repeat(200))))).toBe('ERR_KERNEL_CORRUPT');
    const bad = Uint8Array.from(bytes);
    bad[20] = 0x7a; // 'z' is no hexadecimal digit
    expect(codeOf(() => readCpio(bad))).toBe('ERR_KERNEL_CORRUPT');
  });
});
