import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VmError } from '../util/errors.ts';
import { AptSource, hasApt } from './apt.ts';
import { ImageCache } from './cache.ts';
import { type ImageRecipe, isCurrent, recipeDigest, recipeOf } from './catalog.ts';
import { buildDebianGuest } from './debian-image.ts';
import { MirrorSource, type SignatureCheck } from './mirror.ts';
import type { Image, OnPullEvent, PackageSource } from './types.ts';

/** The suite that a mirror is asked for by default: Debian 12. */
export const DEFAULT_SUITE = 'bookworm';

/** Options of {@link pullImage}. */
export interface PullOptions {
  /** Default: the user's cache folder. */
  readonly cacheDir?: string | undefined;
  /** Address of a Debian mirror; default $TSVISOR_MIRROR, and without that the host's apt. */
  readonly mirror?: string | undefined;
  /** Suite to take from a mirror, e.g. 'bookworm'. */
  readonly suite?: string | undefined;
  /** What to do about a mirror's signature; default 'auto'. */
  readonly signature?: SignatureCheck | undefined;
  /** Use no network: only what is in the cache. */
  readonly offline?: boolean | undefined;
  readonly onEvent?: OnPullEvent | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
}

/** What a pull comes to. */
export interface PullResult {
  readonly image: Image;
  /** False when the cache had the current version already. */
  readonly changed: boolean;
}

/**
 * Gets the image called `name` into the cache: Debian's current cloud kernel for its architecture, and an initramfs that is
 * made for it.
 *
 * @throws VmError ERR_USAGE when there is no such image, ERR_OFFLINE, ERR_CACHE_CORRUPT (offline only), ERR_DOWNLOAD, ERR_VERIFY, ERR_DISK_FULL, ERR_TIMEOUT,
 *   ERR_FILE_UNREADABLE when the cache cannot be written.
 */
export async function pullImage(name: string, options: PullOptions = {}): Promise<PullResult> {
  const recipe = recipeOf(name);
  const { onEvent, signal } = options;
  const cache = new ImageCache(options.cacheDir);
  if (options.offline) {
    const image = await cache.find(name);
    if (image) return { image, changed: false };
    throw new VmError('ERR_OFFLINE', `the image ${name} is not in the cache ${cache.folder}`, {
      hint: `Run \`tsvisor pull ${name}\` once with a network.`,
    });
  }
  await using _lock = await cache.lock(
    pid => onEvent?.({ type: 'step', message: `waiting for another pull (process ${pid})` }),
    signal,
  );
  const current = await cache.find(name).catch((e: unknown) => {
    if (!(e instanceof VmError) || e.code !== 'ERR_CACHE_CORRUPT') throw e;
    onEvent?.({ type: 'warning', message: `${e.message}; getting it again` });
    return undefined;
  });
  await removeLeftovers(cache.downloads);
  const source = await chooseSource(cache, recipe, options);
  try {
    const packages = await source.resolve();
    const same = current?.packages.map(p => p.sha256).join() === packages.map(p => p.sha256).join();
    if (current && same && isCurrent(current)) return { image: current, changed: false };
    const [kernelId, busyboxId] = packages;
    if (!kernelId || !busyboxId) throw new VmError('ERR_INTERNAL', 'a source named too few packages');
    const kernelDeb = await source.fetch(kernelId);
    const busyboxDeb = await source.fetch(busyboxId);
    onEvent?.({ type: 'step', message: 'making the initramfs' });
    const { kernel, initramfs, release } = await buildDebianGuest(kernelDeb, busyboxDeb, {
      spareModules: recipe.spareModules,
      signal,
    });
    const provenance = source.provenance();
    const parts = {
      name,
      architecture: recipe.architecture,
      release,
      recipe: recipeDigest(recipe),
      kernel,
      initrd: initramfs.bytes,
      packages,
      provenance,
    };
    return { image: await cache.store(parts), changed: true };
  } finally {
    await source.close();
  }
}

async function chooseSource(cache: ImageCache, recipe: ImageRecipe, options: PullOptions): Promise<PackageSource> {
  const { onEvent, signal, env = process.env } = options;
  const mirror = options.mirror ?? env.TSVISOR_MIRROR;
  const folder = cache.downloads;
  await cache.makeFolder(folder);
  if (mirror) {
    const { suite = DEFAULT_SUITE, signature = 'auto' } = options;
    return new MirrorSource({ recipe, mirror, suite, signature, folder, onEvent, signal, env });
  }
  if (await hasApt()) return new AptSource({ recipe, folder, onEvent, signal });
  throw new VmError('ERR_DOWNLOAD', 'there is no apt here to get Debian packages with, and no mirror was named', {
    hint: "Name a Debian mirror with --mirror URL or in $TSVISOR_MIRROR; Debian's web site lists them.",
  });
}

/** What a pull that was killed left of apt's state; the lock says that none is at work. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (/^apt-\w{6}$/.test(name)) await rm(join(folder, name), { recursive: true, force: true });
  }
}
