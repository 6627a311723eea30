import { resolve } from 'node:path';
import { deviceName, isPciDeviceDefinition, type PciDeviceDefinition } from '../machine/device-kit.ts';
import type { ModuleConfig } from '../machine/machine.ts';
import { VmError } from '../util/errors.ts';

/** A PCI device with something to tell it. */
export interface PciDeviceOptions {
  /** A module's path, `'edu'` or `'pci-testdev'`, or a definition, whose code stays on your thread. */
  device: string | PciDeviceDefinition;
  /** What the device finds in `dev.options`; plain data when `device` is a module. */
  options?: Readonly<Record<string, unknown>> | undefined;
}

/** A PCI device as an option: `'MODULE[,KEY=VALUE]...'`, a definition, or either with options. */
export type PciDeviceOption = string | PciDeviceDefinition | PciDeviceOptions;

/** A device whose program is closures of this thread; createInlineDevice() makes what the Worker gets of it. */
export interface DefinitionConfig {
  readonly kind: 'definition';
  readonly name: string;
  readonly definition: PciDeviceDefinition;
  readonly options: Readonly<Record<string, unknown>>;
}

const FORM = 'MODULE[,KEY=VALUE]..., with a path, edu or pci-testdev; or what definePciDevice() returns';

/**
 * Checks one entry of the option `pci`; a path is resolved against the current folder.
 * @param n the device's number among the PCI devices, for its name.
 * @throws VmError ERR_USAGE for what is none of the forms.
 */
export function resolvePciDevice(option: PciDeviceOption, n: number): ModuleConfig | DefinitionConfig {
  const { device, options = {} } = normalize(option);
  if (typeof device !== 'string') {
    return { kind: 'definition', name: `${identifier(deviceName(device.spec))}${n}`, definition: device, options };
  }
  const builtin = /^[\w-]+$/.test(device);
  const stem = builtin ? device : (/([^/\\]+?)(\.\w+)?$/.exec(device)?.[1] ?? 'device');
  const module = builtin || device.startsWith('file:') ? device : resolve(device);
  return { kind: 'module', name: `${identifier(stem)}${n}`, module, options };
}

function normalize(option: PciDeviceOption): PciDeviceOptions {
  if (typeof option === 'string') return fromText(option);
  if (isPciDeviceDefinition(option)) return { device: option };
  const { device, options } = option;
  const valid = (typeof device === 'string' && device !== '') || isPciDeviceDefinition(device);
  if (!valid) throw usage(option, 'names no device');
  if (options !== undefined && (typeof options !== 'object' || options === null))
    throw usage(option, 'has bad options');
  return option;
}

/** Values of a text are texts; what they mean is the device's affair. */
function fromText(text: string): PciDeviceOptions {
  const [device = '', ...rest] = text.split(',');
  if (device === '') throw usage(text, 'names no device');
  const options: Record<string, string> = {};
  for (const part of rest) {
    const m = /^([\w-]+)=(.*)$/.exec(part);
    if (m === null) throw usage(text, `has no value in '${part}'`);
    options[m[1]!] = m[2]!;
  }
  return { device, options };
}

/** A name that can be typed, for reports and for unplugging. */
function identifier(name: string): string {
  return name.replace(/[^\w-]+/g, '-').replace(/^-|-$/g, '') || 'device';
}

function usage(value: unknown, why: string): VmError {
  const shown = typeof value === 'string' ? value : 'an entry';
  return new VmError('ERR_USAGE', `pci: ${shown} ${why}`, { hint: FORM, details: { option: 'pci', value } });
}
