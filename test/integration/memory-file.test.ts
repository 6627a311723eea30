// vm.memory.writeBack() and vm.memory.fork() with a guest of which every write is known.
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vm } from 'tsvisor';
import { afterAll, describe, expect, it } from 'vitest';
import { keyGuest } from '../support/bare-guest.ts';

const MIB = 2 ** 20;
const RAM = 0x4000_0000;
/** Where the guest puts what is typed: a page for each key. */
const KEYS = 0x0100_0000;
const PAGE = 4096;

// Stores each key that is typed into the next page, and echoes it.
const GUEST = keyGuest(`ldr x3, =${RAM + KEYS}`, 'str w2, [x3]\nadd x3, x3, #4096\nstr w2, [x1]');

describe('memory that is written back', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tsvisor-memory-'));
  const path = join(folder, 'ram.bin');
  const sha256 = () => createHash('sha256').update(readFileSync(path)).digest('hex');
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('4.3 write-back, dirty log: the file is the memory of the moment, and gets what was written since', async () => {
    await using vm = await Vm.create({ kernel: GUEST, memory: '64M' });
    await vm.start();
    await vm.console.waitFor('>', { timeout: '30s' });
    const file = await vm.memory.writeBack(path);
    const hash = async () => {
      await using image = await vm.memory.fork();
      return await image.hash();
    };
    expect(await file.flush()).toBe((64 * MIB) / PAGE);
    expect(sha256()).toBe(await hash());
    expect(statSync(path)).toMatchObject({ size: 64 * MIB });
    // Nearly all of it are zeros.
    expect(statSync(path).blocks * 512).toBeLessThan(4 * MIB);
    expect(await file.flush()).toBe(0);

    await using before = await vm.memory.fork();
    for (const keys of ['ab', 'c']) {
      vm.console.write(keys);
      await vm.console.waitFor(keys, { timeout: '30s' });
      expect(await file.flush()).toBe(keys.length);
      expect(sha256()).toBe(await hash());
    }
    const bytes = readFileSync(path);
    expect([0, 1, 2, 3].map(n => bytes[KEYS + n * PAGE])).toEqual([...Buffer.from('abc'), 0]);
    // The fork is what it was before the keys, and has kept the pages that they changed.
    expect([...(await before.read(RAM + KEYS, 1))]).toEqual([0]);
    expect(await before.ownBytes()).toBe(3 * PAGE);
    await file.close();
    await expect(file.flush()).rejects.toMatchObject({ code: 'ERR_STATE' });

    // A reset: zeros, and the guest begins anew. The fork does not notice.
    const unchanged = await before.hash();
    await vm.reset();
    await vm.console.waitFor('>', { timeout: '30s' });
    await using after = await vm.memory.fork();
    expect([...(await after.read(RAM + KEYS, 1))]).toEqual([0]);
    expect(await before.hash()).toBe(unchanged);
  });

  it('says what is wrong with a file, and that a VM has ended', async () => {
    const vm = await Vm.create({ kernel: GUEST, memory: '64M' });
    const missing = join(folder, 'missing', 'ram.bin');
    await expect(vm.memory.writeBack(missing)).rejects.toMatchObject({ code: 'ERR_FILE_UNREADABLE' });
    const files = await Promise.all([1, 2, 3, 4].map(n => vm.memory.writeBack(join(folder, `${n}.bin`))));
    await expect(vm.memory.writeBack(join(folder, '5.bin'))).rejects.toMatchObject({ code: 'ERR_STATE' });
    // Nothing is left of the one that did not become one.
    expect(existsSync(join(folder, '5.bin'))).toBe(false);
    await files[0]!.close();
    await using image = await vm.memory.fork();
    await vm.kill();
    for (const ended of [files[1]!.flush(), image.hash(), vm.memory.fork(), vm.memory.writeBack(path)]) {
      await expect(ended).rejects.toMatchObject({ code: 'ERR_STATE' });
    }
    await files[1]!.close();
  });
});
