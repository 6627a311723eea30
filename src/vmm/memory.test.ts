import { expect, test } from 'vitest';
import type { PinInfo, PinReport } from '../machine/machine.ts';
import type { Ask } from '../machine/protocol.ts';
import { VmMemory } from './memory.ts';

function pin(owner: string, base: number, sinceNs = 0): PinInfo {
  return { owner, base, length: 1, write: false, longterm: false, revocable: false, sinceNs };
}

test('PIN-5: pins of the machine and of devices on this thread are one list by address', async () => {
  const stats: PinReport['stats'] = {
    pinAcquired: 4,
    pinReleased: 0,
    current: 4,
    currentLong: 0,
    discarded: 0,
    queued: 0,
    cancelled: 0,
    skippedPinned: 0,
    revoked: 0,
  };
  const report = { nowNs: 7, pins: [pin('disk0', 1), pin('net0', 3)], omitted: 0, stats, pinLimitBytes: undefined };
  const asked: unknown[] = [];
  const ask = (async question => {
    asked.push(question);
    return report;
  }) as Ask;
  const memory = new VmMemory(ask, () => [pin('late', 3, 9), pin('counter0 DMA', 2)]);
  expect((await memory.pins()).map(p => p.owner)).toEqual(['disk0', 'counter0 DMA', 'net0', 'late']);
  expect(await memory.stats()).toBe(stats);
  expect(asked).toEqual([{ what: 'pins' }, { what: 'pins' }]);
  expect(await new VmMemory(ask, () => []).report()).toBe(report);
});
