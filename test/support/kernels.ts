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
  readonly vaddr?: number | bigint;
  readonly data: Uint8Array;
  readonly memsz?: number;
}

/** A note for {@link makeElf}. */
export interface TestNote {
  readonly owner: string;
  readonly type: number;
  readonly description: Uint8Array;
}

/** A minimal ELF executable; its notes, if any, are in a segment behind the others. */
export function makeElf(
  segments: readonly TestSegment[],
  options: {
    readonly entry?: number | bigint;
    readonly machine?: number;
    readonly type?: number;
    readonly bits?: 32 | 64;
    readonly notes?: readonly TestNote[];
  } = {},
): Uint8Array {
  const { bits = 64, notes } = options;
  const [header, programHeader, word] = bits === 64 ? [64, 56, 8] : [52, 32, 4];
  const all = segments.map(s => ({ ...s, type: 1 }));
  if (notes) all.push({ paddr: 0, data: makeNotes(notes), type: 4 });
  const tables = header + programHeader * all.length;
  const bytes = new Uint8Array(tables + all.reduce((n, s) => n + s.data.length, 0));
  const d = new DataView(bytes.buffer);
  const setWord = (offset: number, v: number | bigint) =>
    bits === 64 ? d.setBigUint64(offset, BigInt(v), true) : d.setUint32(offset, Number(v), true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]);
  d.setUint16(16, options.type ?? 2, true);
  d.setUint16(18, options.machine ?? 183, true);
  setWord(24, options.entry ?? segments[0]?.vaddr ?? segments[0]?.paddr ?? 0);
  setWord(24 + word, header);
  d.setUint16(header - 10, programHeader, true);
  d.setUint16(header - 8, all.length, true);
  let at = tables;
  for (const [i, s] of all.entries()) {
    const p = header + programHeader * i;
    d.setUint32(p, s.type, true);
    const fields = [at, s.vaddr ?? s.paddr, s.paddr, s.data.length, s.memsz ?? s.data.length];
    for (const [k, v] of fields.entries()) setWord(p + word + word * k, v);
    bytes.set(s.data, at);
    at += s.data.length;
  }
  return bytes;
}

function makeNotes(notes: readonly TestNote[]): Uint8Array {
  const padded = (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  const parts = notes.map(({ owner, type, description }) => {
    const name = Buffer.from(`${owner}\0`);
    const head = new Uint8Array(Uint32Array.of(name.length, description.length, type).buffer);
    return Buffer.concat([head, padded(name), padded(description)]);
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** The PVH note of an ELF file: its entry point as a word of 8 bytes, as Linux writes it, or of 4. */
export function pvhNote(entry: number, size: 4 | 8 = 8): TestNote {
  const description = new Uint8Array(size);
  new DataView(description.buffer).setUint32(0, entry, true);
  return { owner: 'Xen', type: 18, description };
}

/** A note that Linux has. */
export const LINUX_NOTE: TestNote = { owner: 'Linux', type: 0x101, description: new Uint8Array(4) };

/** Fields of {@link makeBzImage}, named as in Documentation/arch/x86/boot.rst. */
export interface BzImageFields {
  readonly setup_sects?: number;
  readonly version?: number;
  readonly loadflags?: number;
  readonly initrd_addr_max?: number;
  readonly kernel_alignment?: number;
  readonly relocatable_kernel?: number;
  readonly xloadflags?: number;
  readonly cmdline_size?: number;
  readonly pref_address?: bigint;
  readonly init_size?: number;
}

/** A small bzImage for tests with `size` bytes of protected-mode code, a multiple of 16; fields are those of Linux 6.1. */
export function makeBzImage(size = 65536, fields: BzImageFields = {}): Uint8Array {
  const setup = fields.setup_sects ?? 4;
  const code = ((setup || 4) + 1) * 512;
  const bytes = new Uint8Array(code + size);
  for (let i = 0; i < size; i++) bytes[code + i] = (i >> 9) * 5 + (i % 59) + 1;
  // What is before the setup header must not get into boot_params.
  bytes.fill(0xff, 0x1e0, 0x1f1);
  const d = new DataView(bytes.buffer);
  d.setUint8(0x1f1, setup);
  d.setUint32(0x1f4, size / 16, true);
  d.setUint16(0x1fe, 0xaa55, true);
  d.setUint16(0x200, 0x6aeb, true); // jmp to 0x26c
  bytes.set(new TextEncoder().encode('HdrS'), 0x202);
  d.setUint16(0x206, fields.version ?? 0x20f, true);
  d.setUint8(0x211, fields.loadflags ?? 1);
  d.setUint32(0x214, 0x100000, true);
  d.setUint32(0x22c, fields.initrd_addr_max ?? 0x7fffffff, true);
  d.setUint32(0x230, fields.kernel_alignment ?? 0x200000, true);
  d.setUint8(0x234, fields.relocatable_kernel ?? 1);
  d.setUint16(0x236, fields.xloadflags ?? 0x7f, true);
  d.setUint32(0x238, fields.cmdline_size ?? 2047, true);
  d.setBigUint64(0x258, fields.pref_address ?? 0x1000000n, true);
  d.setUint32(0x260, fields.init_size ?? size, true);
  d.setUint32(0x268, 0x12345678, true); // kernel_info_offset, the header's last field
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
