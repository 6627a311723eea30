// Debian under memory pressure: its balloon goes up and down, its disk is read without pause, and its memory is forked meanwhile.
// Nothing that it has in memory or on disk changes, and nothing of it stays pinned.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootDebian, type Guest } from '../support/guest.ts';

const MIB = 2 ** 20;
const DISK_MIB = 32;
const ROUNDS = 6;

describe('a guest under memory pressure', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tsvisor-pressure-'));
  const content = randomBytes(DISK_MIB * MIB);
  const checksum = createHash('md5').update(content).digest('hex');
  let guest: Guest | string = 'not started';
  const lines: string[] = [];

  beforeAll(async () => {
    writeFileSync(join(folder, 'disk.img'), content);
    guest = await bootDebian({ memory: '256M', balloon: true, disk: join(folder, 'disk.img') }, line =>
      lines.push(line),
    );
    if (typeof guest === 'string') process.stderr.write(`skipped: ${guest}\n`);
  }, 300_000);

  afterAll(async () => {
    if (typeof guest !== 'string') await guest[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  it('PIN-5, PIN-10: balloon, disk and forks at once leave every byte as it was, and no pin', async ({ skip }) => {
    if (typeof guest === 'string') return skip(guest);
    const { vm, run } = guest;
    // Enough, so that balloon and page cache have to fight for the rest.
    await run('mount -t tmpfs -o size=100m tmpfs /tmp && cat /dev/vda > /tmp/kept');
    const kept = await run('md5sum < /tmp/kept');
    await run(
      '(while [ ! -e /stop ]; do dd if=/dev/vda bs=128k iflag=direct 2>/dev/null | md5sum >> /sums; done; echo ended >> /sums) &',
    );

    const forks: { hash: string; image: Awaited<ReturnType<typeof vm.memory.fork>> }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      await vm.balloon.set(round % 2 === 0 ? '72M' : 0);
      if (round % 2 === 1) {
        const image = await vm.memory.fork({ timeout: '30s' });
        forks.push({ image, hash: await image.hash() });
      }
      await sleep(1500);
    }
    const ballooned = await vm.memory.stats();
    expect(ballooned.discarded).toBeGreaterThan(0);

    // The guest has written since; an image has not changed.
    for (const fork of forks) expect(await fork.image.hash()).toBe(fork.hash);
    expect(new Set(forks.map(f => f.hash)).size).toBe(forks.length);
    const { image, hash } = forks[0]!;
    const file = join(folder, 'ram.bin');
    expect(await image.save(file)).toBe(256 * MIB);
    expect(createHash('sha256').update(readFileSync(file)).digest('hex')).toBe(hash);
    // The guest does not use all of its memory: the file has holes.
    expect(statSync(file).blocks * 512).toBeLessThan(250 * MIB);
    await expect(image.save(join(folder, 'missing', 'ram.bin'))).rejects.toMatchObject({ code: 'ERR_FILE_UNREADABLE' });
    const base = 0x4000_0000;
    const own = await image.ownBytes();
    await image.write(base + 4095, Uint8Array.of(1, 2, 3));
    expect([...(await image.read(base + 4095, 3))]).toEqual([1, 2, 3]);
    expect(await image.hash()).not.toBe(hash);
    expect(await image.ownBytes()).toBeGreaterThanOrEqual(own);
    await expect(image.read(0, 1)).rejects.toMatchObject({ code: 'ERR_GUEST_ADDRESS' });
    for (const fork of forks) await fork.image.close();
    await image.close();
    await expect(image.hash()).rejects.toMatchObject({ code: 'ERR_STATE' });
    await expect(vm.memory.fork({ signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });

    await run('touch /stop; while ! grep -q ended /sums; do sleep 1; done', { timeout: '240s' });
    const sums = (await run('grep -v ended /sums')).split('\n');
    expect(sums.length).toBeGreaterThan(0);
    expect(new Set(sums)).toEqual(new Set([`${checksum}  -`]));
    expect(await run('md5sum < /tmp/kept')).toBe(kept);

    // What is left are the rings of the drivers that run.
    const stats = await vm.memory.stats();
    expect(stats.pinAcquired).toBeGreaterThan(10_000);
    expect(stats.current).toBe(stats.currentLong);
    expect(stats.pinAcquired - stats.pinReleased).toBe(stats.current);
    expect(await guest.poweroff()).toBe('shutdown');
    expect(lines.filter(l => /still pinned/.test(l))).toEqual([]);
  }, 600_000);
});
