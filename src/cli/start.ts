import { embeddedGuest } from '../images/embedded-guest.ts';
import { DEBIAN_ARM64, findImage, type Image, isCurrent } from '../images/index.ts';
import { type CreateOptions, VmError, type VmOptions } from '../vmm/index.ts';
import { flagsToOptions } from './flags.ts';
import type { Output } from './output.ts';
import { pull } from './pull.ts';
import { runVm } from './run-vm.ts';

/**
 * `tsvisor start [image]` (`npm start`): an image's kernel to a shell, fetched first if it is not in the cache; Debian's for arm64
 * unless told. Where that cannot be had the guest that ships with the package runs instead, after a line that says so.
 */
export async function start(
  name: string | undefined,
  flags: Readonly<Record<string, unknown>>,
  out: Output,
  create: CreateOptions = {},
): Promise<number> {
  const options = flagsToOptions(flags);
  const how = { offline: flags.offline === true, mirror: flags.mirror as string | undefined };
  const guest = name === undefined ? await findGuest(how, out) : await imageGuest(name, how, out);
  return await runVm({ ...guest, ...options } as VmOptions, out, create);
}

/** How an image may be had. */
interface Fetching {
  readonly offline: boolean;
  readonly mirror: string | undefined;
}

type Guest = Pick<VmOptions, 'kernel' | 'initrd' | 'name'>;

async function imageGuest(name: string, how: Fetching, out: Output): Promise<Guest> {
  const { kernel, initrd } = await findOrPull(name, how, out);
  return { kernel, initrd, name };
}

async function findGuest(how: Fetching, out: Output): Promise<Guest> {
  try {
    return await imageGuest(DEBIAN_ARM64, how, out);
  } catch (e) {
    const kernel = embeddedGuest();
    if (!(e instanceof VmError) || e.code === 'ERR_INTERNAL' || e.code === 'ERR_USAGE' || kernel === undefined) throw e;
    const { code, message, hint } = e;
    out.event(
      'fallback',
      { code, message, hint },
      [
        `tsvisor: no Debian kernel could be had: ${message}`,
        ...(hint === undefined ? [] : [`  hint: ${hint}`]),
        'tsvisor: running the small guest that ships with tsvisor instead',
      ].join('\n'),
    );
    return { kernel, name: 'embedded' };
  }
}

async function findOrPull(name: string, { offline, mirror }: Fetching, out: Output): Promise<Image> {
  try {
    const image = await findImage(name);
    if (image !== undefined) {
      if (!isCurrent(image)) {
        const line = `the image ${name} was made by another version of tsvisor; \`tsvisor pull\` updates it`;
        out.event('log', { line }, `tsvisor: ${line}`);
      }
      return image;
    }
  } catch (e) {
    // A damaged cache is mended by fetching again, where that is allowed.
    if (!(e instanceof VmError) || e.code !== 'ERR_CACHE_CORRUPT' || offline) throw e;
    out.event('log', { line: e.message }, `tsvisor: ${e.message}; fetching it again`);
  }
  out.event('log', { line: 'fetching the kernel' }, `tsvisor: fetching ${name}, once`);
  // Standard output is the guest's alone.
  await pull({ name, offline, mirror, json: out.json, stdout: process.stderr });
  const image = await findImage(name, { verify: 'size' });
  if (image === undefined) throw new VmError('ERR_INTERNAL', `${name} was fetched but is not in the cache`);
  return image;
}
