import { expect, it } from 'vitest';
import { fuzzPci } from './pci/run.ts';

/**
 * A hostile guest against everything on the bus, for a few seconds; `npx tsx scripts/fuzz-pci.ts` does the same for longer.
 * FUZZ_SEED repeats a run.
 */
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff);

// The first seeds are always the same: what they have found stays found.
it.each([1, SEED])(
  'a hostile guest breaks neither the machine nor another device (seed %i)',
  async seed => {
    const report = await fuzzPci({ seed, operations: 150_000 });
    // A run in which nothing came back from a device has tested nothing.
    expect(report.operations).toBeGreaterThanOrEqual(150_000);
    expect(report.returned).toBeGreaterThan(1000);
    expect(report.moves).toBeGreaterThan(100);
    expect(report.plugs).toBeGreaterThan(0);
    expect(report.messages).toBeGreaterThan(100);
    expect(report.witnessed).toBeGreaterThan(100);
    expect(report.pinned).toBeGreaterThan(10_000);
  },
  300_000,
);
