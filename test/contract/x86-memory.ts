import assert from 'node:assert/strict';
import { type ContractCase, portOut, type Rig, read, write } from './contract.ts';
import { map, PAGE, setU32, u32, written } from './memory.ts';
import { X86 } from './places.ts';
import { guest, meet, meeting } from './x86-source.ts';

// Memory that guests reach without an exit, and writes that wait for one.

const D = X86.device;
const R = X86.data;
const S = X86.slot;
const BLOCK = 2 * 2 ** 20;
const ONES = 0xffff_ffff;
const PORT = 0x300;

const memory = (title: string, c: Omit<ContractCase, 'title' | 'arch'>): ContractCase => ({
  title,
  arch: 'x86_64',
  mode: 'protected',
  ...c,
});

/**
 * The pages that vCPUs have written, without that of the meetings: the host has written it, and x86's KVM reports a page, too, that
 * a vCPU comes to read first and could write (make_spte() of arch/x86/kvm/mmu/spte.c).
 */
const writtenByGuest = (rig: Rig) => written(rig).filter(p => p !== R);

/** Cases of memory. */
export const X86_MEMORY_CASES: readonly ContractCase[] = [
  memory('device memory is read and written without an exit; beside it is the device', {
    smoke: true,
    reads: { [S + PAGE]: 0x77, [S - 4]: 0x66 },
    code: guest(`
        mov     edi, ${S}
        mov     eax, [edi + 0x10]
        mov     dword ptr [edi + 0x20], 0x1234
        mov     dword ptr [edi + 0xffc], 0x5678
        mov     ebx, [edi + 0x1000]
        mov     [edi + 0x1000], al
        mov     ecx, [edi - 4]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 0x10, 0xabcd_ef01);
      map(rig, S, bytes);
      rig.start();
      await rig.finish();
      assert.equal(u32(bytes, 0x20), 0x1234);
      assert.equal(u32(bytes, 0xffc), 0x5678);
    },
    trace: [read(4, S + PAGE, 0x77), write(1, S + PAGE, 0x01), read(4, S - 4, 0x66)],
    registers: { rax: 0xabcd_ef01, rbx: 0x77, rcx: 0x66 },
  }),
  memory('read-only memory is read without an exit, and a write of it is the device’s', {
    smoke: true,
    code: guest(`
        mov     edi, ${S}
        mov     eax, [edi + 8]
        mov     byte ptr [edi + 8], 0x55
        mov     dword ptr [edi + 8], 0x66
        mov     ebx, [edi + 8]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 8, 0x0102_0304);
      map(rig, S, bytes, { readOnly: true });
      rig.start();
      await rig.finish();
      assert.equal(u32(bytes, 8), 0x0102_0304);
    },
    trace: [write(1, S + 8, 0x55), write(4, S + 8, 0x66)],
    registers: { rax: 0x0102_0304, rbx: 0x0102_0304 },
  }),
  memory('code runs from read-only memory of a device, as a firmware’s does', {
    code: guest(`
        mov     eax, ${S}
        mov     ebx, 1
        call    eax`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      // add ebx, 0x41; ret
      bytes.set([0x83, 0xc3, 0x41, 0xc3]);
      map(rig, S, bytes, { readOnly: true });
      rig.start();
      await rig.finish();
    },
    trace: [],
    registers: { rbx: 0x42 },
  }),
  memory('memory of a device appears, moves and goes while the guest is paused', {
    code: guest(`
        mov     esi, ${S}
        mov     edi, ${S + 0x10_0000}
        mov     eax, [esi]
        ${meet(1)}
        mov     eax, [esi]
        mov     ebx, [edi]
        ${meet(2)}
        mov     ecx, [esi]
        mov     edx, [edi]
        mov     dword ptr [edi + 4], 9
        ${meet(3)}
        mov     ebp, [edi]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 0, 0x1111);
      let slot: Disposable | undefined;
      rig.start();
      await meeting(rig, 1, () => {
        slot = map(rig, S, bytes);
      });
      await meeting(rig, 2, () => {
        slot?.[Symbol.dispose]();
        slot = map(rig, S + 0x10_0000, bytes);
      });
      await meeting(rig, 3, () => slot?.[Symbol.dispose]());
      await rig.finish(4);
      assert.equal(u32(bytes, 4), 9);
    },
    trace: [read(4, S, ONES), read(4, S + 0x10_0000, ONES), read(4, S, ONES), read(4, S + 0x10_0000, ONES)],
    registers: { rax: 0x1111, rbx: ONES, rcx: ONES, rdx: 0x1111, rbp: ONES },
  }),
  memory('memory of a device moves by the guest’s own write to a port, and is there for the next instruction', {
    smoke: true,
    code: guest(`
        mov     edx, ${PORT}
        mov     eax, 1
        out     dx, eax
        mov     ebx, [${S + 4}]
        mov     eax, 2
        out     dx, eax
        mov     ecx, [${S + 0x1_0004}]
        mov     eax, 0
        out     dx, eax
        mov     esi, [${S + 0x1_0004}]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      setU32(bytes, 4, 0x2222);
      let slot: Disposable | undefined;
      rig.onWrite(PORT, value => {
        slot?.[Symbol.dispose]();
        slot = Number(value) === 0 ? undefined : map(rig, S + (Number(value) - 1) * 0x1_0000, bytes);
      });
      rig.start();
      await rig.finish();
    },
    trace: [portOut(4, PORT, 1), portOut(4, PORT, 2), portOut(4, PORT, 0), read(4, S + 0x1_0004, ONES)],
    registers: { rbx: 0x2222, rcx: 0x2222, rsi: ONES },
  }),
  memory('memory of a device that is where RAM is: the guest sees RAM', {
    words: { [R + 0x1000]: 0x5a5a },
    code: guest(`mov eax, [${R + 0x1000}]`),
    run: async rig => {
      const { bytes } = rig.engine.slots.allocate(PAGE);
      const slot = rig.engine.slots.map(R + 0x1000, PAGE, { bytes }, 0, false);
      rig.start();
      await rig.finish();
      slot?.[Symbol.dispose]();
    },
    trace: [],
    registers: { rax: 0x5a5a },
  }),
  memory('RAM is in two parts with devices between them', {
    reads: { [X86.lowDevice]: 0x99 },
    code: guest(`
        mov     dword ptr [${X86.low - 4}], 1
        mov     dword ptr [${X86.high}], 2
        mov     eax, [${X86.low - 4}]
        mov     ebx, [${X86.high}]
        mov     ecx, [${X86.lowDevice}]`),
    trace: [read(4, X86.lowDevice, 0x99)],
    registers: { rax: 1, rbx: 2, rcx: 0x99 },
  }),
  memory('memory is plugged, keeps what is written while it is there, and goes', {
    hotplug: 2 * BLOCK,
    code: guest(`
        mov     esi, ${X86.hotplug}
        mov     edi, ${X86.hotplug + BLOCK}
        mov     eax, [esi + 8]
        ${meet(1)}
        mov     dword ptr [esi + 8], 0x99
        mov     ebx, [edi + 8]
        ${meet(2)}
        mov     ecx, [esi + 8]
        mov     edx, [edi + 8]
        ${meet(3)}
        mov     ebp, [esi + 8]
        mov     edi, [edi + 8]`),
    run: async rig => {
      rig.start();
      await meeting(rig, 1, () => rig.engine.plug(X86.hotplug, BLOCK));
      await meeting(rig, 2, () => rig.engine.plug(X86.hotplug + BLOCK, BLOCK));
      await meeting(rig, 3, () => rig.engine.unplug(X86.hotplug, BLOCK));
      await rig.finish(4);
    },
    trace: [read(4, X86.hotplug + 8, ONES), read(4, X86.hotplug + BLOCK + 8, ONES), read(4, X86.hotplug + 8, ONES)],
    registers: { rbx: ONES, rcx: 0x99, rdx: 0, rbp: ONES, rdi: 0 },
  }),
  memory('the pages that are reported as written are those that the guest writes, once', {
    smoke: true,
    code: guest(`
        mov     esi, ${R + 0x1_0000}
        ${meet(1)}
        mov     [esi], esi
        mov     [esi + 0x20], esi
        mov     [esi + 0x3000], al
        mov     ebx, [esi + 0x4000]
        mov     [esi + 0x6ffe], esi
        ${meet(2)}
        mov     ebx, [esi]
        ${meet(3)}
        mov     [esi], esi
        ${meet(4)}
        mov     [esi + 0x1000], esi`),
    run: async rig => {
      const base = R + 0x1_0000;
      rig.start();
      await meeting(rig, 1, () => rig.engine.writeTracker.start());
      await meeting(rig, 2, () => {
        assert.deepEqual(
          writtenByGuest(rig).map(p => (p - base) / PAGE),
          [0, 3, 6, 7],
        );
      });
      await meeting(rig, 3, () => assert.deepEqual(writtenByGuest(rig), []));
      await meeting(rig, 4, () => {
        assert.deepEqual(writtenByGuest(rig), [base]);
        rig.engine.writeTracker.stop();
      });
      await rig.finish(5);
      rig.engine.pause();
      // A log that starts again starts empty.
      rig.engine.writeTracker.start();
      assert.deepEqual(writtenByGuest(rig), []);
    },
    trace: [],
  }),
  memory('REP INSB that the host answers is a write of the guest’s pages', {
    reads: { [PORT]: 1 },
    code: guest(`
        ${meet(1)}
        mov     edx, ${PORT}
        mov     edi, ${R + 0x1fff}
        mov     ecx, 2
        cld
        rep insb
        ${meet(2)}`),
    run: async rig => {
      rig.start();
      await meeting(rig, 1, () => rig.engine.writeTracker.start());
      await meeting(rig, 2, () => assert.deepEqual(writtenByGuest(rig), [R + 0x1000, R + 0x2000]));
      await rig.finish(3);
    },
    trace: [1, 2].map(() => `cpu 0: in1 0x300 -> 0x1`),
    memory: { [R + 0x1ff8]: 1n << 56n, [R + 0x2000]: 1 },
  }),
  memory('pages that are given back read as zeros, count as written, and can be written again', {
    smoke: true,
    words: { [R + 0x1000]: 0x1111, [R + 0x2000]: 0x2222, [R + 0x2ff8]: 0x3333, [R + 0x3000]: 0x4444 },
    code: guest(`
        mov     esi, ${R + 0x2000}
        mov     eax, [esi]
        ${meet(1)}
        mov     ebx, [esi]
        mov     ecx, [esi + 0xff8]
        mov     edx, [esi + 0x1000]
        mov     dword ptr [esi + 16], 7
        mov     ebp, [esi + 16]`),
    run: async rig => {
      rig.start();
      rig.engine.writeTracker.start();
      await meeting(rig, 1, () => {
        writtenByGuest(rig);
        rig.engine.discard(R + 0x2000, PAGE);
        assert.deepEqual(writtenByGuest(rig), [R + 0x2000]);
      });
      await rig.finish(2);
    },
    trace: [],
    memory: { [R + 0x1000]: 0x1111, [R + 0x2000]: 0, [R + 0x2010]: 7, [R + 0x2ff8]: 0, [R + 0x3000]: 0x4444 },
    registers: { rax: 0x2222, rbx: 0, rcx: 0, rdx: 0x4444, rbp: 7 },
  }),
  memory('writes that may wait come in their order before the next access is answered', {
    smoke: true,
    reads: { [PORT]: 0x55 },
    code: guest(`
        mov     edi, ${D}
        mov     edx, ${PORT}
        mov     dword ptr [edi], 1
        mov     dword ptr [edi], 2
        mov     dword ptr [edi], 3
        in      al, dx
        mov     dword ptr [edi], 4
        mov     dword ptr [edi + 8], 5
        mov     dword ptr [edi], 6
        mov     ebx, [edi]
        mov     byte ptr [edi + 1], 7`),
    run: async rig => {
      rig.subject.coalesce?.('memory', D, 4);
      rig.start();
      await rig.finish();
    },
    trace: [
      write(4, D, 1),
      write(4, D, 2),
      write(4, D, 3),
      'cpu 0: in1 0x300 -> 0x55',
      write(4, D, 4),
      write(4, D + 8, 5),
      write(4, D, 6),
      read(4, D, ONES),
      write(1, D + 1, 7),
    ],
  }),
  memory('writes to ports that may wait, more than there is room for', {
    code: guest(`
        mov     edx, ${PORT}
        mov     ecx, 500
        xor     eax, eax
1:      out     dx, al
        inc     eax
        loop    1b
        mov     edx, ${PORT + 1}
        out     dx, al`),
    run: async rig => {
      rig.subject.coalesce?.('io', PORT, 1);
      rig.start();
      await rig.finish();
    },
    trace: [...Array.from({ length: 500 }, (_, i) => portOut(1, PORT, i & 0xff)), portOut(1, PORT + 1, 500 & 0xff)],
  }),
  memory('writes that may wait come although the guest spins', {
    code: guest(`
        mov     edi, ${D}
        mov     dword ptr [edi], 1
        mov     dword ptr [edi], 2
1:      jmp     1b`),
    run: async rig => {
      rig.subject.coalesce?.('memory', D, 4);
      rig.start();
      await rig.until('the writes', () => rig.trace.length === 2);
    },
    trace: [write(4, D, 1), write(4, D, 2)],
  }),
];
