import { Command } from 'commander';
import { expect, test } from 'vitest';
import { resolveOptions } from '../vmm/index.ts';
import { addVmFlags, flagsToOptions } from './flags.ts';

/** The VM options that a command line gives. */
const optionsOf = (...args: string[]) => {
  const command = addVmFlags(
    new Command('run')
      .exitOverride()
      .configureOutput({ writeErr: () => undefined })
      .argument('[config]'),
  );
  return flagsToOptions(command.parse(args, { from: 'user' }).opts());
};

test('flags that are not there are no options', () => {
  expect(optionsOf()).toEqual({});
});

test('flags are the options of the library, text as it is and numbers as numbers', () => {
  expect(optionsOf('-c', '2', '-m', '1G', '--pci-host', 'cam', '--rng', '-d', 'a.img', '-d', 'b.img,ro')).toEqual({
    cpus: 2,
    memory: '1G',
    pciHost: 'cam',
    rng: true,
    disk: ['a.img', 'b.img,ro'],
  });
  expect(optionsOf('-c', 'two', '--trace', 'mmio,,pci', '--console', 'tty')).toEqual({
    cpus: 'two',
    trace: ['mmio', 'pci'],
    console: 'stream',
  });
});

test('EMU-X7: --no-ptp switches the clock of ptp_kvm off, and nothing else decides against a configuration file', () => {
  expect(optionsOf('--no-ptp')).toEqual({ ptp: false });
  const resolved = (config: object, ...args: string[]) =>
    resolveOptions({ kernel: 'Image', ...config, ...optionsOf(...args) }).ptp;
  expect(resolved({})).toBe(true);
  expect(resolved({}, '--no-ptp')).toBe(false);
  expect(resolved({ ptp: true }, '--no-ptp')).toBe(false);
  expect(resolved({ ptp: false })).toBe(false);
  expect(() => optionsOf('--ptp')).toThrow(/unknown option/);
});
