import { embeddedGuest } from '../images/embedded-guest.ts';
import { DEBIAN_ARM64, findImage, type Image, isCurrent } from '../images/index.ts';
import { type CreateOptions, VmError, type VmOptions } from '../vmm/index.ts';
import { flagsToOptions } from './flags.ts';
import type { Output } from './output.ts';
import { pull } from './pull.ts';
import { runVm } from './run-vm.ts';

/**
 * `tsvisor start` (`npm start`): Debian's kernel to a shell, fetched first if it is not in the cache. Where none can be
 * had the guest that ships with the package runs instead, after a line that says so.
 */
export async function start(
  flags: Readonly<Record<string, unknown>>,
  out: Output,
  create: CreateOptions = {},
): Promise<number> {
  const options = flagsToOptions(flags);
  const guest = await findGuest({ offline: flags.offline === true, mirror: flags.mirror as string | undefined }, out);
  return await runVm({ ...guest, ...options } as VmOptions, out, create);
}

async function findGuest(
  how: { readonly offline: boolean; readonly mirror: string | undefined },
  out: Output,
): Promise<Pick<VmOptions, 'kernel' | 'initrd' | 'name'>> {
  try {
    const { kernel, initrd } = await findOrPull(how, out);
    return { kernel, initrd, name: DEBIAN_ARM64 };
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

async function findOrPull(
  { offline, mirror }: { readonly offline: boolean; readonly mirror: string | undefined },
  out: Output,
): Promise<Image> {
  try {
    const image = await findImage(DEBIAN_ARM64);
    if (image !== undefined) {
      if (!isCurrent(image)) {
        const line = `the image ${DEBIAN_ARM64} was made by another version of tsvisor; \`tsvisor pull\` updates it`;
        out.event('log', { line }, `tsvisor: ${line}`);
      }
      return image;
    }
  } catch (e) {
    // A damaged cache is mended by fetching again, where that is allowed.
    if (!(e instanceof VmError) || e.code !== 'ERR_CACHE_CORRUPT' || offline) throw e;
    out.event('log', { line: e.message }, `tsvisor: ${e.message}; fetching it again`);
  }
  out.event('log', { line: 'fetching the kernel' }, `tsvisor: fetching ${DEBIAN_ARM64}, once`);
  // Standard output is the guest's alone.
  await pull({ offline, mirror, json: out.json, stdout: process.stderr });
  const image = await findImage(DEBIAN_ARM64, { verify: 'size' });
  if (image === undefined) throw new VmError('ERR_INTERNAL', `${DEBIAN_ARM64} was fetched but is not in the cache`);
  return image;
}
