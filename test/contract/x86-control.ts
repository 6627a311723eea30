import assert from 'node:assert/strict';
import { type ContractCase, ended, portIn, portOut, write } from './contract.ts';
import { endedByTimer, kickedByExit, kickedByThread, longStep, stoppedByExit, toTheEnd } from './control.ts';
import { map } from './memory.ts';
import { X86 } from './places.ts';
import { guest, meet, meeting } from './x86-source.ts';

// What the host does to a guest that runs, interrupts, and the end of a machine.

const R = X86.data;
const S = X86.slot;
const D = X86.device;
const PORT = 0x300;

const control = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'x86_64',
  mode: 'protected',
  ...c,
});

/** Counts in RAM, for ever. */
const SPIN = `
1:      inc     dword ptr [${R + 8}]
        jmp     1b
`;

/** Initializes the 8259s: vectors 0x20 and 0x28, only IRQ `irq` below 8 unmasked. */
const pic = (irq: number) => `
        mov     al, 0x11
        out     0x20, al
        out     0xa0, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 0x28
        out     0xa1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xa1, al
        mov     al, 1
        out     0x21, al
        out     0xa1, al
        mov     al, ${0xff & ~(1 << irq)}
        out     0x21, al
        mov     al, 0xff
        out     0xa1, al
`;

/** Where handlers are: 512 bytes behind the code. */
const HANDLER = X86.code + 0x200;
/** An interrupt gate of the 32-bit IDT for {@link HANDLER} (SDM volume 3, 6.11). */
const GATE = BigInt(HANDLER & 0xffff) | (0x10n << 16n) | (0x8en << 40n);
/** The pseudo-descriptor for LIDT, 256 gates. */
const IDTR = R + 0x3000;
const IDTR_WORD = 0x7ffn | (BigInt(X86.idt) << 16n);

/** Local APIC registers (SDM volume 3, table 11-1). */
const APIC = { eoi: 0xfee0_00b0, svr: 0xfee0_00f0, timer: 0xfee0_0320, initial: 0xfee0_0380, divide: 0xfee0_03e0 };

/** Pin 5 of the I/O APIC: level-triggered, vector 0x53, to APIC id 0 (82093AA, 3.2.4). The wire leads to an 8259, too: all masked. */
const IOAPIC_PIN_5 = `
        mov     al, 0xff
        out     0x21, al
        out     0xa1, al
        mov     dword ptr [0xfec00000], 0x1b
        mov     dword ptr [0xfec00010], 0
        mov     dword ptr [0xfec00000], 0x1a
        mov     dword ptr [0xfec00010], 0x8053
`;

/** Cases of the host's control, interrupts and the end. */
export const X86_CONTROL_CASES: readonly ContractCase[] = [
  control('kick() from an exit ends the step of a guest that spins', {
    smoke: true,
    code: guest(`
        mov     edx, ${PORT}
        out     dx, al
        ${SPIN}`),
    run: rig => kickedByExit(rig, PORT),
    trace: [portOut(1, PORT, 0)],
  }),
  control('another thread ends the step of a guest that spins', {
    code: guest(SPIN),
    run: rig => kickedByThread(rig, () => rig.engine.memory.u64(R + 8)),
    trace: [],
  }),
  control('a timer of the machine’s ends the step of a guest that spins, and runs', {
    code: guest(SPIN),
    run: rig => endedByTimer(rig),
    trace: [],
  }),
  control('stop() from an exit ends the step of a guest that spins, and every later one', {
    smoke: true,
    code: guest(`
        mov     edx, ${PORT}
        out     dx, al
        ${SPIN}`),
    run: rig => stoppedByExit(rig, PORT, () => rig.engine.memory.u64(R + 8)),
    trace: [portOut(1, PORT, 0)],
  }),
  control('stop() between two steps keeps the guest from running', {
    code: guest(`out ${0x80}, al`),
    run: rig => {
      rig.start();
      rig.engine.stop();
      assert.equal(longStep(rig), 'stopped');
    },
    trace: [],
  }),
  control('a paused guest does nothing, and goes on where it was', {
    smoke: true,
    code: guest(`
1:      inc     eax
        mov     [${R + 8}], eax
        jmp     1b`),
    run: async rig => {
      const count = () => rig.engine.memory.u64(R + 8);
      rig.start();
      for (let round = 1; round <= 3; round++) {
        const at = count();
        await rig.until('counting', () => count() > at + 100n);
        rig.engine.pause();
        const paused = count();
        rig.engine.pause();
        await new Promise(resolve => setTimeout(resolve, 20));
        assert.equal(count(), paused);
        const { rax = 0n } = rig.registers();
        assert.ok(rax === paused || rax === paused + 1n, `rax is ${rax}, memory ${paused}`);
      }
    },
    trace: [],
  }),
  control('registers that the host changes between two steps are what the guest goes on with', {
    code: guest(`
        mov     eax, 1
        ${meet(1)}
        mov     ebx, eax
        mov     esi, ecx`),
    run: async rig => {
      rig.start();
      await meeting(rig, 1, () => rig.engine.vcpus[0]!.setRegisters({ rax: 0x77n, rcx: 0x88n }));
      await rig.finish(2);
    },
    trace: [],
    registers: { rax: 0x77, rbx: 0x77, rsi: 0x88 },
  }),
  control('a reset starts afresh: registers are, RAM and mapped memory stay', {
    smoke: true,
    hotplug: 2 * 2 ** 20,
    code: guest(`
        mov     ebp, eax
        mov     edi, ecx
        mov     ecx, [${S}]
        mov     edx, [${X86.hotplug}]
        mov     esi, [${R + 16}]
        inc     dword ptr [${R + 16}]
        mov     dword ptr [${X86.hotplug}], 0x66
        mov     byte ptr [${S + 4}], 0x66
        mov     eax, 0x1234
        mov     cr3, eax`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(4096);
      bytes[0] = 0x25;
      map(rig, S, bytes);
      rig.engine.plug(X86.hotplug, 2 * 2 ** 20);
      rig.start();
      await rig.finish();
      rig.engine.pause();
      rig.reset();
      assert.equal(rig.registers().cr3, 0n);
      rig.start();
      await rig.finish(2);
      assert.equal(bytes[4], 0x66);
    },
    trace: [],
    registers: { rbp: 0, rdi: 0, rcx: 0x25, rdx: 0x66, rsi: 1 },
    memory: { [R + 16]: 2 },
  }),
  control('a reset in the midst of REP INSB', {
    reads: { [PORT]: [1, 2, 3, 4] },
    code: guest(`
        mov     edx, ${PORT}
        mov     edi, ${R + 0x100}
        mov     ecx, 2
        cld
        rep insb
        mov     edx, ${PORT + 4}
        out     dx, al
1:      cmp     dword ptr [${R + 8}], 0
        je      1b`),
    run: async rig => {
      rig.onWrite(PORT + 4, () => rig.engine.kick());
      rig.start();
      await rig.until('the write', () => rig.trace.length === 3);
      rig.engine.pause();
      rig.reset();
      rig.engine.memory.setU32(R + 8, 1);
      rig.start();
      await rig.finish();
    },
    trace: [
      portIn(1, PORT, 1),
      portIn(1, PORT, 2),
      portOut(1, PORT + 4, 0),
      portIn(1, PORT, 3),
      portIn(1, PORT, 4),
      portOut(1, PORT + 4, 0),
    ],
    memory: { [R + 0x100]: 0x403 },
  }),
  control('stop() and reset(): the guest runs again', {
    code: guest(`out ${0x80}, al`),
    run: async rig => {
      rig.start();
      rig.engine.stop();
      assert.equal(rig.step(), 'stopped');
      rig.reset();
      rig.start();
      await rig.finish();
    },
    trace: [portOut(1, 0x80, 0)],
  }),
  control('a triple fault is a reset of the machine', {
    smoke: true,
    words: { [IDTR]: 0 },
    code: guest(`
        mov     edx, ${PORT}
        out     dx, al
        lidt    [${IDTR}]
        ud2
        out     dx, al`),
    run: rig => toTheEnd(rig),
    trace: [portOut(1, PORT, 0), ended('reset')],
  }),
  control('HLT waits for a wire, whose interrupt comes by the 8259', {
    mode: 'real',
    smoke: true,
    // The vector 0x25 of the real mode's table is 0:HANDLER.
    words: { [8 * 0x12]: BigInt(HANDLER) << 32n, [R]: 0 },
    code: guest(
      `
        ${pic(5)}
        mov     dx, ${PORT}
        xor     bx, bx
        xor     al, al
        out     dx, al
        sti
1:      hlt
        test    bx, bx
        jz      1b
        cli`,
      `
        .p2align 9
        inc     bx
        mov     al, 0x25
        mov     dx, ${PORT + 4}
        out     dx, al
        mov     al, 0x20
        out     0x20, al
        iret`,
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(5);
      rig.onWrite(PORT, () => rig.later(() => line.set(true)));
      rig.onWrite(PORT + 4, () => line.set(false));
      rig.start();
      await rig.finish();
    },
    trace: [portOut(1, PORT, 0), portOut(1, PORT + 4, 0x25)],
    registers: { rbx: 1 },
  }),
  control('a wire that is raised by a write interrupts before the guest has gone far', {
    needs: ['IRET in protected mode'],
    words: { [X86.idt + 8 * 0x25]: GATE, [IDTR]: IDTR_WORD },
    code: guest(
      `
        lidt    [${IDTR}]
        ${pic(5)}
        xor     ebx, ebx
        sti
        mov     edx, ${PORT}
        out     dx, al
1:      test    ebx, ebx
        jz      1b
        cli`,
      `
        .p2align 9
        inc     ebx
        mov     edx, ${PORT + 4}
        mov     al, 0x25
        out     dx, al
        mov     al, 0x20
        out     0x20, al
        iretd`,
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(5);
      rig.onWrite(PORT, () => line.set(true));
      rig.onWrite(PORT + 4, () => line.set(false));
      rig.start();
      await rig.finish();
    },
    trace: [portOut(1, PORT, 0xff), portOut(1, PORT + 4, 0x25)],
    registers: { rbx: 1 },
  }),
  control('a level-triggered wire into the I/O APIC interrupts again after every end of interrupt', {
    needs: ['IRET in protected mode'],
    words: { [X86.idt + 8 * 0x53]: GATE, [IDTR]: IDTR_WORD },
    code: guest(
      `
        lidt    [${IDTR}]
        mov     dword ptr [${APIC.svr}], 0x1ff
        ${IOAPIC_PIN_5}
        xor     ebx, ebx
        sti
        mov     edx, ${PORT}
        out     dx, al
1:      cmp     ebx, 3
        jne     1b
        mov     ecx, 1000
2:      loop    2b
        cli`,
      `
        .p2align 9
        inc     ebx
        mov     edx, ${PORT + 4}
        mov     al, bl
        out     dx, al
        mov     dword ptr [${APIC.eoi}], 0
        iretd`,
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(5);
      rig.onWrite(PORT, () => line.set(true));
      rig.onWrite(PORT + 4, value => value === 3 && line.set(false));
      rig.start();
      await rig.finish();
    },
    trace: [portOut(1, PORT, 0xff), ...[1, 2, 3].map(n => portOut(1, PORT + 4, n))],
    registers: { rbx: 3 },
  }),
  control('a wire that is high throughout a reset interrupts after it', {
    needs: ['IRET in protected mode'],
    words: { [X86.idt + 8 * 0x53]: GATE, [IDTR]: IDTR_WORD },
    code: guest(
      `
        lidt    [${IDTR}]
        mov     dword ptr [${APIC.svr}], 0x1ff
        xor     ebx, ebx
        ${IOAPIC_PIN_5}
        sti
1:      test    ebx, ebx
        jz      1b
        cli`,
      `
        .p2align 9
        inc     ebx
        mov     edx, ${PORT + 4}
        mov     al, bl
        out     dx, al
        mov     dword ptr [${APIC.eoi}], 0
        iretd`,
    ),
    run: async rig => {
      const line = rig.subject.interrupts.line(5);
      line.set(true);
      let lowers = false;
      rig.onWrite(PORT + 4, () => (lowers ? line.set(false) : rig.engine.stop()));
      rig.start();
      await rig.until('the interrupt', () => rig.trace.length === 1);
      rig.engine.pause();
      rig.reset();
      lowers = true;
      rig.start();
      await rig.finish();
    },
    trace: [1, 2].map(() => portOut(1, PORT + 4, 1)),
    registers: { rbx: 1 },
  }),
  control('a message is its vector at the local APIC; one to another address is nobody’s', {
    smoke: true,
    needs: ['IRET in protected mode'],
    words: { [X86.idt + 8 * 0x51]: GATE, [IDTR]: IDTR_WORD },
    code: guest(
      `
        lidt    [${IDTR}]
        mov     dword ptr [${APIC.svr}], 0x1ff
        xor     ebx, ebx
        mov     edx, ${PORT}
        out     dx, al
1:      cli
        test    ebx, ebx
        jnz     2f
        sti
        hlt
        jmp     1b
2:`,
      `
        .p2align 9
        inc     ebx
        mov     dword ptr [${APIC.eoi}], 0
        iretd`,
    ),
    run: async rig => {
      const { interrupts } = rig.subject;
      rig.onWrite(PORT, () =>
        rig.later(() => {
          assert.equal(interrupts.signalMsi({ address: 0xfed0_0000, data: 0x51 }), false);
          assert.equal(interrupts.signalMsi({ address: 0xfee0_0000, data: 0x51 }), true);
        }),
      );
      rig.start();
      await rig.finish();
    },
    trace: [portOut(1, PORT, 0)],
    registers: { rbx: 1 },
  }),
  control('the local APIC’s timer ends HLT', {
    needs: ['IRET in protected mode'],
    words: { [X86.idt + 8 * 0x52]: GATE, [IDTR]: IDTR_WORD },
    code: guest(
      `
        lidt    [${IDTR}]
        mov     dword ptr [${APIC.svr}], 0x1ff
        mov     dword ptr [${APIC.divide}], 0xb
        mov     dword ptr [${APIC.timer}], 0x52
        xor     ebx, ebx
        mov     dword ptr [${APIC.initial}], 1000000
1:      cli
        test    ebx, ebx
        jnz     2f
        sti
        hlt
        jmp     1b
2:`,
      `
        .p2align 9
        inc     ebx
        mov     dword ptr [${APIC.eoi}], 0
        iretd`,
    ),
    trace: [],
    registers: { rbx: 1 },
  }),
  control('two vCPUs: INIT and SIPI start the second in real mode; the exits of both are answered each to its own', {
    cpus: 2,
    reads: {
      [PORT]: Array.from({ length: 20 }, (_, i) => i),
      [PORT + 8]: Array.from({ length: 20 }, (_, i) => 100 + i),
    },
    code: guest(
      `
        mov     dword ptr [${APIC.svr}], 0x1ff
        mov     dword ptr [0xfee00310], 0x01000000 # ICR, high: APIC id 1
        mov     dword ptr [0xfee00300], 0x4500 # INIT
        mov     dword ptr [0xfee00310], 0x01000000
        mov     dword ptr [0xfee00300], 0x4602 # SIPI at page 2
        mov     edx, ${PORT}
        mov     ecx, 20
        xor     ebx, ebx
1:      xor     eax, eax
        in      al, dx
        add     ebx, eax
        out     dx, al
        loop    1b
2:      cmp     dword ptr [${R + 0x80}], 0
        je      2b`,
      `
        .p2align 12
        .code16
        xor     ax, ax
        mov     ds, ax
        mov     dx, ${PORT + 8}
        mov     cx, 20
        xor     bx, bx
1:      xor     ax, ax
        in      al, dx
        add     bx, ax
        out     dx, al
        loop    1b
        mov     ax, ${R >> 4}
        mov     ds, ax
        mov     [0x84], bx
        mov     word ptr [0x80], 1
2:      hlt
        jmp     2b`,
    ),
    run: async rig => {
      rig.start();
      await rig.finish();
      rig.trace.sort((a, b) => a.slice(0, 5).localeCompare(b.slice(0, 5)));
    },
    trace: [0, 1].flatMap(cpu =>
      Array.from({ length: 20 }, (_, i) => 100 * cpu + i).flatMap(v => [
        portIn(1, PORT + 8 * cpu, v, cpu),
        portOut(1, PORT + 8 * cpu, v, cpu),
      ]),
    ),
    registers: { rbx: 190 },
    memory: { [R + 0x80]: 1n | (2190n << 32n) },
  }),
  control('doorbells ring, by an event or by an exit; other values of a doorbell with a value are the device’s', {
    cpus: 2,
    code: guest(`
        mov     edi, ${D}
        mov     edx, ${PORT}
        mov     eax, 5
        mov     [edi + 0x20], eax
        out     dx, ax
        mov     eax, 6
        out     dx, ax
        ${meet(1)}
        mov     [edi + 0x20], eax`),
    run: async rig => {
      const { doorbells } = rig.engine;
      const rung = new Set<string>();
      const memory = doorbells?.register('memory', D + 0x20, { offset: 0, size: 4, ring: () => rung.add('any') });
      const five = { offset: 0, size: 2, value: 5, ring: () => rung.add('five') } as const;
      const io = doorbells?.register('io', PORT, five);
      // Without events the device rings them itself.
      rig.onWrite(D + 0x20, () => rung.add('any'));
      rig.onWrite(PORT, v => v === 5 && rung.add('five'));
      rig.start();
      await rig.until('both rung', () => rung.size === 2 && rig.ends === 1);
      const writes = rig.trace.splice(0);
      if (doorbells === undefined) assert.deepEqual(writes.splice(0, 2), [write(4, D + 0x20, 5), portOut(2, PORT, 5)]);
      rig.trace.push(...writes);
      await meeting(rig, 1, () => {
        memory?.[Symbol.dispose]();
        io?.[Symbol.dispose]();
      });
      await rig.finish(2);
    },
    trace: [portOut(2, PORT, 6), write(4, D + 0x20, 6)],
  }),
];
