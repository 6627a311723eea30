import { heldCase, registersCase, timeCase, waitingCase } from '../support/pause-cases.ts';
import { type LabNeeds, labCase } from './lab-case.ts';

// Pause, resume and registers on KVM; test/integration/pause.test.ts has the same on the emulated engine.

const NEEDS: LabNeeds = { on: ['arm64'], seconds: 180 };

labCase('registers are what the guest put there, and the guest goes on with what is put there', NEEDS, () =>
  registersCase('kvm'),
);

labCase('a vCPU that waits for an interrupt goes on where it is put', NEEDS, () => waitingCase('kvm'));

for (const cpus of [1, 2]) {
  labCase(`no vCPU runs while the machine is held: ${cpus} vCPUs`, NEEDS, () => heldCase('kvm', cpus));
}

labCase('the time of the guest stands while the machine is held', NEEDS, () => timeCase('kvm'));
