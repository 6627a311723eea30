import { expect, test } from 'vitest';
import { VmError } from '../util/errors.ts';
import { nearest } from './nearest.ts';
import { OPTION_NAMES, OPTIONS, resolveOptions, TRACE_TOPICS } from './options.ts';

const kernel = 'Image';

function refused(options: unknown): VmError {
  try {
    resolveOptions(options);
  } catch (e) {
    expect(e).toBeInstanceOf(VmError);
    return e as VmError;
  }
  throw new Error(`accepted: ${JSON.stringify(options)}`);
}

test('defaults', () => {
  expect(resolveOptions({ kernel })).toEqual({
    kernel,
    initrd: undefined,
    ptp: true,
    memory: 512 * 2 ** 20,
    cpus: 1,
    engine: 'auto',
    machine: 'auto',
    clock: 'host',
    console: 'stream',
    name: undefined,
    trace: [],
    seed: undefined,
    devices: [],
    slots: 2,
    pciHost: 'ecam',
    virtio: 'modern',
  });
});

test('what is given is kept; a virtual clock brings a fixed seed', () => {
  const bytes = new Uint8Array(4);
  const o = resolveOptions({
    kernel: bytes,
    memory: '1G',
    cpus: 8,
    params: '',
    trace: ['mmio', 'hypercall'],
    clock: 'virtual',
  });
  expect(o).toMatchObject({ memory: 2 ** 30, cpus: 8, params: '', trace: ['mmio', 'hypercall'], seed: 0 });
  expect(o.kernel).toBe(bytes);
  expect(resolveOptions({ kernel, console: 'file:a b' }).console).toBe('file:a b');
  expect(resolveOptions({ firmware: bytes, flash: 'vars.fd' })).toMatchObject({ firmware: bytes, flash: 'vars.fd' });
  expect(resolveOptions({ kernel, flash: 'vars.fd' })).toMatchObject({ kernel, flash: 'vars.fd' });
  expect(resolveOptions({ kernel, pinLimit: '256M' }).pinLimit).toBe(2 ** 28);
  expect(resolveOptions({ kernel, pinLimit: 0 }).pinLimit).toBe(0);
  expect(resolveOptions({ kernel, memory: '255G' }).memory).toBe(255 * 2 ** 30);
  expect(resolveOptions({ kernel, invariantTsc: true }).invariantTsc).toBe(true);
  expect(resolveOptions({ kernel, invariantTsc: false }).invariantTsc).toBeUndefined();
});

test.each([
  [{}, 'ERR_USAGE', 'no kernel given', '-k FILE'],
  [{ flash: 'vars.fd' }, 'ERR_USAGE', 'no kernel given', "'firmware'"],
  [{ kernel, firmware: 'code.fd' }, 'ERR_USAGE', 'kernel: cannot be given together with firmware', 'leave one'],
  [{ initrd: 'i', firmware: 'code.fd' }, 'ERR_USAGE', 'initrd: cannot be given together with firmware', 'leave one'],
  [{ kernel, flash: '' }, 'ERR_USAGE', "flash: '' must be a path", 'variables'],
  [7, 'ERR_USAGE', 'options must be an object', undefined],
  [{ kernel, memroy: '1G' }, 'ERR_USAGE', "unknown option 'memroy'", "did you mean 'memory'?"],
  [{ kernel, xyzzy: 1 }, 'ERR_USAGE', "unknown option 'xyzzy'", 'options are kernel, initrd'],
  [{ kernel: '' }, 'ERR_USAGE', "kernel: '' must be a path or a Uint8Array", '(arm64)'],
  [{ kernel: 3 }, 'ERR_USAGE', 'kernel: 3 must be a path or a Uint8Array', '(arm64)'],
  [{ kernel, cpus: 0 }, 'ERR_USAGE', 'cpus: 0 must be a whole number, from 1 to 8', '1 to 8'],
  [{ kernel, cpus: 9 }, 'ERR_USAGE', 'cpus: 9 must be', '1 to 8'],
  [{ kernel, cpus: 1.5 }, 'ERR_USAGE', 'cpus: 1.5 must be a whole number', '1 to 8'],
  [{ kernel, cpus: Number.NaN }, 'ERR_USAGE', 'cpus: NaN must be', '1 to 8'],
  [{ kernel, cpus: '2' }, 'ERR_USAGE', "cpus: '2' must be a whole number", '1 to 8'],
  [{ kernel, engine: 'tcg' }, 'ERR_USAGE', "engine: 'tcg' must be one of auto, kvm, emu", 'auto'],
  [{ kernel, gic: 4 }, 'ERR_USAGE', 'gic: 4 must be 2 or 3', '3'],
  [{ kernel, console: 'file:' }, 'ERR_USAGE', "console: 'file:' must be stream, off or file:PATH", 'tty'],
  [{ kernel, console: 'offline' }, 'ERR_USAGE', 'must be stream, off or file:PATH', 'tty'],
  [{ kernel, trace: ['mmoi'] }, 'ERR_USAGE', "trace: [ 'mmoi' ] has no topic 'mmoi': did you mean 'mmio'?", 'comma'],
  [{ kernel, trace: 'mmio' }, 'ERR_USAGE', "trace: 'mmio' must be a list", 'comma'],
  [{ kernel, seed: -1 }, 'ERR_USAGE', 'seed: -1 must be a whole number, not negative', 'randomness'],
  [{ kernel, params: 'x'.repeat(2048) }, 'ERR_USAGE', 'must be shorter than 2048', 'command line'],
  [{ kernel, memory: 'lots' }, 'ERR_BAD_SIZE', "memory: 'lots' is not a size", '512M'],
  [{ kernel, pinLimit: '-1M' }, 'ERR_BAD_SIZE', "pinLimit: '-1M' is not a size", '512M'],
  [{ kernel, pinLimit: true }, 'ERR_USAGE', 'pinLimit: true must be a size', 'long-term'],
  [{ kernel, memory: 2 ** 29 + 1 }, 'ERR_BAD_SIZE', 'no multiple of 4096', 'whole pages'],
  [{ kernel, memory: 512 }, 'ERR_MEMORY_TOO_SMALL', '512 bytes is too small', '512M is 512 MiB'],
  [{ kernel, memory: '256G' }, 'ERR_MEMORY_TOO_LARGE', '256 GiB is more than any machine', 'at most 255 GiB'],
  [{ kernel, machine: 'pc' }, 'ERR_USAGE', "machine: 'pc' must be one of auto, arm-virt, x86-pc", 'by the kernel'],
  [{ kernel, hotplug: 'lots' }, 'ERR_BAD_SIZE', "hotplug: 'lots' is not a size", '512M'],
  [{ kernel, hotplug: true }, 'ERR_USAGE', 'hotplug: true must be a size', '128M'],
  [{ kernel, hotplug: '64M' }, 'ERR_BAD_SIZE', 'no multiple of 128 MiB', 'for example, 512M'],
  [{ kernel, hotplug: '256G' }, 'ERR_MEMORY_TOO_LARGE', '256 GiB is more than any machine', 'at most 255 GiB'],
])('%j is refused', (options, code, message, hint) => {
  const e = refused(options);
  expect(e.code).toBe(code);
  expect(e.message).toContain(message);
  if (hint === undefined) expect(e.hint).toBeUndefined();
  else expect(e.hint).toContain(hint);
});

test('hotplug is a device behind all others, and none of it is none', () => {
  const devices = (hotplug: string | number) => resolveOptions({ kernel, hotplug, rng: true }).devices;
  expect(devices('3456M')).toEqual([
    { kind: 'rng', name: 'rng' },
    { kind: 'mem', name: 'mem', size: 3456 * 2 ** 20 },
  ]);
  expect(devices(0)).toEqual([{ kind: 'rng', name: 'rng' }]);
});

test('every option has a look on the command line, and no two share a letter', () => {
  const letters = OPTION_NAMES.map(n => OPTIONS[n].short).filter(s => s !== undefined);
  expect(letters).toEqual(['k', 'i', 'p', 'm', 'c', 'd', 'n']);
  for (const n of OPTION_NAMES) expect(OPTIONS[n].description, n).toBeTruthy();
});

test('the nearest word, or none', () => {
  expect(nearest('kernal', OPTION_NAMES)).toBe('kernel');
  expect(nearest('mem', OPTION_NAMES)).toBe('memory');
  expect(nearest('CPU', OPTION_NAMES)).toBe('cpus');
  expect(nearest('hypercal', TRACE_TOPICS)).toBe('hypercall');
  expect(nearest('banana', OPTION_NAMES)).toBeUndefined();
  expect(nearest('', OPTION_NAMES)).toBeUndefined();
});
