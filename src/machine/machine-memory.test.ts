import { describe, expect, test } from 'vitest';
import type { Engine } from '../engines/engine.ts';
import { createGuestMemory } from '../memory/guest-memory.ts';
import { FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE, type PlugListener } from '../memory/pin-types.ts';
import type { MachineReport } from './machine.ts';
import { MachineMemory } from './machine-memory.ts';

const BASE = 0x4000_0000;
const SIZE = 64 * 4096;

/** A machine's memory over an engine that does nothing else, and what it says about it. */
function rig(pinLimitBytes?: number) {
  const bytes = new Uint8Array(new SharedArrayBuffer(SIZE));
  const memory = createGuestMemory([{ base: BASE, size: SIZE, kind: 'ram', bytes }]);
  const nothing = { [Symbol.dispose]: () => undefined };
  const engine = {
    memory,
    clock: { nowNs: () => 5000 },
    returnsMemory: false,
    discard: (base: number, length: number) => void bytes.fill(0, base - BASE, base - BASE + length),
    writeTracker: {
      start: () => undefined,
      stop: () => undefined,
      collectCpu: () => undefined,
      protect: () => nothing,
    },
  } as unknown as Engine & PlugListener;
  const lines: string[] = [];
  const reports: MachineReport[] = [];
  const events = {
    console: () => undefined,
    exit: () => undefined,
    log: (line: string) => void lines.push(line),
    report: (r: MachineReport) => void reports.push(r),
  };
  return { machine: new MachineMemory({ engine, events, pinLimitBytes, hotplug: undefined }), lines, reports };
}

describe("a machine's memory", () => {
  test('PIN-5: at the end, whoever still holds some is named in the log and in a report', async () => {
    const { machine, lines, reports } = rig();
    const { pins } = machine;
    pins.unpin(pins.pin(BASE, 8192, FOLL_PIN, pins.owner('disk0 queue 0')));
    pins.pin(BASE, 4096, FOLL_PIN | FOLL_WRITE, pins.owner('edu0 DMA'));
    await machine.close();
    expect(lines).toEqual(['guest memory is still pinned at the end, by edu0 DMA (1 pages): a defect of that device']);
    expect(reports).toEqual([
      { type: 'pins-leaked', acquired: 3, released: 2, leaks: [{ owner: 'edu0 DMA', pages: 1 }] },
    ]);
  });

  test('PIN-5: an end at which nobody holds any is not worth a word', async () => {
    const { machine, lines, reports } = rig();
    machine.pins.unpin(machine.pins.pin(BASE, SIZE, FOLL_PIN, machine.pins.owner('disk0 queue 0')));
    await machine.close();
    expect([lines, reports]).toEqual([[], []]);
  });

  test('4.3 quota exhausted: the configured limit holds for long-term pins, and the report tells it', () => {
    const { machine } = rig(8192);
    const { pins } = machine;
    const owner = pins.owner('edu0 DMA');
    pins.pin(BASE, 8192, FOLL_PIN | FOLL_LONGTERM, owner);
    expect(pins.tryPin(BASE, 1, FOLL_PIN | FOLL_LONGTERM, owner)).toBe(0);
    expect(pins.lastErrno).toBe('ENOMEM');
    expect(pins.tryPin(BASE, 1, FOLL_PIN, owner)).not.toBe(0);
    expect(machine.report()).toMatchObject({ pinLimitBytes: 8192, nowNs: 5000, stats: { currentLong: 2, current: 3 } });
  });

  test('4.3 quota exhausted: what is in flight is as much as there is memory, at most', () => {
    const { pins } = rig().machine;
    const owner = pins.owner('disk0 queue 0');
    pins.pin(BASE, SIZE, FOLL_PIN, owner);
    expect([pins.tryPin(BASE, 1, FOLL_PIN, owner), pins.lastErrno]).toEqual([0, 'ENOMEM']);
  });
});
