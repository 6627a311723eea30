import { type ContractCase, portIn, portOut, read, write } from './contract.ts';
import { X86 } from './places.ts';
import { guest } from './x86-source.ts';

// Ports and devices in memory, as the instructions of the SDM, volume 2, reach them.

const D = X86.device;
const LOW = X86.lowDevice;
const R = X86.data;
const PORT = 0x300;
const WORD = 0x8182_8384_8586_8788n;

const access = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'x86_64',
  mode: 'protected',
  ...c,
});

/** The text "abcd…" as a 64-bit word, for OUTS. */
const text = (s: string) => [...s].reduceRight((v, c) => (v << 8n) | BigInt(c.charCodeAt(0)), 0n);
const letters = (from: string, count: number) => Array.from({ length: count }, (_, i) => from.charCodeAt(0) + i);

/** Cases of accesses. */
export const X86_ACCESS_CASES: readonly ContractCase[] = [
  access('the first vCPU in real mode: CS 0, PE off, interrupts off, registers as told', {
    mode: 'real',
    smoke: true,
    code: guest(`
        mov     ebp, esi
        mov     edi, ebx
        mov     ax, cs
        mov     cx, ax
        mov     eax, cr0
        and     eax, 0x80000001
        pushfd
        pop     edx
        and     edx, 0x200`),
    trace: [],
    registers: { rax: 0, rcx: 0, rdx: 0, rbp: X86.rsi, rdi: X86.rbx, rsp: X86.stack },
  }),
  access('the first vCPU in protected mode: flat segments, paging off, interrupts off, registers as told', {
    smoke: true,
    code: guest(`
        mov     ebp, esi
        mov     edi, ebx
        mov     cx, cs
        movzx   ecx, cx
        mov     dx, ss
        movzx   esi, dx
        mov     eax, cr0
        and     eax, 0x80000001
        pushfd
        pop     edx
        and     edx, 0x200
        push    ds
        pop     ds
        mov     ebx, 0x12345678`),
    trace: [],
    registers: { rax: 1, rbx: 0x1234_5678, rcx: 0x10, rsi: 0x18, rdx: 0, rbp: X86.rsi, rdi: X86.rbx, rsp: X86.stack },
  }),
  access('the first vCPU in long mode: 64-bit registers, paging on, interrupts off, registers as told', {
    mode: 'long',
    needs: ['long mode'],
    smoke: true,
    code: guest(`
        mov     r8, rsi
        mov     r9, rbx
        mov     r10w, cs
        movzx   r10, r10w
        mov     rax, cr0
        mov     ecx, 0x80000001
        and     rax, rcx
        mov     r11, cr3
        pushfq
        pop     rdx
        and     rdx, 0x200
        mov     r15, 0x8182838485868788
        lea     r14, [rip - 0x100000]
        sar     r14, 12`),
    trace: [],
    registers: {
      rax: 0x8000_0001n,
      rdx: 0,
      r8: X86.rsi,
      r9: X86.rbx,
      r10: 0x10,
      r11: X86.pageTables,
      r15: WORD,
      r14: 2n ** 64n - 0xffn,
      rsp: X86.stack,
    },
  }),
  access('IN of 1, 2 and 4 bytes changes that part of the accumulator', {
    smoke: true,
    reads: { [PORT]: 0x8182_8384, 96: 0x77 },
    code: guest(`
        mov     edx, ${PORT}
        mov     eax, -1
        in      al, dx
        mov     ebx, eax
        mov     eax, -1
        in      ax, dx
        mov     ecx, eax
        in      eax, dx
        mov     esi, eax
        mov     eax, 0
        in      al, 0x60`),
    trace: [
      portIn(1, PORT, 0x84),
      portIn(2, PORT, 0x8384),
      portIn(4, PORT, 0x8182_8384),
      // Port 0x60 is nobody's in the kernel: KVM has no keyboard controller.
      portIn(1, 0x60, 0x77),
    ],
    registers: { rbx: 0xffff_ff84, rcx: 0xffff_8384, rsi: 0x8182_8384, rax: 0x77 },
  }),
  access('IN in long mode, where 4 bytes clear the upper half', {
    mode: 'long',
    needs: ['long mode'],
    reads: { [PORT]: 0x8182_8384 },
    code: guest(`
        mov     edx, ${PORT}
        mov     rax, -1
        in      ax, dx
        mov     rbx, rax
        mov     rax, -1
        in      eax, dx`),
    trace: [portIn(2, PORT, 0x8384), portIn(4, PORT, 0x8182_8384)],
    registers: { rbx: 0xffff_ffff_ffff_8384n, rax: 0x8182_8384 },
  }),
  access('OUT of 1, 2 and 4 bytes', {
    smoke: true,
    code: guest(`
        mov     eax, 0x11223344
        mov     edx, ${PORT}
        out     dx, al
        out     dx, ax
        out     dx, eax
        out     0x70, al
        mov     edx, 0xffff
        out     dx, al`),
    trace: [
      portOut(1, PORT, 0x44),
      portOut(2, PORT, 0x3344),
      portOut(4, PORT, 0x1122_3344),
      portOut(1, 0x70, 0x44),
      portOut(1, 0xffff, 0x44),
    ],
  }),
  access('IN and OUT in real mode', {
    mode: 'real',
    reads: { [PORT]: [1, 0x203, 0x0405_0607] },
    code: guest(`
        mov     dx, ${PORT}
        in      al, dx
        out     dx, al
        in      ax, dx
        out     dx, ax
        in      eax, dx
        out     dx, eax`),
    trace: [
      portIn(1, PORT, 1),
      portOut(1, PORT, 1),
      portIn(2, PORT, 0x203),
      portOut(2, PORT, 0x203),
      portIn(4, PORT, 0x0405_0607),
      portOut(4, PORT, 0x0405_0607),
    ],
    registers: { rax: 0x0405_0607 },
  }),
  access('ports where nothing is read as all ones', {
    code: guest(`
        mov     edx, 0x5000
        in      al, dx
        mov     bl, al
        in      ax, dx
        mov     cx, ax
        in      eax, dx`),
    trace: [portIn(1, 0x5000, 0xff), portIn(2, 0x5000, 0xffff), portIn(4, 0x5000, 0xffff_ffff)],
    registers: { rax: 0xffff_ffff },
  }),
  access('OUTS and INS of 1, 2 and 4 bytes', {
    reads: { [PORT]: [0x11, 0x2222, 0x4444_4444] },
    words: { [R]: text('abcdefgh') },
    code: guest(`
        mov     edx, ${PORT}
        mov     esi, ${R}
        mov     edi, ${R + 0x100}
        cld
        outsb
        outsw
        outsd
        insb
        insw
        insd`),
    trace: [
      portOut(1, PORT, 0x61),
      portOut(2, PORT, 0x6362),
      portOut(4, PORT, 0x6766_6564),
      portIn(1, PORT, 0x11),
      portIn(2, PORT, 0x2222),
      portIn(4, PORT, 0x4444_4444),
    ],
    memory: { [R + 0x100]: 0x44_4444_4422_2211n },
    registers: { rsi: R + 7, rdi: R + 0x107 },
  }),
  access('REP OUTSB: every byte in its order; a count of 0 does nothing', {
    smoke: true,
    words: { [R]: text('abcdefgh'), [R + 8]: text('ijklmnop'), [R + 16]: text('qrst') },
    code: guest(`
        mov     edx, ${PORT}
        mov     esi, ${R}
        mov     ecx, 20
        cld
        rep outsb
        mov     edi, esi
        mov     ecx, 0
        rep outsb`),
    trace: letters('a', 20).map(c => portOut(1, PORT, c)),
    registers: { rcx: 0, rsi: R + 20, rdi: R + 20 },
  }),
  access('REP OUTSD downwards', {
    words: { [R]: 0x2222_2222_1111_1111n, [R + 8]: 0x4444_4444_3333_3333n },
    code: guest(`
        mov     edx, ${PORT}
        mov     esi, ${R + 12}
        mov     ecx, 4
        std
        rep outsd
        cld`),
    trace: [0x4444_4444, 0x3333_3333, 0x2222_2222, 0x1111_1111].map(v => portOut(4, PORT, v)),
    registers: { rcx: 0, rsi: R - 4 },
  }),
  access('REP INSB: every byte in its order, into RAM', {
    smoke: true,
    reads: { [PORT]: letters('A', 20) },
    code: guest(`
        mov     edx, ${PORT}
        mov     edi, ${R}
        mov     ecx, 20
        cld
        rep insb`),
    trace: letters('A', 20).map(c => portIn(1, PORT, c)),
    memory: { [R]: text('ABCDEFGH'), [R + 8]: text('IJKLMNOP'), [R + 16]: text('QRST') },
    registers: { rcx: 0, rdi: R + 20 },
  }),
  access('REP INSW across a page, and the next access is in its order', {
    reads: { [PORT]: [1, 2, 3, 4], [PORT + 2]: 5 },
    code: guest(`
        mov     edx, ${PORT}
        mov     edi, ${R + 0xffc}
        mov     ecx, 4
        cld
        rep insw
        mov     edx, ${PORT + 2}
        in      al, dx`),
    trace: [...[1, 2, 3, 4].map(v => portIn(2, PORT, v)), portIn(1, PORT + 2, 5)],
    memory: { [R + 0xff8]: 0x2_0001_0000_0000n, [R + 0x1000]: 0x4_0003n },
    registers: { rcx: 0, rdi: R + 0x1004 },
  }),
  access('REP INSB of 5000 bytes, more than the kernel takes at a time', {
    reads: { [PORT]: Array.from({ length: 5000 }, (_, i) => i & 0xff) },
    code: guest(`
        mov     edx, ${PORT}
        mov     edi, ${R}
        mov     ecx, 5000
        cld
        rep insb
        mov     esi, ${R}
        mov     ecx, 5000
        xor     ebx, ebx
        xor     eax, eax
1:      lodsb
        add     ebx, eax
        loop    1b`),
    trace: Array.from({ length: 5000 }, (_, i) => portIn(1, PORT, i & 0xff)),
    registers: { rdi: R + 5000, rbx: Array.from({ length: 5000 }, (_, i) => i & 0xff).reduce((a, b) => a + b) },
  }),
  access('reads of 1, 2 and 4 bytes of a device in memory, zero- and sign-extended', {
    smoke: true,
    reads: { [D + 0x10]: 0x8586_8788 },
    code: guest(`
        mov     edi, ${D}
        mov     eax, -1
        mov     al, [edi + 0x10]
        mov     ebx, -1
        mov     bx, [edi + 0x10]
        mov     ecx, [edi + 0x10]
        movzx   edx, byte ptr [edi + 0x10]
        movsx   esi, word ptr [edi + 0x10]
        movsx   ebp, byte ptr [edi + 0x10]`),
    trace: [
      read(1, D + 0x10, 0x88),
      read(2, D + 0x10, 0x8788),
      read(4, D + 0x10, 0x8586_8788),
      read(1, D + 0x10, 0x88),
      read(2, D + 0x10, 0x8788),
      read(1, D + 0x10, 0x88),
    ],
    registers: {
      rax: 0xffff_ff88,
      rbx: 0xffff_8788,
      rcx: 0x8586_8788,
      rdx: 0x88,
      rsi: 0xffff_8788,
      rbp: 0xffff_ff88,
    },
  }),
  access('writes of 1, 2 and 4 bytes of a device in memory', {
    smoke: true,
    code: guest(`
        mov     edi, ${D}
        mov     eax, 0x11223344
        mov     [edi + 1], al
        mov     [edi + 2], ax
        mov     [edi + 4], eax
        mov     byte ptr [edi + 8], 0x55
        mov     dword ptr [edi + 12], 0xdeadbeef`),
    trace: [
      write(1, D + 1, 0x44),
      write(2, D + 2, 0x3344),
      write(4, D + 4, 0x1122_3344),
      write(1, D + 8, 0x55),
      write(4, D + 12, 0xdead_beef),
    ],
  }),
  access('a device in memory below 1 MiB, in real mode', {
    mode: 'real',
    smoke: true,
    reads: { [LOW]: 0x1234_5678 },
    code: guest(`
        mov     ax, ${LOW >> 4}
        mov     ds, ax
        mov     al, [0]
        mov     bx, [0]
        mov     ecx, [0]
        mov     [4], al
        mov     [6], bx
        mov     [8], ecx
        xor     ax, ax
        mov     ds, ax`),
    trace: [
      read(1, LOW, 0x78),
      read(2, LOW, 0x5678),
      read(4, LOW, 0x1234_5678),
      write(1, LOW + 4, 0x78),
      write(2, LOW + 6, 0x5678),
      write(4, LOW + 8, 0x1234_5678),
    ],
    registers: { rbx: 0x5678, rcx: 0x1234_5678 },
  }),
  access('8 bytes of a device in memory, from long mode', {
    mode: 'long',
    needs: ['long mode'],
    smoke: true,
    reads: { [D + 8]: WORD },
    code: guest(`
        mov     edi, ${D}
        mov     rax, [rdi + 8]
        mov     [rdi + 16], rax
        mov     ecx, [rdi + 8]
        movsxd  rdx, dword ptr [rdi + 8]
        mov     [rdi + 24], ecx
        mov     r8b, [rdi + 8]
        movzx   r8, r8b`),
    trace: [
      read(8, D + 8, WORD),
      write(8, D + 16, WORD),
      read(4, D + 8, 0x8586_8788),
      read(4, D + 8, 0x8586_8788),
      write(4, D + 24, 0x8586_8788),
      read(1, D + 8, 0x88),
    ],
    registers: { rax: WORD, rcx: 0x8586_8788, rdx: 0xffff_ffff_8586_8788n, r8: 0x88 },
  }),
  access('instructions that read, change and write a device’s register', {
    reads: { [D]: 10, [D + 4]: 0x0f, [D + 8]: 0x1111_1111, [D + 12]: 7 },
    code: guest(`
        mov     edi, ${D}
        add     dword ptr [edi], 5
        or      byte ptr [edi + 4], 0xf0
        mov     eax, 0x22222222
        xchg    eax, [edi + 8]
        cmp     dword ptr [edi + 12], 7
        sete    bl
        movzx   ebx, bl
        test    byte ptr [edi + 12], 8
        setz    cl
        movzx   ecx, cl
        push    dword ptr [edi + 12]
        pop     edx`),
    trace: [
      read(4, D, 10),
      write(4, D, 15),
      read(1, D + 4, 0x0f),
      write(1, D + 4, 0xff),
      read(4, D + 8, 0x1111_1111),
      write(4, D + 8, 0x2222_2222),
      read(4, D + 12, 7),
      read(1, D + 12, 7),
      read(4, D + 12, 7),
    ],
    registers: { rax: 0x1111_1111, rbx: 1, rcx: 1, rdx: 7 },
  }),
  access('REP STOSD and REP MOVSB to and from a device in memory', {
    reads: { [D + 0x20]: 0x41, [D + 0x21]: 0x42, [D + 0x22]: 0x43 },
    code: guest(`
        mov     edi, ${D}
        mov     eax, 0x01020304
        mov     ecx, 3
        cld
        rep stosd
        mov     esi, ${D + 0x20}
        mov     edi, ${R}
        mov     ecx, 3
        rep movsb
        mov     esi, ${R}
        mov     edi, ${D + 0x40}
        movsb`),
    trace: [
      ...[0, 4, 8].map(o => write(4, D + o, 0x0102_0304)),
      ...[0, 1, 2].map(o => read(1, D + 0x20 + o, 0x41 + o)),
      write(1, D + 0x40, 0x41),
    ],
    memory: { [R]: 0x43_4241 },
    registers: { rcx: 0, rsi: R + 1, rdi: D + 0x41 },
  }),
  access('an address where nothing is reads as all ones', {
    code: guest(`
        mov     edi, 0xe0000000
        movzx   eax, byte ptr [edi]
        movzx   ebx, word ptr [edi]
        mov     ecx, [edi]
        movsx   edx, word ptr [edi]
        mov     [edi], edi`),
    trace: [
      read(1, 0xe000_0000, 0xff),
      read(2, 0xe000_0000, 0xffff),
      read(4, 0xe000_0000, 0xffff_ffff),
      read(2, 0xe000_0000, 0xffff),
      write(4, 0xe000_0000, 0xe000_0000),
    ],
    registers: { rax: 0xff, rbx: 0xffff, rcx: 0xffff_ffff, rdx: 0xffff_ffff },
  }),
];
