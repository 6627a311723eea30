import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AsmError, assemble } from '../../scripts/asm/assemble.ts';
import { systemRegisterNames } from '../../scripts/asm/sysregs.ts';

const AS = 'aarch64-linux-gnu-as';
const gas = spawnSync(AS, ['--version']).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'tsvisor-asm-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Bytes that GNU as makes, linked for address 0. */
function gnu(source: string): Uint8Array {
  const [object, linked, binary] = ['o', 'elf', 'bin'].map(e => join(folder, `a.${e}`)) as [string, string, string];
  execFileSync(AS, ['-march=armv8.2-a+fp16', '-o', object, '-'], { input: source, stdio: ['pipe', 'ignore', 'pipe'] });
  // Absolute addresses need the linker; nothing is relaxed or moved with one section.
  execFileSync('aarch64-linux-gnu-ld', ['-Ttext=0', '-e', '0', '-o', linked, object]);
  execFileSync('aarch64-linux-gnu-objcopy', ['-O', 'binary', '-j', '.text', linked, binary]);
  return readFileSync(binary);
}

/** Compares words and shows the source line of the first ones that differ. */
function compare(source: string): void {
  const ours = assemble(source).bytes;
  const theirs = gnu(source);
  const words = (b: Uint8Array) => Buffer.from(b).toString('hex');
  if (words(ours) === words(theirs)) return;
  // Line by line: label-free instructions alone tell which one is wrong.
  const wrong: string[] = [];
  for (let at = 0; at < Math.max(ours.length, theirs.length) && wrong.length < 20; at += 4) {
    const [a, b] = [ours, theirs].map(x => words(x.subarray(at, at + 4)));
    if (a !== b) wrong.push(`+0x${at.toString(16)}: ${a} instead of ${b}`);
  }
  expect.fail(wrong.join('\n'));
}

const why = gas ? '' : ` (skipped: ${AS} is not installed; Debian: binutils-aarch64-linux-gnu)`;

describe.skipIf(!gas)(`the test assembler beside GNU as${why}`, () => {
  it('makes the same bytes', () => {
    compare(readFileSync(new URL('fixtures/assembler.s', import.meta.url), 'utf8'));
  });

  it('knows the same system registers', () => {
    // Names that GNU as knows only for reading or only for writing, or not by this name.
    const readOnly = systemRegisterNames().filter(n => !['oslar_el1', 'pmswinc_el0', 'dbgdtrtx_el0'].includes(n));
    const writeOnly = /^(icc_(eoir|dir|a?sgi)|oslar|pmswinc|dbgdtrtx)/;
    const lines = readOnly.map(n => (writeOnly.test(n) ? `msr ${n}, x1` : `mrs x1, ${n}`));
    compare(`${lines.join('\n')}\n`);
  });

  it('encodes every logical immediate', () => {
    const lines: string[] = [];
    for (let size = 2; size <= 64; size *= 2) {
      for (let ones = 1; ones < size; ones += size > 16 ? 5 : 1) {
        for (let by = 0; by < size; by += size > 16 ? 7 : 1) {
          const mask = (1n << BigInt(size)) - 1n;
          const run = (1n << BigInt(ones)) - 1n;
          let v = ((run << BigInt(by)) | (run >> BigInt(size - by))) & mask;
          for (let s = size; s < 64; s *= 2) v |= v << BigInt(s);
          lines.push(`and x1, x2, #0x${v.toString(16)}`);
          if (size <= 32) lines.push(`orr w1, w2, #0x${(v & 0xffffffffn).toString(16)}`);
        }
      }
    }
    compare(`${lines.join('\n')}\n`);
  });
});

describe('the test assembler', () => {
  const words = (source: string) => {
    const { bytes } = assemble(source);
    const view = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true).toString(16));
  };

  it('encodes instructions', () => {
    // Words from the Arm ARM's encodings by hand.
    expect(words('nop; ret; eret; svc #1; wfi')).toEqual(['d503201f', 'd65f03c0', 'd69f03e0', 'd4000021', 'd503207f']);
    expect(words('mov x0, #1; add x0, x1, x2; sub sp, sp, #16')).toEqual(['d2800020', '8b020020', 'd10043ff']);
    expect(words('b .; bl .+8; cbz x1, .-4')).toEqual(['14000000', '94000002', 'b4ffffe1']);
  });

  it('resolves labels forwards and backwards', () => {
    const { symbols, bytes } = assemble('a: b c\n1: b 1f\nb 1b\n1:\nc: .quad a, c - a\nd = c + 1\n', { base: 0x1000n });
    expect(symbols.get('c')).toBe(0x100cn);
    expect(symbols.get('d')).toBe(0x100dn);
    const view = new DataView(bytes.buffer);
    expect([0, 4, 8].map(at => view.getUint32(at, true))).toEqual([0x14000003, 0x14000002, 0x17ffffff]);
    expect(view.getBigUint64(12, true)).toBe(0x1000n);
    expect(view.getBigUint64(20, true)).toBe(12n);
  });

  it('shares the entries of a literal pool', () => {
    const { bytes } = assemble('ldr x0, =0x1234567890\nldr x1, =0x1234567890\nldr x2, =later\n.ltorg\nlater: nop\n');
    // Three instructions, padding, two constants, one instruction.
    expect(bytes.length).toBe(12 + 4 + 16 + 4);
    expect(new DataView(bytes.buffer).getBigUint64(24, true)).toBe(32n);
  });

  it.each([
    ['nop\nfrob x0', 2, /unknown instruction 'frob'/],
    ['add x0, x1', 1, /takes 3 to 4 operands, not 2/],
    ['add x0, w1, #1', 1, /'w1' is not of the size of 'x0'/],
    ['add x0, x1, #4097', 1, /4097 is no 12-bit number/],
    ['and x0, x1, #5', 1, /0x5 is no bitmask immediate/],
    ['mov x0, #0x12345678', 1, /needs more than one instruction/],
    ['ldr x0, [x1, #32768]', 1, /out of reach/],
    ['ldr x0, [xzr]', 1, /cannot be a base/],
    ['\n\nb far\n.skip 0x8000000\nfar:', 3, /too far away/],
    ['b nowhere', 1, /'nowhere' is not defined/],
    ['a:\na:', 2, /'a' is defined twice/],
    ['.byte 1\nnop', 2, /aligned to 4 bytes/],
    ['.byte 256', 1, /256 does not fit into 1 bytes/],
    ['.frob', 1, /unknown directive/],
    ['.rept 2\nnop', 1, /without .endr/],
    ['mrs x0, FROB_EL1', 1, /no system register/],
    ['dc zva', 1, /takes 2 operands/],
    ['fmov d0, #0.1', 1, /no 8-bit form/],
    ['nop nop', 1, /expected a value|takes 0|too much|is not defined/],
    ['mov x0, #1 2', 1, /expected ','/],
    ['mov x0, #(1', 1, /expected '\)'/],
    ['.word 1 / 0', 1, /division by zero/],
    ['mov x0, @', 1, /unexpected character/],
  ])('says what is wrong with %j', (source, line, reason) => {
    let error: unknown;
    try {
      assemble(source);
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(AsmError);
    expect((error as AsmError).message).toMatch(reason);
    expect((error as AsmError).line).toBe(line);
  });
});
