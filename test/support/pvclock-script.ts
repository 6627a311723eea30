// What a guest does with kvmclock and KVM's hypercalls, as a list of operations that both a guest of a few instructions on KVM and
// our x86-64 services can go through: the results must be the same. All numbers are by the kernel's documentation.
import { createHypercallBus } from '../../src/bus/hypercall-bus.ts';
import { kvmX86Hypercall } from '../../src/bus/hypercall-x86.ts';
import { createClockPairing } from '../../src/devices/kvm-hypervisor/x86/clock-pairing.ts';
import { Kvmclock } from '../../src/devices/kvm-hypervisor/x86/kvmclock.ts';
import { Tsc } from '../../src/devices/kvm-hypervisor/x86/tsc.ts';
import { createGuestMemory } from '../../src/memory/guest-memory.ts';
import { PinTable } from '../../src/memory/pin-table.ts';
import type { GuestMemory, Region } from '../../src/memory/types.ts';
import { createHostClock } from '../../src/time/host-clock.ts';
import { X86 } from '../contract/places.ts';

/** Operations of {@link PROGRAM_64}; the last is {@link PROGRAM_32}'s, whose calls are all VMCALLs. */
const CODES = { wrmsr: 1, rdmsr: 2, vmcall: 3, vmmcall: 4, rdtsc: 5, copy: 6, store: 7, 'to CPL 3': 9 } as const;

/** An operation with its operands: a register and a value, a call's RAX, RBX and RCX, or two addresses. */
export interface Operation {
  readonly what: string;
  readonly code: keyof typeof CODES;
  readonly operands: readonly (number | bigint)[];
}

/** What an operation has come to: RAX or what was read, and whether it was a #GP. */
export interface Result {
  readonly value: bigint;
  readonly fault: boolean;
}

/** Bytes of an operation in guest memory: code, three operands, value, fault. */
const SIZE = 64;
const bytesOf = (i: number) => X86.data + SIZE * i;

/** Puts operations where the programs look for them. */
export function storeOperations(memory: GuestMemory, operations: readonly Operation[]): void {
  for (const [i, { code, operands }] of operations.entries()) {
    memory.setU64(bytesOf(i), BigInt(CODES[code]));
    for (const [n, v] of operands.entries()) memory.setU64(bytesOf(i) + 8 + 8 * n, BigInt.asUintN(64, BigInt(v)));
  }
}

export function loadResults(memory: GuestMemory, operations: readonly Operation[]): Result[] {
  return operations.map((_, i) => {
    return { value: memory.u64(bytesOf(i) + 32), fault: memory.u64(bytesOf(i) + 40) !== 0n };
  });
}

/** Goes through the operations in 64-bit mode, until it finds none. A #GP of RDMSR or WRMSR goes on behind the instruction. */
export const PROGRAM_64 = `
        // An interrupt gate for #GP (SDM volume 3, 6.14.1).
        lea     rax, 50f[rip]
        mov     edi, ${X86.idt + 13 * 16}
        mov     word ptr [rdi], ax
        mov     word ptr [rdi + 2], 0x10
        mov     word ptr [rdi + 4], 0x8e00
        shr     rax, 16
        mov     word ptr [rdi + 6], ax
        mov     qword ptr [rdi + 8], 0
        sub     rsp, 16
        mov     word ptr [rsp], 0xfff
        mov     qword ptr [rsp + 2], ${X86.idt}
        lidt    [rsp]
        mov     r8d, ${X86.data}
10:     mov     r9, [r8]
        mov     rax, [r8 + 8]
        mov     rbx, [r8 + 16]
        mov     rcx, [r8 + 24]
        mov     rsi, rax
        mov     rdi, rbx
        xor     r15d, r15d
        cmp     r9, ${CODES.wrmsr}
        je      11f
        cmp     r9, ${CODES.rdmsr}
        je      12f
        cmp     r9, ${CODES.vmcall}
        je      13f
        cmp     r9, ${CODES.vmmcall}
        je      14f
        cmp     r9, ${CODES.rdtsc}
        je      15f
        cmp     r9, ${CODES.copy}
        je      16f
        cmp     r9, ${CODES.store}
        je      17f
        out     ${X86.end}, al
99:     jmp     99b
11:     mov     ecx, esi
        mov     eax, ebx
        mov     rdx, rbx
        shr     rdx, 32
        wrmsr
        xor     eax, eax
        jmp     18f
12:     mov     ecx, esi
        xor     eax, eax
        xor     edx, edx
        rdmsr
        shl     rdx, 32
        or      rax, rdx
        jmp     18f
13:     vmcall
        jmp     18f
14:     vmmcall
        jmp     18f
15:     rdtsc
        shl     rdx, 32
        or      rax, rdx
        jmp     18f
16:     mov     ecx, 8
        rep     movsq
        xor     eax, eax
        jmp     18f
17:     mov     [rsi], rdi
        xor     eax, eax
18:     mov     [r8 + 32], rax
        mov     [r8 + 40], r15
        add     r8, ${SIZE}
        jmp     10b
50:     mov     r15d, 1
        add     rsp, 8
        add     qword ptr [rsp], 2
        iretq
`;

/** The GDT of {@link PROGRAM_32}: as {@link X86.gdt} has it, and flat segments of privilege 3. */
export const GDT_32: Readonly<Record<number, bigint>> = {
  [X86.gdt + 0x20]: 0x00cf_fb00_0000_ffffn,
  [X86.gdt + 0x28]: 0x00cf_f300_0000_ffffn,
};

/** Makes the calls of the operations in 32-bit mode; behind 'to CPL 3', by an IRET, at CPL 3. */
export const PROGRAM_32 = `
        sub     esp, 8
        mov     word ptr [esp], 0x2f
        mov     dword ptr [esp + 2], ${X86.gdt}
        lgdt    [esp]
        mov     esi, ${X86.data}
10:     mov     eax, [esi + 8]
        mov     ebx, [esi + 16]
        mov     ecx, [esi + 24]
        cmp     dword ptr [esi], ${CODES['to CPL 3']}
        je      20f
        cmp     dword ptr [esi], 0
        je      90f
        vmcall
        mov     [esi + 32], eax
15:     add     esi, ${SIZE}
        jmp     10b
20:     push    0x2b
        push    ${X86.stack}
        // IOPL 3, for the OUT at the end.
        push    0x3002
        push    0x23
        call    21f
21:     add     dword ptr [esp], 22f - 21b
        iretd
22:     mov     eax, 0x2b
        mov     ds, eax
        mov     es, eax
        jmp     15b
90:     mov     eax, [esi - ${SIZE} + 32]
        out     ${X86.end}, al
99:     jmp     99b
`;

/** A page of read-only memory. */
export const READ_ONLY = X86.slot;
export const PAGE = 4096;

/** Our x86-64 services, and memory as the guests have it. */
export function services(hz: number) {
  const region = (base: number, size: number, kind: Region['kind'] = 'ram') => {
    return { base, size, kind, bytes: new Uint8Array(new SharedArrayBuffer(size)) };
  };
  const memory = createGuestMemory([
    region(0, X86.low),
    region(X86.high, X86.highBytes),
    region(READ_ONLY, PAGE, 'rom'),
  ]);
  const clock = createHostClock();
  const pins = new PinTable({ memory });
  const tsc = new Tsc({ hz, cpus: 1, clock });
  const kvmclock = new Kvmclock({ clock, tsc, cpus: 1, pins });
  const bus = createHypercallBus();
  bus.add(createClockPairing({ clock, tsc, pins }));

  /** Does what the programs do. */
  function run(operations: readonly Operation[], mode64: boolean): Result[] {
    let cpl = 0;
    return operations.map(({ code, operands }) => {
      const [a = 0n, b = 0n, c = 0n] = operands.map(v => BigInt.asUintN(64, BigInt(v)));
      let [value, fault] = [0n, false];
      switch (code) {
        case 'wrmsr':
          fault = !kvmclock.write(0, Number(a), b);
          break;
        case 'rdmsr': {
          const read = kvmclock.read(0, Number(a));
          fault = read === undefined;
          value = read ?? 0n;
          break;
        }
        case 'vmcall':
        case 'vmmcall': {
          const registers = { rax: a, rbx: b, rcx: c, rdx: 0n, rsi: 0n };
          const setRax = (v: bigint) => {
            value = v;
          };
          kvmX86Hypercall({ cpu: 0, cpl, mode64, get: r => registers[r], setRax }, call => bus.handle(call));
          break;
        }
        case 'rdtsc':
          value = tsc.read(0);
          break;
        case 'copy':
          memory.write(Number(b), memory.view(Number(a), 64)!.slice());
          break;
        case 'store':
          memory.setU64(Number(a), b);
          break;
        case 'to CPL 3':
          cpl = 3;
      }
      return { value, fault };
    });
  }
  return { memory, kvmclock, tsc, run };
}
