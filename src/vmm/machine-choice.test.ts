import { describe, expect, test } from 'vitest';
import { VmError } from '../util/errors.ts';
import { checkMachine, chooseMachine } from './machine-choice.ts';
import { resolveOptions, type VmOptions } from './options.ts';

/** The first bytes of an ELF file for a processor, by e_machine. */
function elf(machine: number): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  new DataView(bytes.buffer).setUint16(18, machine, true);
  return bytes;
}
const EM_X86_64 = 62;
const EM_AARCH64 = 183;

function bzImage(): Uint8Array {
  const bytes = new Uint8Array(1024);
  bytes.set([0x55, 0xaa], 0x1fe);
  bytes.set(new TextEncoder().encode('HdrS'), 0x202);
  return bytes;
}

describe('the machine', () => {
  test.each([
    ['bzImage', bzImage(), 'x86-pc'],
    ['an x86-64 ELF file', elf(EM_X86_64), 'x86-pc'],
    ['an arm64 ELF file', elf(EM_AARCH64), 'arm-virt'],
    ['no kernel, but a firmware', undefined, 'arm-virt'],
    ['no kernel at all', new Uint8Array(3), 'arm-virt'],
  ] as const)('%s', (_what, kernel, machine) => expect(chooseMachine('auto', kernel)).toBe(machine));

  test('a wish is not changed by what the kernel is', () => {
    expect(chooseMachine('arm-virt', bzImage())).toBe('arm-virt');
    expect(chooseMachine('x86-pc', elf(EM_AARCH64))).toBe('x86-pc');
  });
});

const kernel = 'Image';

function refused(machine: 'arm-virt' | 'x86-pc', engine: 'emu' | 'kvm', options: Partial<VmOptions>): VmError {
  try {
    checkMachine(resolveOptions({ kernel, ...options }), machine, engine);
  } catch (e) {
    expect(e).toBeInstanceOf(VmError);
    return e as VmError;
  }
  throw new Error('accepted');
}

test.each([
  [{ memory: '4010M' }, '3.9 GiB is more', 'at most 4009M'],
  [{ hotplug: '3584M' }, '3.5 GiB is more', 'with 512 MiB of RAM use at most 3456M'],
  // 1 MiB more of RAM, and it begins 128 MiB further up.
  [{ memory: '513M', hotplug: '3456M' }, '3.4 GiB is more', 'at most 3328M'],
  [{ memory: '4009M', hotplug: '128M' }, '128 MiB is more', 'at most 0M'],
] as const)('%j is more than the emulator has, and not more than KVM has', (options, message, hint) => {
  const e = refused('arm-virt', 'emu', options);
  expect(e.code).toBe('ERR_MEMORY_TOO_LARGE');
  expect(e.message).toContain(message);
  expect(e.hint).toContain(hint);
  checkMachine(resolveOptions({ kernel, ...options }), 'arm-virt', 'kvm');
});

test('the most that the emulator gives', () => {
  checkMachine(resolveOptions({ kernel, memory: '4009M' }), 'arm-virt', 'emu');
  checkMachine(resolveOptions({ kernel, hotplug: '3456M' }), 'arm-virt', 'emu');
});

test.each([
  ['x86-pc', { gic: 3 }, 'gic: the machine x86-pc has none', 'it belongs to arm-virt'],
  ['x86-pc', { flash: 'vars.fd' }, 'flash: the machine x86-pc has none', 'it belongs to arm-virt'],
  ['arm-virt', { invariantTsc: true }, 'invariantTsc: the machine arm-virt has none', 'it belongs to x86-pc'],
] as const)("what is the other machine's: %s with %j", (machine, options, message, hint) => {
  const e = refused(machine, 'kvm', options);
  expect(e.code).toBe('ERR_USAGE');
  expect(e.message).toBe(message);
  expect(e.hint).toContain(hint);
});

test('EMU-X7: KVM cannot be told not to answer x86-64 guests', () => {
  const e = refused('x86-pc', 'kvm', { ptp: false });
  expect([e.code, e.details.option]).toEqual(['ERR_USAGE', 'ptp']);
  expect(e.hint).toContain('ptp_kvm');
  checkMachine(resolveOptions({ kernel, ptp: false }), 'arm-virt', 'kvm');
  checkMachine(resolveOptions({ kernel, ptp: true }), 'x86-pc', 'kvm');
});

test('an option at its default is no wish', () => {
  checkMachine(resolveOptions({ kernel, invariantTsc: false }), 'arm-virt', 'emu');
});
