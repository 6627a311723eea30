import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CfiFlash, type CfiFlashOptions, type FlashStore } from './device.ts';
import { type FlashGeometry, queryTable } from './query.ts';

const KIB = 1024;
/** kvmtool's: 64 KiB blocks, and a buffer of 64 bytes in each of the two chips. */
const KVMTOOL: FlashGeometry = { size: 1024 * KIB, blockSize: 64 * KIB, bufferSize: 128 };
/** Blocks and buffer of QEMU's virt board. */
const QEMU: FlashGeometry = { size: 2048 * KIB, blockSize: 256 * KIB, bufferSize: 4 * KIB };
const GEOMETRIES = [
  ['kvmtool', KVMTOOL],
  ['QEMU', QEMU],
] as const;

/** As drivers write commands: to both chips at once. */
const both = (n: number) => ((n << 16) | n) >>> 0;
const READY = both(0x80);

function connect(geometry: FlashGeometry = KVMTOOL, more: Partial<CfiFlashOptions> = {}) {
  const array = new Uint8Array(geometry.size).fill(0xff);
  /** Whether guests read the array as memory. */
  const mapped: boolean[] = [];
  const flash = new CfiFlash({
    name: 'flash',
    geometry,
    array,
    mapArray: () => {
      mapped.push(true);
      return { [Symbol.dispose]: () => void mapped.push(false) };
    },
    ...more,
  });
  const get = (offset: number) => flash.read(offset, 4);
  const set = (offset: number, value: number) => flash.write(offset, 4, value);
  const command = (offset: number, n: number) => set(offset, both(n));
  const status = (offset = 0) => {
    command(offset, 0x70);
    return get(offset);
  };
  /** One word, as EDK2 programs it. */
  const program = (offset: number, value: number) => {
    command(offset, 0x40);
    set(offset, value);
  };
  const buffered = (offset: number, words: readonly number[], confirm = 0xd0) => {
    command(offset, 0xe8);
    command(offset, words.length - 1);
    for (const [i, w] of words.entries()) set(offset + 4 * i, w);
    command(0, confirm);
  };
  const erase = (offset: number, confirm = 0xd0) => {
    command(offset, 0x20);
    command(offset, confirm);
  };
  const lock = (offset: number, how: number) => {
    command(offset, 0x60);
    command(offset, how);
  };
  const words = (offset: number, count: number) => {
    command(0, 0xff);
    return Array.from({ length: count }, (_, i) => get(offset + 4 * i));
  };
  return { flash, array, mapped, get, set, command, status, program, buffered, erase, lock, words };
}

describe('CfiFlash', () => {
  it('CFI-1: 0x98 shows the query table, a byte a word, the same in both halves', () => {
    const { command, get, flash } = connect();
    command(0, 0x98);
    const expected: [number, number[]][] = [
      [0x10, [0x51, 0x52, 0x59, 0x01, 0x00, 0x31, 0x00]],
      [0x1b, [0x45, 0x55]],
      [0x1f, [1, 1, 1]],
      [0x27, [19, 0x05, 0x00, 6, 0, 1, 15, 0, 0x80, 0x00]],
      [0x31, [0x50, 0x52, 0x49, 0x31, 0x30, 0xa0]],
      [0x3b, [1, 0, 0x50, 0, 1]],
    ];
    for (const [at, bytes] of expected) {
      expect(bytes.map((_, i) => get(4 * (at + i)))).toEqual(bytes.map(both));
    }
    // Narrow reads are of their part; behind the table there is nothing.
    expect([flash.read(0x40, 1), flash.read(0x41, 1), flash.read(0x42, 2), get(0x100), get(0x40000)]).toEqual([
      0x51, 0, 0x51, 0, 0,
    ]);
    expect(flash.read64(0x40)).toBe(0x52_0052_0051_0051n);
  });

  it('CFI-1: sizes in the table are of one chip', () => {
    const table = queryTable({ size: 64 * KIB * KIB, blockSize: 256 * KIB, bufferSize: 4 * KIB });
    expect([0x27, 0x2a, 0x2d, 0x2e, 0x2f, 0x30].map(q => table[q])).toEqual([25, 11, 255, 0, 0x00, 0x02]);
  });

  it.each(GEOMETRIES)('CFI-2: all blocks are unlocked; 0x90 shows which are locked (%s)', (_, geometry) => {
    const { command, get, lock, status } = connect(geometry);
    const { blockSize, size } = geometry;
    const locks = () => {
      command(0, 0x90);
      return Array.from({ length: size / blockSize }, (_, n) => get(n * blockSize + 8));
    };
    const none = locks();
    expect(none.every(v => v === 0)).toBe(true);
    expect([get(0), get(4), get(12), get(blockSize), get(blockSize + 4)]).toEqual(
      [0x89, 0x18, 0, 0x89, 0x18].map(both),
    );
    lock(3 * blockSize - 4, 0x01);
    expect(get(0)).toBe(READY);
    lock(4 * blockSize, 0x01);
    expect(locks()).toEqual(none.map((_, n) => (n === 2 || n === 4 ? both(1) : 0)));
    lock(2 * blockSize + 0x1000, 0xd0);
    expect(locks()).toEqual(none.map((_, n) => (n === 4 ? both(1) : 0)));
    expect(status()).toBe(READY);
    lock(0, 0x02);
    expect(status()).toBe(both(0xb0));
  });

  it.each(GEOMETRIES)('CFI-3: erases the block of the address, and nothing else (%s)', (_, geometry) => {
    const { array, erase, get } = connect(geometry);
    const { blockSize, size } = geometry;
    array.fill(0x5a);
    erase(2 * blockSize - 4);
    expect(get(2 * blockSize - 4)).toBe(READY);
    const erased = array.subarray(blockSize, 2 * blockSize);
    expect(erased.every(b => b === 0xff)).toBe(true);
    expect(array.reduce((n, b) => n + (b === 0x5a ? 1 : 0), 0)).toBe(size - blockSize);
  });

  it('CFI-3: a locked block stays, status 0x12; a wrong second cycle is status 0x30', () => {
    const { array, erase, lock, get, command, status } = connect();
    array.fill(0);
    lock(0, 0x01);
    erase(0);
    expect([get(0), array[0]]).toEqual([both(0x92), 0]);
    // Errors stay until they are cleared.
    erase(0x1_0000);
    expect([get(0), array[0x1_0000]]).toEqual([both(0x92), 0xff]);
    command(0, 0x50);
    expect(status()).toBe(READY);
    for (const wrong of [0xff, 0x20, 0x70, 0x00]) {
      command(0, 0x50);
      erase(0x2_0000, wrong);
      expect([get(4), array[0x2_0000]]).toEqual([both(0xb0), 0]);
    }
  });

  it('CFI-4: a buffer lands when it is confirmed, at the address of its first word', () => {
    const { buffered, command, set, get, array, words, status } = connect();
    command(0x2_0040, 0xe8);
    expect(get(0x2_0040)).toBe(READY);
    command(0x2_0040, 2);
    set(0x2_0040, 0x1111_2222);
    set(0x2_00bc, 0x3333_4444); // the last word of the buffer
    set(0x2_0044, 0x5555_6666);
    expect([get(0), array[0x2_0040]]).toEqual([READY, 0xff]);
    command(0, 0xd0);
    expect(get(0)).toBe(READY);
    expect(words(0x2_0040, 3)).toEqual([0x1111_2222, 0x5555_6666, 0xffff_ffff]);
    expect(words(0x2_00bc, 2)).toEqual([0x3333_4444, 0xffff_ffff]);
    buffered(0x3_0000, new Array(32).fill(0x0102_0304));
    expect(status()).toBe(READY);
    expect(words(0x3_0000, 33)).toEqual([...new Array(32).fill(0x0102_0304), 0xffff_ffff]);
  });

  it('CFI-4: a bad confirm, a word beside the buffer, a locked block: nothing lands', () => {
    const { flash, buffered, command, set, get, array, lock } = connect();
    buffered(0, [1, 2, 3], 0xff);
    expect(get(0)).toBe(both(0x90));
    command(0, 0x50);
    for (const beside of [0x80, 0x1_0000]) {
      command(0, 0xe8);
      command(0, 1);
      set(0, 0);
      set(beside, 0);
      command(0, 0xd0);
      expect(get(0)).toBe(both(0x90));
      command(0, 0x50);
    }
    // Below its first word, and over the end of a block.
    for (const [first, second] of [
      [0x40, 0x3c],
      [0xffc0, 0x1_0000],
    ] as const) {
      command(0, 0xe8);
      command(0, 1);
      set(first, 0);
      set(second, 0);
      command(0, 0xd0);
      expect(get(0)).toBe(both(0x90));
      command(0, 0x50);
    }
    lock(0x1_0000, 0x01);
    buffered(0x1_0000, [0]);
    expect(get(0)).toBe(both(0x92));
    // More words than there is room for: refused before they come.
    command(0, 0x50);
    command(0, 0xe8);
    command(0, 32);
    expect(get(0)).toBe(both(0xb0));
    command(0, 0x50);
    expect(get(0)).toBe(0xffff_ffff);
    expect(array.every(b => b === 0xff)).toBe(true);
    expect(flash.read(0, 1)).toBe(0xff);
  });

  it.each(GEOMETRIES)('CFI-4: the buffer is as large as the geometry says (%s)', (_, geometry) => {
    const { buffered, status, array } = connect(geometry);
    const { bufferSize } = geometry;
    buffered(bufferSize, new Array(bufferSize / 4).fill(0));
    expect(status()).toBe(READY);
    expect(array.reduce((n, b) => n + (b === 0 ? 1 : 0), 0)).toBe(bufferSize);
  });

  it('CFI-5: programs a word, by either code, and parts of one', () => {
    const { flash, command, set, get, program, words, status } = connect();
    program(0x1_0004, 0x1234_5678);
    expect(get(0x1_0004)).toBe(READY);
    command(8, 0x10);
    set(0x1_0008, 0x9abc_def0);
    expect(words(0x1_0000, 4)).toEqual([0xffff_ffff, 0x1234_5678, 0x9abc_def0, 0xffff_ffff]);
    command(0, 0x40);
    flash.write(0x1_000e, 2, 0x4321);
    command(0, 0x40);
    flash.write(0x1_000d, 1, 0x65);
    expect(words(0x1_000c, 1)).toEqual([0x4321_65ff]);
    expect(status()).toBe(READY);
  });

  it('CFI-5: refuses a locked block, and the part of a word that is in one', () => {
    const { program, lock, get, array, command } = connect();
    lock(0x1_0000, 0x01);
    for (const at of [0x1_0000, 0xfffe]) {
      program(at, 0);
      expect(get(0)).toBe(both(0x92));
      command(0, 0x50);
    }
    program(0xfffc, 0);
    expect([get(0), array.indexOf(0), array[0x1_0000]]).toEqual([READY, 0xfffc, 0xff]);
  });

  it('CFI-6: programming only clears bits', () => {
    const { program, buffered, words, erase } = connect();
    program(0, 0x00ff_f00f);
    program(0, 0xf0f0_ffff);
    expect(words(0, 1)).toEqual([0x00f0_f00f]);
    buffered(0, [0x0fff_ffff, 0x1234_5678]);
    buffered(4, [0xffff_0000]);
    expect(words(0, 2)).toEqual([0x00f0_f00f, 0x1234_0000]);
    erase(0);
    expect(words(0, 2)).toEqual([0xffff_ffff, 0xffff_ffff]);
  });

  it('CFI-7: read-array mode is mapped as memory, every other mode is not', () => {
    const { flash, mapped, command, set } = connect();
    expect(mapped).toEqual([true]);
    for (const n of [0x98, 0x90, 0x70, 0x40, 0x10, 0x20, 0x60, 0xe8]) {
      mapped.length = 0;
      command(0, n);
      expect(mapped).toEqual([false]);
      // The second cycle of those that have one, and what follows it.
      if (n === 0x40 || n === 0x10) set(0, 0xffff_ffff);
      if (n === 0x20 || n === 0x60) command(0, 0xd0);
      if (n === 0xe8) {
        command(0, 0);
        set(0, 0xffff_ffff);
        command(0, 0xd0);
      }
      expect(mapped).toEqual([false]);
      command(0, 0xff);
      command(0, 0xff);
      expect(mapped).toEqual([false, true]);
    }
    mapped.length = 0;
    command(0, 0x70);
    command(0, 0x50);
    command(0, 0x70);
    flash.reset();
    expect(mapped).toEqual([false, true, false, true]);
    // What is no command changes nothing.
    mapped.length = 0;
    for (const n of [0x00, 0xf0, 0xaa, 0x2f]) command(0, n);
    expect(mapped).toEqual([]);
  });

  it('CFI-7: where it cannot be mapped it is read access by access', () => {
    let asked = 0;
    const { array, get, flash, command } = connect(KVMTOOL, {
      mapArray: () => {
        asked++;
        return undefined;
      },
    });
    array.set([1, 2, 3, 4, 5, 6, 7, 0x88], 0x100);
    expect([get(0x100), flash.read(0x101, 1), flash.read(0x102, 2), get(0x103)]).toEqual([
      0x0403_0201, 2, 0x0403, 0x0706_0504,
    ]);
    expect(flash.read64(0x100)).toBe(0x8807_0605_0403_0201n);
    command(0, 0x70);
    command(0, 0xff);
    expect([asked, get(0x104)]).toEqual([2, 0x8807_0605]);
  });

  it('CFI-8: the status is at every address; writes of 8 bytes are ignored', () => {
    const { flash, command, get, array, words } = connect();
    command(0x5_0000, 0x70);
    for (const at of [0, 4, 0x1_0000, 0xf_fffc]) expect(get(at)).toBe(READY);
    expect([flash.read(2, 2), flash.read(2, 1), flash.read(3, 1)]).toEqual([0x80, 0x80, 0]);
    expect(flash.read64(8)).toBe(0x0080_0080_0080_0080n);
    command(0, 0x40);
    flash.write64();
    flash.write(0, 4, 0x1234_5678);
    expect(words(0, 2)).toEqual([0x1234_5678, 0xffff_ffff]);
    expect(array.filter(b => b !== 0xff).length).toBe(4);
  });

  it('CFI-9: a reset forgets what was begun, and keeps the contents', () => {
    for (const begun of [0x98, 0x90, 0x70, 0x40, 0x20, 0x60, 0xe8]) {
      const { flash, program, command, words, status, get } = connect();
      program(0, 0x1234_5678);
      command(0, begun);
      if (begun === 0xe8) command(0, 3);
      flash.reset();
      expect(get(0)).toBe(0x1234_5678);
      // The next write is a command.
      expect(status()).toBe(READY);
      expect(words(0, 2)).toEqual([0x1234_5678, 0xffff_ffff]);
    }
    const { flash, lock, erase, get, status } = connect();
    lock(0, 0x01);
    erase(0);
    expect(get(0)).toBe(both(0x92));
    flash.reset();
    expect(status()).toBe(READY);
    erase(0);
    expect(get(0)).toBe(READY);
  });

  it('tells the store of every change before the guest sees it, and the guest when it could not be kept', () => {
    const kept: [number, number[], number][] = [];
    let full = false;
    const store: FlashStore = {
      write: (offset, bytes) => {
        if (full) return false;
        kept.push([offset, [...bytes.subarray(0, 4)], port.array[offset]!]);
        return true;
      },
    };
    const port = connect(KVMTOOL, { store });
    port.array.fill(0xf7);
    port.program(8, 0x0fff_ffff);
    port.buffered(0x100, [0, 1]);
    port.erase(0x1_2345 & ~3);
    expect(kept).toEqual([
      [8, [0xf7, 0xf7, 0xf7, 0x07], 0xf7],
      [0x100, [0, 0, 0, 0], 0xf7],
      [0x1_0000, [0xff, 0xff, 0xff, 0xff], 0xf7],
    ]);
    full = true;
    port.program(12, 0);
    expect([port.status(), port.array[12]]).toEqual([both(0x90), 0xf7]);
    port.command(0, 0x50);
    port.erase(0);
    expect([port.status(), port.array[12]]).toEqual([both(0xa0), 0xf7]);
  });

  it('a read-only bank answers as without programming voltage', () => {
    const { array, program, erase, buffered, status, command } = connect(KVMTOOL, { readOnly: true });
    array.fill(0xee);
    for (const [action, errors] of [
      [() => program(0, 0), 0x98],
      [() => buffered(0, [0]), 0x98],
      [() => erase(0), 0xa8],
    ] as const) {
      action();
      expect(status()).toBe(both(errors));
      command(0, 0x50);
    }
    expect(array.every(b => b === 0xee)).toBe(true);
  });

  it('any writes: never throws, bits are set by erases only, and memory is mapped when reads give the array', () => {
    const geometry = { size: 0x400, blockSize: 0x100, bufferSize: 32 };
    const commands = fc.constantFrom(0xff, 0x98, 0x90, 0x70, 0x50, 0x40, 0x10, 0xe8, 0x20, 0x60, 0xd0, 0x01, 0x00);
    const access = fc.record({
      offset: fc.nat(geometry.size - 1),
      size: fc.constantFrom(1 as const, 2 as const, 4 as const),
      value: fc.oneof(commands, fc.nat(7), fc.nat(0xffff_ffff)),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 100, size: 'max' }), accesses => {
        const kept = new Uint8Array(geometry.size).fill(0xff);
        const set: number[] = [];
        const store: FlashStore = {
          write: (offset, bytes) => {
            const erased = bytes.length === geometry.blockSize && bytes.every(b => b === 0xff);
            if (!erased) set.push(...bytes.filter((b, i) => (b & ~kept[offset + i]!) !== 0));
            kept.set(bytes, offset);
            return true;
          },
        };
        const { flash, array, mapped } = connect(geometry, { store });
        for (const { offset, size, value } of accesses) {
          const o = Math.min(offset, geometry.size - size);
          flash.write(o, size, value % 2 ** (8 * size));
          const read = flash.read(o, size);
          if (read >= 2 ** (8 * size) || (mapped.at(-1) && (read & 0xff) !== array[o])) expect.fail(`read ${read}`);
        }
        expect([set, String(array) === String(kept)]).toEqual([[], true]);
      }),
    );
  });
});
