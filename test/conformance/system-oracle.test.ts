// The same bare-metal program on the core and on QEMU's Cortex-A57: what each exception leaves in ESR, FAR, ELR and SPSR.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { assemble } from '../../scripts/asm/assemble.ts';
import { Guest } from './system-guest.ts';

const missing = ['qemu-system-aarch64'].filter(t => spawnSync(t, ['--version']).status !== 0);
const UART = 0x0900_0000;
const BASE = 0x4030_0000;
const TABLES = 0x4010_0000;
const DATA = 0x4040_0000;

/**
 * Probes: instructions with X1 = an address, at EL0 or EL1. The pages behind DATA: 0 both may write, 1 not mapped,
 * 2 read-only for both, 3 EL1 only, 4 no access flag, 5 Device, 6 EL1 read-only, 7 executable by EL0, 8 output address
 * beyond IPS; behind 2 MiB an invalid table entry, behind 1 GiB one level up.
 */
const PAGES = 9;
const INSTRUCTIONS = [
  'ldr x0, [x1]',
  'str x0, [x1]',
  'ldrb w0, [x1]',
  'stp x0, x2, [x1]',
  'ldp x0, x2, [x1]',
  'ldr q0, [x1]',
  'ldxr x0, [x1]',
  'ldar w0, [x1]',
  'stlr w0, [x1]',
  'ldtr x0, [x1]',
  'sttr x0, [x1]',
  'br x1',
  // Not DC and IC by address: QEMU makes nothing of them.
  'at s1e1r, x1\nmrs x0, par_el1',
  'at s1e1w, x1\nmrs x0, par_el1',
  'at s1e0r, x1\nmrs x0, par_el1',
  'at s1e0w, x1\nmrs x0, par_el1',
];
const ADDRESSES = [
  ...Array.from({ length: PAGES }, (_, i) => DATA + 0x1000 * i + 0x40),
  DATA + 0x1000 * 2 - 4, // from unmapped into read-only
  DATA + 0x1000 - 4, // into unmapped
  DATA + 3,
  DATA + 0x20_0000,
  DATA + 0x4000_0000,
];
const HIGH = [1n << 40n, 0xffff_ffff_ffff_f000n, 0x00ff_0000_0000_0000n, (0x7fn << 56n) | BigInt(DATA)];
const PLAIN = [
  'svc #5',
  'brk #6',
  'hlt #7',
  '.word 0',
  'eret',
  'smc #1',
  'mrs x0, sctlr_el1',
  'wfi',
  // Not MSR DAIFSet, of which QEMU swaps op1 and op2 in the syndrome.
  'dc zva, x1',
  'mrs x0, ctr_el0',
];

/** X0 to the UART as 8 bytes. */
const put = (r: string) => Array.from({ length: 8 }, (_, i) => `lsr x3, ${r}, #${8 * i}\nstrb w3, [x28]`).join('\n');

function program(): { text: string; count: number; names: string[] } {
  const probes: string[] = [];
  const names: string[] = [];
  const cases: [string, bigint, number][] = [];
  for (const el of [0, 1]) {
    for (const i of INSTRUCTIONS) {
      if (el === 0 && i.startsWith('at ')) continue;
      for (const a of [...ADDRESSES.map(BigInt), ...HIGH]) {
        // Code that can be fetched would run on into data.
        // QEMU lets an instruction abort come before a PC alignment fault, the Arm ARM does not (D1.3.5.3).
        if (i === 'br x1' && (a & 3n) !== 0n) continue;
        const page = (Number(a & 0xffff_ffffn) - DATA) >> 12;
        if (i === 'br x1' && a < 1n << 32n && page < PAGES && (a & 3n) === 0n && page !== 1 && page !== 4 && page !== 8)
          continue;
        cases.push([i, a, el]);
      }
    }
    for (const i of PLAIN) {
      // EL1 may do some of them.
      if (el === 1 && !/svc|brk|hlt|word/.test(i)) continue;
      cases.push([i, BigInt(DATA + 0x40), el]);
    }
  }
  for (const [i, a, el] of cases) {
    names.push(`${i.replace('\n', '; ')} of 0x${a.toString(16)} at EL${el}`);
    probes.push(`.balign 16\n${i}\nsvc #0x42`);
  }
  const table = cases.map(
    ([, a, el], n) => `.quad probe${n}, 0x${BigInt.asUintN(64, a).toString(16)}, ${el === 0 ? 0x3c0 : 0x3c5}`,
  );
  const body = probes.map((p, n) => p.replace('.balign 16', `.balign 16\nprobe${n}:`)).join('\n');
  const page = (n: number, d: string) => `ldr x0, =${d}\nstr x0, [x1, #${8 * n}]`;
  // Device memory is Outer Shareable by its descriptor, too: QEMU puts that into PAR_EL1.SH, the Arm ARM what counts.
  const leaf = (n: number, attributes: bigint, low = 0x703n) =>
    page(n, `0x${(BigInt(DATA + 0x1000 * n) | low | attributes).toString(16)}`);
  const XN = 3n << 53n;
  const EL0 = 1n << 6n;
  const RO = 1n << 7n;
  const text = `
    adr x0, vectors
    msr vbar_el1, x0
    mov x0, #(3 << 20)
    msr cpacr_el1, x0
    ldr x28, =${UART}
    // Level 1: code and tables by a block that EL1 and EL0 may execute (read-only), the UART, and the table of DATA.
    ldr x1, =${TABLES}
    ldr x0, =${TABLES + 0x1003}
    str x0, [x1, #8]
    ldr x0, =${(0x401n | (1n << 2n) | XN).toString()}
    str x0, [x1]
    ldr x1, =${TABLES + 0x1000}
    ldr x0, =${(BigInt(0x4020_0000) | 0x701n | EL0 | RO).toString()}
    str x0, [x1, #8]
    ldr x0, =${TABLES + 0x2003}
    str x0, [x1, #16]
    ldr x1, =${TABLES + 0x2000}
    ${leaf(0, EL0 | XN)}
    ${leaf(2, EL0 | RO | XN)}
    ${leaf(3, XN)}
    ${leaf(4, EL0 | XN)}
    ldr x0, [x1, #32]
    and x0, x0, #~0x400
    str x0, [x1, #32]
    ${leaf(5, EL0 | XN | 4n, 0x603n)}
    ${leaf(6, RO | XN)}
    ${leaf(7, EL0 | (1n << 53n))}
    ${page(8, `0x${((1n << 37n) | 0x703n | EL0 | XN).toString(16)}`)}
    ldr x0, =0x00ff
    msr mair_el1, x0
    ldr x0, =${TABLES}
    msr ttbr0_el1, x0
    ldr x0, =${(25n | (1n << 23n) | (1n << 32n)).toString()}
    msr tcr_el1, x0
    dsb sy
    isb
    mrs x0, sctlr_el1
    ldr x1, =${1 | (1 << 23) | (1 << 26)} // M; SPAN, since the Cortex-A57 has no PAN; UCI
    orr x0, x0, x1
    ldr x1, =${(1 << 14) | (1 << 15) | (1 << 16) | (1 << 18) | (1 << 9) | 0x1a}
    bic x0, x0, x1
    msr sctlr_el1, x0
    isb
    ldr x26, =cases
    ldr x27, =end
  next:
    cmp x26, x27
    b.hs done
    ldp x5, x1, [x26]
    ldr x6, [x26, #16]
    add x26, x26, #24
    msr elr_el1, x5
    msr spsr_el1, x6
    msr far_el1, xzr
    mov x0, #0
    eret
  done:
    ldr w0, =0x84000008
    hvc #0
    wfi
    b .
  taken:
    mov x10, x0
    mrs x11, esr_el1
    ${put('x11')}
    mrs x11, far_el1
    ${put('x11')}
    mrs x11, elr_el1
    ${put('x11')}
    mrs x11, spsr_el1
    ${put('x11')}
    ${put('x10')}
    b next
    .ltorg
    .balign 2048
  vectors:
    .rept 16
    b taken
    .balign 128
    .endr
    ${body}
    .balign 8
  cases:
    ${table.join('\n')}
  end:
  `;
  return { text, count: cases.length, names };
}

function onQemu(bytes: Uint8Array): Buffer {
  const dir = mkdtempSync(join(tmpdir(), 'system-oracle-'));
  try {
    writeFileSync(join(dir, 'a.bin'), bytes);
    const args = '-M virt -m 64 -cpu cortex-a57 -net none -display none -monitor none -serial file:out.bin'
      .split(' ')
      .concat('-device', `loader,file=a.bin,addr=${BASE}`, '-device', `loader,addr=${BASE},cpu-num=0`);
    const r = spawnSync('qemu-system-aarch64', args, { cwd: dir, timeout: 30_000, encoding: 'utf8' });
    expect(r.status, r.stderr).toBe(0);
    return readFileSync(join(dir, 'out.bin'));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const why = missing.length > 0 ? ` (skipped: ${missing.join(', ')} not installed)` : '';
it.skipIf(missing.length > 0)(`exceptions leave what they leave on QEMU's Cortex-A57${why}`, () => {
  const { text, count, names } = program();
  const { bytes } = assemble(text, { base: BigInt(BASE) });
  const theirs = onQemu(bytes);
  const g = new Guest();
  g.code(text, BASE);
  g.run(BASE, 100_000);
  const ours = Buffer.from(g.mmio.map(m => Number(m.value ?? 0n)));
  expect(theirs.length).toBe(40 * count);
  expect(ours.length).toBe(40 * count);
  const differences: string[] = [];
  const classes = new Set<bigint>();
  for (const [n, name] of names.entries()) {
    const show = (b: Buffer) => {
      const [esr, far, elr, spsr, x0] = [0, 8, 16, 24, 32].map(o => b.readBigUInt64LE(40 * n + o)) as [
        bigint,
        bigint,
        bigint,
        bigint,
        bigint,
      ];
      classes.add(esr >> 26n);
      const values = [esr, far, elr, spsr, name.startsWith('at ') ? x0 : 0n];
      return ['ESR', 'FAR', 'ELR', 'SPSR', 'PAR'].map((r, i) => `${r} ${values[i]!.toString(16)}`).join(' ');
    };
    if (show(ours) !== show(theirs)) differences.push(`${name}\n  core ${show(ours)}\n  QEMU ${show(theirs)}`);
  }
  expect(differences).toEqual([]);
  expect(classes.size).toBeGreaterThan(8);
});
