import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../../scripts/asm/assemble.ts';
import { FlashFile, type FlashFileOptions } from '../../src/backends/flash/flash-file.ts';
import { createMachine } from '../../src/machine/create.ts';
import type { GuestMachine } from '../../src/machine/guest-machine.ts';
import type { MachineConfig } from '../../src/machine/machine.ts';
import { AAVMF_VARS, bootUefiShell, hasUefi } from '../support/uefi.ts';

const KIB = 1024;
const MIB = KIB * KIB;
const folder = fs.mkdtempSync(join(tmpdir(), 'tsvisor-flash-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

let count = 0;
/** A path of its own for each use. */
const fresh = (name: string) => join(folder, `${++count}-${name}`);

function file(content: Uint8Array | string): string {
  const path = fresh('vars.fd');
  fs.writeFileSync(path, content);
  return path;
}

/** A bank as the emulated engine has it: zeroes of shared memory. */
const bank = (size: number) => new Uint8Array(new SharedArrayBuffer(size));

function withFile<T>(options: FlashFileOptions, use: (f: FlashFile) => T): T {
  const f = FlashFile.open(options);
  try {
    return use(f);
  } finally {
    f.close();
  }
}

const code = (code: string) => expect.objectContaining({ code, hint: expect.any(String) });

describe('FlashFile', () => {
  it('is the start of the bank; the rest is erased', () => {
    for (const size of [0, 1, 1000, 256 * KIB, 700 * KIB, MIB]) {
      const content = Buffer.alloc(size, 0x5a);
      // Zeroes in between, which are not copied.
      content.fill(0, Math.min(256 * KIB, size), Math.min(600 * KIB, size));
      const array = bank(MIB);
      withFile({ path: file(content), bank: array }, () => undefined);
      expect(Buffer.compare(array.slice(0, size), content)).toBe(0);
      expect(array.subarray(size).every(b => b === 0xff)).toBe(true);
    }
  });

  it('has every change when write() returns, without close()', () => {
    const path = file(Buffer.alloc(4 * KIB, 0xff));
    withFile({ path, bank: bank(MIB) }, f => {
      expect(f.write(100, Uint8Array.of(1, 2, 3))).toBe(true);
      expect([...fs.readFileSync(path).subarray(99, 104)]).toEqual([0xff, 1, 2, 3, 0xff]);
      expect(fs.statSync(path).size).toBe(4 * KIB);
    });
  });

  it('grows when it must, with erased flash in between', () => {
    const path = file(Uint8Array.of(7));
    withFile({ path, bank: bank(MIB) }, f => {
      expect(f.write(512 * KIB, new Uint8Array(256 * KIB).fill(0xff))).toBe(true);
      expect(fs.statSync(path).size).toBe(1);
      expect(f.write(600 * KIB, Uint8Array.of(9))).toBe(true);
      // An erase whose block has something behind it.
      expect(f.write(512 * KIB, new Uint8Array(256 * KIB).fill(0xff))).toBe(true);
      expect(f.write(3, Uint8Array.of(8))).toBe(true);
    });
    const expected = Buffer.alloc(768 * KIB, 0xff);
    expected.set([7, 0xff, 0xff, 8]);
    expect(Buffer.compare(fs.readFileSync(path), expected)).toBe(0);
  });

  it('says once to the guest and ten times to the user that the host cannot write', () => {
    const path = file(Buffer.alloc(16));
    const lines: string[] = [];
    const writeSync = () => {
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    };
    withFile({ path, bank: bank(64), writeSync, log: line => lines.push(line) }, f => {
      for (let n = 0; n < 50; n++) expect(f.write(0, Uint8Array.of(1))).toBe(false);
    });
    expect(lines.length).toBe(10);
    expect(lines[0]).toMatch(/^flash: .*vars\.fd cannot be written \(ENOSPC\)/);
    expect([...fs.readFileSync(path)]).toEqual(new Array(16).fill(0));
  });

  it('goes on after a host that wrote less than it was asked to', () => {
    const path = file('');
    withFile(
      {
        path,
        bank: bank(64),
        writeSync: (fd, bytes, start, length, position) =>
          fs.writeSync(fd, bytes, start, Math.min(length, 3), position),
      },
      f => expect(f.write(4, Uint8Array.of(1, 2, 3, 4, 5, 6, 7))).toBe(true),
    );
    expect([...fs.readFileSync(path)]).toEqual([0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('refuses what is no such file, with a hint', () => {
    const open = (path: string) => () => FlashFile.open({ path, bank: bank(64) });
    expect(open(join(folder, 'none'))).toThrow(code('ERR_FILE_NOT_FOUND'));
    expect(open(folder)).toThrow(code('ERR_FILE_IS_DIRECTORY'));
    expect(open('/dev/null')).toThrow(code('ERR_FILE_UNREADABLE'));
    expect(open(file(Buffer.alloc(65)))).toThrow(code('ERR_DOES_NOT_FIT'));
  });

  it('is locked until it is closed', () => {
    const path = file('x');
    const f = FlashFile.open({ path, bank: bank(64) });
    expect(() => FlashFile.open({ path, bank: bank(64) })).toThrow(code('ERR_DISK'));
    expect(() => FlashFile.open({ path, bank: bank(64) })).toThrow(/^flash: .* is in use by this process/);
    f.close();
    f.close();
    withFile({ path, bank: bank(64) }, () => undefined);
  });

  it('keeps whatever a process that is killed had been told is kept', async () => {
    const path = file('');
    const source = `
      const { FlashFile } = await import(${JSON.stringify(pathToFileURL(`${process.cwd()}/dist/backends/flash/flash-file.js`).href)});
      const f = FlashFile.open({ path: ${JSON.stringify(path)}, bank: new Uint8Array(1048576) });
      for (let n = 0; ; n = (n + 1) % 250) {
        for (let block = 0; block < 4; block++) f.write(block * 262144, new Uint8Array(262144).fill(n));
        process.stdout.write(n + '\\n');
        if (n === 0) await new Promise(r => setTimeout(r, 1));
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let rounds = 0;
    for await (const _ of createInterface(child.stdout)) if (++rounds === 20) break;
    child.kill('SIGKILL');
    await new Promise(resolve => child.once('exit', resolve));
    const left = fs.readFileSync(path);
    // At least the twentieth round; of a later one only the last block may be half done.
    expect(left.length).toBe(MIB);
    const firsts = [0, 1, 2, 3].map(b => left[b * 256 * KIB]!);
    expect(Math.min(...firsts)).toBeGreaterThanOrEqual(19);
    expect(Math.max(...firsts) - Math.min(...firsts)).toBeLessThanOrEqual(1);
    // Its lock is not in the way.
    withFile({ path, bank: bank(MIB) }, () => undefined);
  });
});

/**
 * A firmware. It looks for the device tree, reads itself as memory in ways that no device answers, programs a word and a
 * buffer of bank 1, erases a block of it, tries to change bank 0, and leaves what it saw behind the device tree.
 */
const FIRMWARE = `
  mov x19, x0                 // the device tree
  movz x20, #0x4010, lsl #16  // what it saw
  movz x21, #0x400, lsl #16   // bank 1
  movz x1, #0x4000, lsl #16
  ldr w2, [x1]
  str w2, [x20]               // 0x00: magic of the device tree
  str x19, [x20, #8]          // 0x08
  adr x3, pair
  ldp x4, x5, [x3]
  stp x4, x5, [x20, #0x10]    // 0x10, 0x18: a pair from flash
  ldr w6, [x21, #0x40]
  str w6, [x20, #0x20]        // 0x20: what bank 1 has there
  movz w7, #0x40
  movk w7, #0x40, lsl #16
  str w7, [x21, #0x40]
  movz w8, #0x5678
  movk w8, #0x1234, lsl #16
  str w8, [x21, #0x40]        // word program
  ldr w6, [x21]
  str w6, [x20, #0x24]        // 0x24: status
  movz w9, #0xff
  str w9, [x21]
  ldr w6, [x21, #0x40]
  str w6, [x20, #0x28]        // 0x28: programmed
  movz w7, #0xe8
  str w7, [x21, #0x80]
  mov w7, #1
  str w7, [x21, #0x80]
  str w8, [x21, #0x80]
  str w8, [x21, #0x84]
  movz w7, #0xd0
  str w7, [x21]
  str w9, [x21]
  ldp x4, x5, [x21, #0x80]
  stp x4, x5, [x20, #0x30]    // 0x30, 0x38: programmed by buffer
  add x10, x21, #0x100, lsl #12
  movz w7, #0x20
  str w7, [x10]
  movz w7, #0xd0
  str w7, [x10]
  ldr w6, [x10]
  str w6, [x20, #0x2c]        // 0x2c: status of an erase
  str w9, [x21]
  ldr x4, [x10]
  str x4, [x20, #0x40]        // 0x40: erased
  movz x11, #0x200, lsl #16   // bank 0, far from this code: it is not memory meanwhile
  ldr x12, =ram
  adr x13, change
  mov x14, #8
1: ldr w6, [x13], #4
  str w6, [x12], #4
  sub x14, x14, #1
  cbnz x14, 1b
  ldr x12, =ram
  blr x12
  str w6, [x20, #0x48]        // 0x48: status of bank 0
  ldr w6, [x11]
  str w6, [x20, #0x4c]        // 0x4c: unchanged
  movz x0, #0x8400, lsl #16
  movk x0, #8
  hvc #0                      // SYSTEM_OFF
  b .
change:                       // runs in RAM
  movz w7, #0x40
  str w7, [x11]
  str wzr, [x11]
  ldr w6, [x11]
  str w9, [x11]
  ret
  nop
  nop
  .balign 16
pair: .quad 0x1122334455667788, 0x99aabbccddeeff00
  .ltorg
`;
const RAM = 0x4000_0000;
const SEEN = RAM + 0x10_0000;

describe('a machine with firmware', () => {
  const firmware = assemble(FIRMWARE, { define: { ram: RAM + 0x20_0000 } }).bytes;

  async function boot(options: Partial<MachineConfig>) {
    let reason: string | undefined;
    const log: string[] = [];
    const machine = await createMachine(
      {
        machine: 'arm-virt',
        engine: 'emu',
        kernel: undefined,
        firmware,
        initrd: undefined,
        params: '',
        memoryBytes: 64 * MIB,
        cpus: 1,
        clock: 'virtual',
        gic: 3,
        trace: [],
        devices: [],
        pciSlots: 0,
        ...options,
      },
      {
        console: () => {},
        exit: why => {
          reason = why;
        },
        log: line => log.push(line),
      },
    );
    const run = () => {
      for (let steps = 0; steps < 100 && machine.step() !== 'stopped'; steps++);
      const { memory } = (machine as GuestMachine).board.engine;
      return {
        reason,
        log,
        u32: (offset: number) => memory.u32(SEEN + offset),
        u64: (offset: number) => memory.u64(SEEN + offset),
      };
    };
    return { machine, run };
  }

  it('starts in bank 0, finds the device tree in RAM, and bank 1 is flash that outlives it', async () => {
    const flash = file(Buffer.alloc(2 * MIB, 0xf7));
    const { machine, run } = await boot({ flash });
    const seen = run();
    expect([seen.reason, seen.log]).toEqual(['shutdown', []]);
    expect(seen.u32(0)).toBe(0xedfe_0dd0);
    expect(seen.u64(8)).toBe(BigInt(RAM));
    expect([seen.u64(0x10), seen.u64(0x18)]).toEqual([0x1122334455667788n, 0x99aabbccddeeff00n]);
    // 0xf7f7f7f7 & 0x12345678
    expect([seen.u32(0x20), seen.u32(0x24), seen.u32(0x28)]).toEqual([0xf7f7_f7f7, 0x80_0080, 0x1234_5670]);
    expect([seen.u64(0x30), seen.u64(0x38)]).toEqual([0x1234_5670_1234_5670n, 0xf7f7_f7f7_f7f7_f7f7n]);
    expect([seen.u32(0x2c), seen.u64(0x40)]).toEqual([0x80_0080, 0xffff_ffff_ffff_ffffn]);
    // Ready, program error, no programming voltage; and erased behind the end of the image.
    expect([seen.u32(0x48), seen.u32(0x4c)]).toEqual([0x98_0098, 0xffff_ffff]);
    // Before the machine is closed.
    const kept = fs.readFileSync(flash);
    expect([kept.readUInt32LE(0x40), kept[0x10_0000 - 1], kept[0x10_0000], kept[0x13_ffff], kept[0x14_0000]]).toEqual([
      0x1234_5670, 0xf7, 0xff, 0xff, 0xf7,
    ]);
    await machine.close();
    expect(fs.existsSync(`${flash}.tsvisor-lock`)).toBe(false);

    const again = await boot({ flash });
    expect(again.run().u32(0x20)).toBe(0x1234_5670);
    await again.machine.close();
  });

  it('CFI-9: a reset keeps the contents and forgets what was begun', async () => {
    const { machine, run } = await boot({ flash: undefined });
    expect(run().u32(0x20)).toBe(0xffff_ffff);
    await machine.reset();
    const seen = run();
    expect([seen.u32(0x20), seen.u32(0x28), seen.reason]).toEqual([0x1234_5678, 0x1234_5678, 'shutdown']);
    await machine.close();
  });

  it('refuses a firmware that is too large, and RAM that leaves no room for flash', async () => {
    await expect(boot({ firmware: new Uint8Array(64 * MIB + 1) })).rejects.toThrow(code('ERR_DOES_NOT_FIT'));
    await expect(boot({ firmware: join(folder, 'none') })).rejects.toThrow(/^firmware: .*none does not exist/);
    await expect(boot({ memoryBytes: 4000 * MIB })).rejects.toThrow(code('ERR_MEMORY_TOO_LARGE'));
  });
});

describe.skipIf(!hasUefi('flash'))('EDK2', () => {
  const GUID = '7f2b3c64-5d0e-4f6a-9b1d-2c8e0a4f6b93';
  const variable = `setvar tsvisor -guid ${GUID}`;

  it('finds our PCI bus and its devices, and its variables survive a restart', async () => {
    const flash = fresh('vars.fd');
    fs.copyFileSync(AAVMF_VARS, flash);
    const disk = fresh('disk.img');
    fs.writeFileSync(disk, Buffer.alloc(MIB));
    {
      await using shell = await bootUefiShell({ flash, disk, rng: true, balloon: true, slots: 1 });
      const pci = await shell.run('pci');
      // Host bridge, disk, rng, balloon, root port.
      for (const id of [
        '1B36 Device 0008',
        '1AF4 Device 1042',

        '1AF4 Device 1044',
        '1AF4 Device 1045',
        '1B36 Device 000C',
      ]) {
        expect(pci).toContain(`Vendor ${id}`);
      }
      expect(await shell.run('map -r')).toMatch(/BLK0: .*\n\s*PciRoot\(0x0\)\/Pci\(0x1,0x0\)/);
      expect(await shell.run(`${variable} -nv -bs -rt =0x01 =0x02 =0x2a`)).toBe('');
      expect(shell.log).toEqual([]);
      await shell.vm.stop();
    }
    const stored = fs.readFileSync(flash);
    expect(stored.includes(Buffer.from('tsvisor', 'utf16le'))).toBe(true);

    await using shell = await bootUefiShell({ flash, disk });
    expect(await shell.run(variable)).toMatch(/tsvisor - 0003 Bytes\s+01 02 2A/);
    // The guest's own reset.
    shell.vm.console.write('reset\r');
    expect((await shell.vm.exited).reason).toBe('reset');
  });

  it('stores on erased flash, and what it stored outlives a VM that is killed', async () => {
    const flash = file('');
    {
      await using shell = await bootUefiShell({ flash });
      expect(await shell.run(`${variable} -nv -bs =L"kept"`)).toBe('');
      await shell.vm.kill();
    }
    const formatted = fs.readFileSync(flash);
    expect(formatted.subarray(0x28, 0x2c).toString()).toBe('_FVH');
    await using shell = await bootUefiShell({ flash });
    expect(await shell.run(variable)).toMatch(/tsvisor - 0008 Bytes\s+6B 00 65 00 70? ?/);
    // The second start found it formatted.
    expect(fs.readFileSync(flash).subarray(0, 0x64).equals(formatted.subarray(0, 0x64))).toBe(true);
  });

  it('starts without a file for its variables, with two CPUs and a GICv2', async () => {
    await using shell = await bootUefiShell({ cpus: 2, gic: 2 });
    expect(await shell.run('ver')).toContain('UEFI');
  });
});
