import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type CreateOptions, relocateDevices, resolveOptions, VmError, type VmOptions } from '../vmm/index.ts';
import { flagsToOptions } from './flags.ts';
import type { Output } from './output.ts';
import { runVm } from './run-vm.ts';

/** `tsvisor run [config] [flags]`: runs a guest; flags win over the configuration file. */
export async function run(
  configPath: string | undefined,
  flags: Readonly<Record<string, unknown>>,
  out: Output,
  create: CreateOptions = {},
): Promise<number> {
  const config = configPath === undefined ? {} : await readConfig(configPath);
  const options = { ...config, ...flagsToOptions(flags) };
  const resolved = resolveOptions(options);
  if (flags.printConfig === true) {
    process.stdout.write(`${JSON.stringify(resolved, null, 2)}\n`);
    return 0;
  }
  return await runVm(options as unknown as VmOptions, out, create);
}

/** A configuration file: JSON with the option names of the library; its paths are relative to the file. */
async function readConfig(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (e) {
    const errno = (e as NodeJS.ErrnoException).code;
    const code =
      errno === 'ENOENT' ? 'ERR_FILE_NOT_FOUND' : errno === 'EISDIR' ? 'ERR_FILE_IS_DIRECTORY' : 'ERR_FILE_UNREADABLE';
    throw new VmError(code, `config: ${path} cannot be read (${errno})`, {
      hint: 'a bare argument names a JSON configuration; a kernel is named with -k',
      cause: e,
      details: { path, errno },
    });
  }
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (e) {
    throw new VmError('ERR_USAGE', `config: ${path} is not JSON: ${(e as Error).message.slice(0, 200)}`, {
      hint: `if this is a kernel, write: tsvisor run -k ${path}`,
      cause: e,
      details: { path },
    });
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new VmError('ERR_USAGE', `config: ${path} must contain one JSON object`, {
      hint: 'for example { "kernel": "Image", "memory": "512M" }',
      details: { path },
    });
  }
  const options = { ...config } as Record<string, unknown>;
  const beside = (p: string) => resolve(dirname(path), p);
  for (const key of ['kernel', 'initrd', 'firmware', 'flash']) {
    if (typeof options[key] === 'string' && options[key] !== '') options[key] = beside(options[key]);
  }
  relocateDevices(options, beside);
  const where = options.console;
  if (where === 'tty') options.console = 'stream';
  if (typeof where === 'string' && /^file:./.test(where)) options.console = `file:${beside(where.slice(5))}`;
  return options;
}
