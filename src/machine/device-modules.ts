import { stat } from 'node:fs/promises';
import { register } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { edu } from '../devices/edu/device.ts';
import { createPciDevice } from '../devices/kit/create.ts';
import { deviceName, isPciDeviceDefinition, type PciDeviceDefinition } from '../devices/kit/definition.ts';
import { pciTestdev } from '../devices/pci-testdev/device.ts';
import { VmError } from '../util/errors.ts';
import type { BuiltDevice, DeviceEnvironment } from './devices/build.ts';
import type { ModuleConfig } from './machine.ts';

/** Devices that come with tsvisor and are written with the kit, by name. */
const BUILTIN: ReadonlyMap<string, PciDeviceDefinition> = new Map(
  [edu, pciTestdev].map(definition => [deviceName(definition.spec), definition]),
);

/** Hooks stay for the life of the thread. */
let hooked = false;

/** Builds the device of a {@link ModuleConfig}. */
export async function buildModuleDevice(config: ModuleConfig, env: DeviceEnvironment): Promise<BuiltDevice> {
  const definition = BUILTIN.get(config.module) ?? (await loadPciDevice(config.module));
  return {
    name: config.name,
    function: createPciDevice(definition, kitEnvironment(env, config.name), deviceOptions(config)),
  };
}

/**
 * Loads a device module in this thread.
 * @param module path or file URL of a .js, .mjs, .ts or .mts file.
 * @returns its default export, or the only definition that it exports.
 * @throws VmError ERR_DEVICE when it cannot be loaded, or does not say which device it is.
 */
export async function loadPciDevice(module: string): Promise<PciDeviceDefinition> {
  const path = module.startsWith('file:') ? fileURLToPath(module) : resolve(module);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    throw failed(module, 'there is no such file', `name a file, or one of ${[...BUILTIN.keys()].join(', ')}`);
  }
  if (!hooked) register(new URL('./device-hooks.js', import.meta.url));
  hooked = true;
  // Lines in the stacks of a device are those of its source.
  process.setSourceMapsEnabled(true);
  let exported: Record<string, unknown>;
  try {
    exported = (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (e) {
    const why = e instanceof Error ? `${e.name}: ${e.message}` : String(e);
    const hint = /outside a module/.test(why)
      ? 'a device module is an ES module: name it .mjs, or say "type": "module" in package.json'
      : 'run the module by itself to see more';
    throw failed(module, why.split('\n')[0]!, hint, e);
  }
  if (isPciDeviceDefinition(exported.default)) return exported.default;
  const [only, ...more] = new Set(Object.values(exported).filter(isPciDeviceDefinition));
  if (only !== undefined && more.length === 0) return only;
  const why = only === undefined ? 'it exports no device' : `it exports ${1 + more.length} devices, none as default`;
  throw failed(module, why, 'export default definePciDevice({ ... }, dev => { ... })');
}

/** What the kit asks of the machine, for the device called `name`. */
export function kitEnvironment(env: DeviceEnvironment, name: string): Parameters<typeof createPciDevice>[1] {
  return {
    name,
    clock: env.clock,
    slots: env.slots,
    log: line => env.events.log(line),
    failed: ({ message, stack }) => {
      env.events.log(message);
      env.events.report?.({ type: 'device-failed', name, message, stack });
    },
  };
}

function deviceOptions({ module, options }: ModuleConfig): Readonly<Record<string, unknown>> {
  if (options === undefined) return {};
  if (typeof options === 'object' && options !== null) return options as Record<string, unknown>;
  throw failed(module, `its options are a ${typeof options}`, 'give an object');
}

function failed(module: string, why: string, hint: string, cause?: unknown): VmError {
  return new VmError('ERR_DEVICE', `device ${module}: ${why}`, { hint, cause, details: { module } });
}
