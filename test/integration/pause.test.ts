import { test } from 'vitest';
import { heldCase, registersCase, timeCase, waitingCase } from '../support/pause-cases.ts';

// Pause, resume and registers on the emulated engine, with a guest of some instructions; test/lab/pause.lab.ts has the same on KVM.

test('registers are what the guest put there, and the guest goes on with what is put there', async () => {
  await registersCase('emu');
});

test('a vCPU that waits for an interrupt goes on where it is put', async () => {
  await waitingCase('emu');
});

test.each([1, 2, 4])('no vCPU runs while the machine is held: %i vCPUs', async cpus => {
  await heldCase('emu', cpus);
});

test('the time of the guest stands while the machine is held', async () => {
  await timeCase('emu');
});
