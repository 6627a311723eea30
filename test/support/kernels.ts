import { VmError } from '../../src/util/errors.ts';

/** Bytes of a small arm64 image for tests: a valid header, then a pattern that compresses well. */
export function makeArm64Image(
  size = 200_000,
  fields: { textOffset?: bigint; imageSize?: bigint; flags?: bigint } = {},
): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 64; i < size; i++) bytes[i] = (i >> 13) * 7 + (i % 61);
  const d = new DataView(bytes.buffer);
  d.setUint32(0, 0x14000010, true); // code0: b .+64
  d.setBigUint64(8, fields.textOffset ?? 0n, true);
  d.setBigUint64(16, fields.imageSize ?? 0x40000n, true);
  d.setBigUint64(24, fields.flags ?? 0xan, true);
  d.setUint32(56, 0x644d5241, true);
  return bytes;
}

/** {@link makeArm64Image} as `zstd --ultra -22` 1.5.4 packs it from a pipe: two blocks, a checksum and no content size. */
export const IMAGE_ZST = Uint8Array.from(
  atob(
    'KLUv/QSItAgAJAsQAAAUAAQKAEFSTWQDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8AAEC' +
      'PT4/QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7gIGCfH1+f4OEhYaHiImKi4yNjo+Q' +
      'kZKTlJWWl5iZmpucnZ6foKGio6SlMKBhighJ4PufAZAttRvA37NlAn//vQn4e/EEAP++8Rf497pSLuCH3pkz8OsvyYF/XxkH/C3rEfD3Mc4Cf+99' +
      'Cfx7MUzgT9+cgV9/Mj3gh3rUP3nnTV4N+IC6gMUhxIX7UHmVAwAEBKanqKmqq6ytrq+wsbKzd7S1tre4ubq7vL2+v8DBw8TFxsfIwsnKy8zNzs/Q' +
      '0dLT1NXW19jZ2tvc3d7f4OHi4+QZsFAlIx8A9YSOAn9f4xD4e4tB4N/POegAP3o2T+Dv4TEH/v2kkQ/49eUE/p4MOJ+P9ag+',
  ),
  c => c.charCodeAt(0),
);

/** An EFI zboot file around a payload. */
export function makeZboot(payload: Uint8Array, compression: string, trailer = 0): Uint8Array {
  const bytes = new Uint8Array(4096 + payload.length);
  const d = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode('MZ\0\0zimg'), 0);
  d.setUint32(8, 4096, true);
  d.setUint32(12, payload.length - trailer, true);
  bytes.set(new TextEncoder().encode(compression), 24);
  bytes.set(payload, 4096);
  return bytes;
}

/** A segment for {@link makeElf}. */
export interface TestSegment {
  readonly paddr: number;
  readonly vaddr?: number;
  readonly data: Uint8Array;
  readonly memsz?: number;
}

/** A minimal ELF64 executable. */
export function makeElf(
  segments: readonly TestSegment[],
  options: { entry?: number; machine?: number; type?: number } = {},
): Uint8Array {
  const tables = 64 + 56 * segments.length;
  const bytes = new Uint8Array(tables + segments.reduce((n, s) => n + s.data.length, 0));
  const d = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  d.setUint16(16, options.type ?? 2, true);
  d.setUint16(18, options.machine ?? 183, true);
  d.setBigUint64(24, BigInt(options.entry ?? segments[0]?.vaddr ?? segments[0]?.paddr ?? 0), true);
  d.setBigUint64(32, 64n, true);
  d.setUint16(54, 56, true);
  d.setUint16(56, segments.length, true);
  let at = tables;
  for (const [i, s] of segments.entries()) {
    const p = 64 + 56 * i;
    d.setUint32(p, 1, true);
    const fields = [at, s.vaddr ?? s.paddr, s.paddr, s.data.length, s.memsz ?? s.data.length];
    for (const [k, v] of fields.entries()) d.setBigUint64(p + 8 + 8 * k, BigInt(v), true);
    bytes.set(s.data, at);
    at += s.data.length;
  }
  return bytes;
}

/** The code of the VmError that `f` throws; other exceptions pass. */
export function codeOf(f: () => unknown): string {
  try {
    f();
  } catch (e) {
    if (e instanceof VmError) return e.code;
    throw e;
  }
  return 'no error';
}

/** The message of what `f` throws. */
export function messageOf(f: () => unknown): string {
  try {
    f();
  } catch (e) {
    return (e as Error).message;
  }
  return 'no error';
}
