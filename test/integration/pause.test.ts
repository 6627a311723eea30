import { Vm, VmError } from 'tsvisor';
import { afterEach, expect, test } from 'vitest';
import { keyGuest } from '../support/bare-guest.ts';
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

const vms: Vm[] = [];
afterEach(async () => {
  await Promise.all(vms.splice(0).map(vm => vm.kill()));
});

/** A VM whose guest says '>' and gives each key back. */
async function keyVm(): Promise<Vm> {
  const vm = await Vm.create({ kernel: keyGuest('', 'str w2, [x1]'), engine: 'emu', memory: '64M' });
  vms.push(vm);
  return vm;
}

/** The code of the VmError that `p` is rejected with. */
const codeOf = (p: Promise<unknown>): Promise<string | undefined> =>
  p.then(
    () => undefined,
    (e: unknown) => (e instanceof VmError ? e.code : String(e)),
  );

test('a VM is paused and resumed, and says so', async () => {
  const vm = await keyVm();
  expect([await codeOf(vm.pause()), await codeOf(vm.resume())]).toEqual(['ERR_STATE', 'ERR_STATE']);
  await vm.start();
  await vm.console.waitFor('>');
  await vm.pause();
  expect([vm.state, (await vm.info()).state]).toEqual(['paused', 'paused']);
  expect(await codeOf(vm.pause())).toBe('ERR_STATE');
  const before = await vm.info();
  // The console takes input; it is the guest that does not.
  vm.console.write('a');
  const after = await vm.info();
  expect([after.instructions, after.timeNs]).toEqual([before.instructions, before.timeNs]);
  // Nobody need wait for one before the other.
  await Promise.all([vm.resume(), vm.pause(), vm.resume()]);
  expect(vm.state).toBe('running');
  await vm.console.waitFor('a');
  expect(await codeOf(vm.resume())).toBe('ERR_STATE');
  await vm.pause();
  expect((await vm.stop()).reason).toBe('killed');
  expect([await codeOf(vm.pause()), await codeOf(vm.vcpus[0]!.registers())]).toEqual(['ERR_STATE', 'ERR_STATE']);
});

test('a VM that is paused can be reset and forked; the fork runs when it is started', async () => {
  const vm = await keyVm();
  await vm.start();
  await vm.console.waitFor('>');
  await vm.pause();
  const twin = await vm.fork();
  vms.push(twin);
  expect([vm.state, twin.state]).toEqual(['paused', 'created']);
  await twin.start();
  twin.console.write('t');
  await twin.console.waitFor('t');
  await vm.reset();
  const { instructions } = await vm.info();
  expect((await vm.info()).instructions).toBe(instructions);
  await vm.resume();
  await vm.console.waitFor('>');
});

test("a vCPU's registers are read at any time, and set while nothing runs", async () => {
  const vm = await keyVm();
  expect(vm.vcpus).toHaveLength(1);
  const [vcpu] = vm.vcpus;
  const { pc } = await vcpu!.registers();
  // Not started yet: nothing runs.
  await vcpu!.setRegisters({ x7: 7n });
  await vm.start();
  await vm.console.waitFor('>');
  const running = await vcpu!.registers();
  expect([running.x1, running.x7, running.pc! > pc!]).toEqual([0x900_0000n, 7n, true]);
  expect(await codeOf(vcpu!.setRegisters({ x7: 8n }))).toBe('ERR_STATE');
  await vm.pause();
  for (const wrong of [-1n, 1n << 64n, 5 as unknown as bigint]) {
    expect(await codeOf(vcpu!.setRegisters({ x7: 9n, x8: wrong }))).toBe('ERR_USAGE');
  }
  expect(await codeOf(vcpu!.setRegisters({ x7: 9n, rax: 1n }))).toBe('ERR_USAGE');
  expect((await vcpu!.registers()).x7).toBe(7n);
  // From its beginning.
  await vcpu!.setRegisters({ pc: pc! });
  await vm.resume();
  await vm.console.waitFor('>');
});
