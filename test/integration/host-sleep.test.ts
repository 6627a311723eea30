import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { hostSleepNs } from '../../src/time/host-sleep.ts';

it('a host that is awake does not sleep: its two clocks go on alike', async () => {
  const median = async () => {
    const readings = [];
    for (let n = 0; n < 9; n++) {
      readings.push(hostSleepNs());
      await setTimeout(20);
    }
    return readings.sort((a, b) => a - b)[4]!;
  };
  const before = await median();
  await setTimeout(2000);
  // Clocks that did not would be two seconds apart.
  expect(Math.abs((await median()) - before)).toBeLessThan(0.5e9);
});
