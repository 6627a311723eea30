import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { VmError } from '../util/errors.ts';
import { sha256, writeAtomically, writeError } from './files.ts';
import type { Image, ImageArchitecture, PackageId, Provenance } from './types.ts';

/**
 * The folder for downloaded images: $TSVISOR_CACHE, or `tsvisor` in the platform's own place for caches
 * (the XDG Base Directory Specification, Library/Caches, %LOCALAPPDATA%).
 */
export function cacheFolder(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home: string = homedir(),
): string {
  if (env.TSVISOR_CACHE) return env.TSVISOR_CACHE;
  if (platform === 'win32') return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'tsvisor', 'cache');
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'tsvisor');
  const xdg = env.XDG_CACHE_HOME;
  return join(xdg?.startsWith('/') ? xdg : join(home, '.cache'), 'tsvisor'); // a relative one is to be ignored
}

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const blob = z.object({ sha256: digest, size: z.number().int().nonnegative() });
const manifestSchema = z.object({
  version: z.literal(1),
  name: z.string(),
  /** Older versions of this program did not write it, and had images for arm64 only. */
  architecture: z.enum(['aarch64', 'x86_64']).default('aarch64'),
  release: z.string(),
  /** Changes with what the initramfs is made of, so that an update of this program makes a new one. */
  recipe: z.string(),
  kernel: blob,
  initrd: blob,
  packages: z.array(z.object({ name: z.string(), version: z.string(), size: z.number(), sha256: digest })),
  provenance: z.object({ source: z.string(), verified: z.array(z.string()), notVerified: z.array(z.string()) }),
});

type Manifest = z.infer<typeof manifestSchema>;

/** What {@link ImageCache.store} puts away. */
export interface ImageParts {
  readonly name: string;
  readonly architecture: ImageArchitecture;
  readonly release: string;
  readonly recipe: string;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly packages: readonly PackageId[];
  readonly provenance: Provenance;
}

/**
 * Images on disk:
 *
 *     images/NAME/image.json    the manifest: digests of kernel and initrd, packages, provenance
 *     blobs/sha256/DIGEST       files, named by what is in them
 *     downloads/                files on their way; what is here may be deleted at any time
 *     pull.lock                 process id of the pull that is at work
 *
 * A manifest is replaced in one step after its blobs are on disk, so that a reader sees the old image or the new one.
 */
export class ImageCache {
  readonly folder: string;

  constructor(folder: string = cacheFolder()) {
    this.folder = folder;
  }

  /** Where files on their way are kept. */
  get downloads(): string {
    return join(this.folder, 'downloads');
  }

  /**
   * The image called `name`, or undefined when it was never pulled. Its files are read and compared with their digests,
   * unless `verify` is 'size'.
   *
   * @throws VmError ERR_CACHE_CORRUPT when the manifest or a file is damaged or missing.
   */
  async find(name: string, verify: 'digest' | 'size' = 'digest'): Promise<(Image & { recipe: string }) | undefined> {
    const manifest = await this.#manifest(name);
    if (!manifest) return undefined;
    for (const [what, { sha256: expected, size }] of [
      ['kernel', manifest.kernel],
      ['initrd', manifest.initrd],
    ] as const) {
      const path = this.#blob(expected);
      const found = await stat(path).catch(() => undefined);
      if (!found?.isFile()) throw corrupt(name, `its ${what} ${path} is missing`);
      if (found.size !== size) throw corrupt(name, `its ${what} ${path} has ${found.size} bytes instead of ${size}`);
      if (verify === 'digest') {
        const bytes = await readFile(path).catch((cause: unknown) => {
          throw corrupt(name, `its ${what} ${path} cannot be read`, cause);
        });
        if (sha256(bytes) !== expected) throw corrupt(name, `its ${what} ${path} has changed since it was pulled`);
      }
    }
    const { architecture, release, packages, provenance, recipe } = manifest;
    const [kernel, initrd] = [this.#blob(manifest.kernel.sha256), this.#blob(manifest.initrd.sha256)];
    return { name, architecture, release, kernel, initrd, packages, provenance, recipe };
  }

  /** The names of all images in the cache, damaged ones included. */
  async list(): Promise<string[]> {
    const entries = await readdir(join(this.folder, 'images')).catch(() => []);
    return entries.sort();
  }

  /**
   * Puts an image away, and deletes files that no image uses any more. The caller holds the lock.
   *
   * @throws VmError ERR_DISK_FULL or ERR_FILE_UNREADABLE; the image that was there before is then untouched.
   */
  async store(parts: ImageParts): Promise<Image> {
    const folder = join(this.folder, 'images', parts.name);
    await this.makeFolder(folder);
    await this.makeFolder(join(this.folder, 'blobs', 'sha256'));
    const { name, architecture, release, recipe, packages, provenance } = parts;
    const [kernel, initrd] = [await this.#put(parts.kernel), await this.#put(parts.initrd)];
    const manifest: Manifest = {
      version: 1,
      name,
      architecture,
      release,
      recipe,
      kernel,
      initrd,
      packages: packages.map(p => ({ name: p.name, version: p.version, size: p.size, sha256: p.sha256 })),
      provenance: {
        source: provenance.source,
        verified: [...provenance.verified],
        notVerified: [...provenance.notVerified],
      },
    };
    await writeAtomically(join(folder, 'image.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    await this.#collectGarbage();
    return {
      name,
      architecture,
      release,
      kernel: this.#blob(kernel.sha256),
      initrd: this.#blob(initrd.sha256),
      packages,
      provenance,
    };
  }

  /**
   * Makes a folder and its parents.
   *
   * @throws VmError ERR_DISK_FULL or ERR_FILE_UNREADABLE.
   */
  async makeFolder(path: string): Promise<void> {
    await mkdir(path, { recursive: true }).catch((cause: unknown) => {
      throw writeError(path, cause);
    });
  }

  /**
   * Waits until no other pull is at work, and keeps others out until the result is disposed of. A lock whose process has
   * died is taken over. Files are correct without the lock, since they are renamed into place: it keeps two pulls from
   * downloading the same thing twice.
   *
   * @param onWait called once with the other process's id when there is something to wait for.
   */
  async lock(onWait?: (pid: number) => void, signal?: AbortSignal): Promise<AsyncDisposable> {
    await this.makeFolder(this.folder);
    const path = join(this.folder, 'pull.lock');
    for (let told = false; ; ) {
      signal?.throwIfAborted();
      try {
        const file = await open(path, 'wx');
        await file.writeFile(String(process.pid));
        await file.close();
        return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw writeError(path, cause);
      }
      const pid = Number(await readFile(path, 'utf8').catch(() => ''));
      const age = Date.now() - ((await stat(path).catch(() => undefined))?.mtimeMs ?? Date.now());
      // An empty lock is one being written right now, or by a process that died in between.
      if (pid > 0 ? !isAlive(pid) : age > 10_000) {
        await rm(path, { force: true });
        continue;
      }
      if (!told && pid > 0) onWait?.(pid);
      told ||= pid > 0;
      await sleep(200, undefined, signal ? { signal } : {});
    }
  }

  #blob(hex: string): string {
    return join(this.folder, 'blobs', 'sha256', hex);
  }

  async #put(bytes: Uint8Array): Promise<{ sha256: string; size: number }> {
    const hex = sha256(bytes);
    await writeAtomically(this.#blob(hex), bytes);
    return { sha256: hex, size: bytes.length };
  }

  async #manifest(name: string): Promise<Manifest | undefined> {
    const path = join(this.folder, 'images', name, 'image.json');
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      throw corrupt(name, `${path} cannot be read (${code})`, cause);
    }
    try {
      return manifestSchema.parse(JSON.parse(text));
    } catch (cause) {
      throw corrupt(name, `${path} is not a manifest of this version`, cause);
    }
  }

  async #collectGarbage(): Promise<void> {
    const used = new Set<string>();
    for (const name of await this.list()) {
      const m = await this.#manifest(name).catch(() => undefined);
      if (m) used.add(m.kernel.sha256).add(m.initrd.sha256);
    }
    const folder = join(this.folder, 'blobs', 'sha256');
    for (const file of await readdir(folder).catch(() => [])) {
      if (!used.has(file)) await rm(join(folder, file), { force: true }).catch(() => undefined);
    }
  }
}

/**
 * The pulled image called `name`, or undefined when it was never pulled.
 *
 * @throws VmError ERR_CACHE_CORRUPT when it is damaged.
 */
export async function findImage(
  name: string,
  options: { readonly cacheDir?: string | undefined; readonly verify?: 'digest' | 'size' } = {},
): Promise<(Image & { readonly recipe: string }) | undefined> {
  return new ImageCache(options.cacheDir).find(name, options.verify);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM'; // it lives, but is another user's
  }
}

function corrupt(name: string, why: string, cause?: unknown): VmError {
  return new VmError('ERR_CACHE_CORRUPT', `the image ${name} in the cache is damaged: ${why}`, {
    hint: `Run \`tsvisor pull ${name}\` to get it again.`,
    details: { name },
    ...(cause === undefined ? {} : { cause }),
  });
}
