import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { VmError } from '../util/errors.ts';
import type { ImageRecipe } from './catalog.ts';
import { findStanza, type Stanza } from './deb822.ts';
import { download } from './download.ts';
import { freeSpace, requireSpace, sha256, writeError } from './files.ts';
import { kernelPackage } from './packages.ts';
import type { OnPullEvent, PackageId, PackageSource, Provenance } from './types.ts';

const run = promisify(execFile);
const POLL_MS = 200;
/** What apt's package lists of a release and its updates take, in bytes, with room to spare. */
const LISTS_SPACE = 48 << 20;
/** apt has stopped for good when nothing changed in its folders for this long, in milliseconds. */
const STALL_MS = 90_000;

/** Options of {@link AptSource}. */
export interface AptOptions {
  /** The image to find packages for. */
  readonly recipe: ImageRecipe;
  /** A folder of ours for apt's state and for downloads. */
  readonly folder: string;
  readonly onEvent?: OnPullEvent | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** True where apt can be asked for packages. */
export async function hasApt(): Promise<boolean> {
  return run('apt-get', ['--version']).then(
    () => true,
    () => false,
  );
}

/**
 * Packages from the sources that the host's apt is configured with, checked with apt's keys. apt gets a state folder of its
 * own with the guest's architecture as its only one, so neither the host's package lists nor dpkg's database are touched, and no
 * privilege is needed.
 */
export class AptSource implements PackageSource {
  readonly #options: AptOptions;
  #state: string | undefined;
  #archives: string[] = [];

  constructor(options: AptOptions) {
    this.#options = options;
  }

  get #architecture(): string {
    return this.#options.recipe.debianArchitecture;
  }

  async resolve(): Promise<readonly PackageId[]> {
    this.#options.onEvent?.({ type: 'step', message: "asking apt's sources for the current kernel" });
    await requireSpace(this.#options.folder, LISTS_SPACE);
    await this.#makeState().catch((cause: unknown) => {
      throw writeError(this.#options.folder, cause);
    });
    // A source that does not answer must not keep us from one that does: what matters is whether the packages are there.
    const update = await this.#apt('apt-get', ['update']).catch((e: unknown) => e);
    this.#options.signal?.throwIfAborted();
    const failed = update instanceof VmError ? update : undefined;
    if (failed?.code === 'ERR_DISK_FULL' || failed?.code === 'ERR_TIMEOUT') throw failed;

    const meta = await this.#show(this.#options.recipe.kernelPackage, failed);
    const stanzas = [await this.#show(kernelPackage(meta), failed), await this.#show('busybox-static', failed)];
    const ids = stanzas.map(toPackageId);
    this.#archives = await this.#origins(ids);
    return ids;
  }

  async #makeState(): Promise<void> {
    const state = await mkdtemp(join(this.#options.folder, 'apt-'));
    this.#state = state;
    await mkdir(join(state, 'state/lists/partial'), { recursive: true });
    await mkdir(join(state, 'cache'));
    await writeFile(join(state, 'status'), ''); // nothing is installed here
  }

  async fetch(id: PackageId): Promise<Uint8Array> {
    const { folder, onEvent, signal } = this.#options;
    await requireSpace(folder, id.size);
    let reported = -1;
    const onProgress = (done: number) => {
      if (done === reported) return;
      reported = Math.min(done, id.size);
      onEvent?.({ type: 'progress', file: id.name, done: reported, total: id.size });
    };
    // `apt-get download` cannot go on with a file that an interrupted pull left (apt 2.6), so where apt would do no more than
    // a plain GET, that is done here; apt's signed list has the digest in either case.
    const url = await this.#url(id);
    if (url) {
      const part = join(folder, `${id.sha256}.part`);
      const options = { part, size: id.size, sha256: id.sha256, onProgress, signal, env: process.env };
      try {
        return await download(url, options);
      } catch (e) {
        if (!(e instanceof VmError) || e.code !== 'ERR_DOWNLOAD') throw e;
        onEvent?.({ type: 'warning', message: `${e.message}; leaving it to apt` });
        await rm(part, { force: true });
      }
    }
    return this.#aptDownload(id, onProgress);
  }

  async #aptDownload(id: PackageId, onProgress: (done: number) => void): Promise<Uint8Array> {
    const folder = await mkdtemp(join(this.#options.folder, 'apt-')).catch((cause: unknown) => {
      throw writeError(this.#options.folder, cause);
    });
    let finished = false;
    const look = () => largestFile(folder).then(f => finished || onProgress(f?.size ?? 0));
    const timer = setInterval(() => void look(), POLL_MS);
    try {
      await this.#apt('apt-get', ['download', `${id.name}=${id.version}`], folder);
      const file = await largestFile(folder);
      if (!file) throw new VmError('ERR_DOWNLOAD', `apt-get left no file of ${id.name}`);
      const bytes = await readFile(file.path);
      if (bytes.length !== id.size || sha256(bytes) !== id.sha256) {
        throw new VmError('ERR_VERIFY', `apt's download of ${id.name} does not have the digest of its package list`, {
          hint: 'Run the pull again.',
        });
      }
      finished = true;
      onProgress(id.size);
      return bytes;
    } finally {
      finished = true;
      clearInterval(timer);
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** A package's address, unless apt has a way of its own to get there: another method, a login, or a proxy. */
  async #url(id: PackageId): Promise<string | undefined> {
    const uris = await this.#apt('apt-get', ['download', '--print-uris', `${id.name}=${id.version}`]).catch(() => '');
    const url = /^'(https?:\/\/[^'@]+)' /m.exec(uris)?.[1];
    const config = await run('apt-config', ['dump', 'Acquire']).catch(() => undefined);
    return config && !/proxy/i.test(config.stdout) ? url : undefined;
  }

  provenance(): Provenance {
    return {
      source: `apt (${this.#archives.join(', ')})`,
      verified: [
        "the archive's signature, by apt with the keys of its sources",
        'the digest of each package (SHA-256), against the signed package lists',
      ],
      notVerified: [],
    };
  }

  async close(): Promise<void> {
    if (this.#state) await rm(this.#state, { recursive: true, force: true });
  }

  /** The stanza of a package's candidate version. */
  async #show(name: string, updateError: VmError | undefined): Promise<Stanza> {
    const text = await this.#apt('apt-cache', ['show', '--no-all-versions', name]).catch(() => '');
    const stanza = findStanza(text, name);
    if (stanza) return stanza;
    if (updateError) throw updateError;
    throw new VmError('ERR_DOWNLOAD', `apt's sources have no package ${name} for ${this.#architecture}`, {
      hint: 'Name a Debian mirror with --mirror URL or in $TSVISOR_MIRROR.',
    });
  }

  /** The archives that the packages come from, e.g. 'http://mirror.example/debian bookworm/main'. */
  async #origins(ids: readonly PackageId[]): Promise<string[]> {
    const policy = await this.#apt('apt-cache', ['policy', ...ids.map(p => p.name)]).catch(() => '');
    const lines = policy.matchAll(/^\s+-?\d+ (\S+:\/\/\S+ \S+) (\S+) Packages$/gm);
    return [...new Set([...lines].filter(m => m[2] === this.#architecture).map(m => m[1] ?? ''))];
  }

  async #apt(command: 'apt-get' | 'apt-cache', args: readonly string[], cwd?: string): Promise<string> {
    const state = this.#state ?? this.#options.folder;
    const options = {
      'Dir::State': join(state, 'state'),
      'Dir::State::status': join(state, 'status'),
      'Dir::Cache': join(state, 'cache'),
      'APT::Architecture': this.#architecture,
      'APT::Architectures::': this.#architecture,
      // The default, user _apt, cannot write to our folder.
      'APT::Sandbox::User': userInfo().username,
      'Debug::NoLocking': '1',
      'Acquire::AllowInsecureRepositories': 'false',
      'APT::Get::AllowUnauthenticated': 'false',
      'Acquire::Retries': '2',
    };
    const { signal, folder } = this.#options;
    const watchdog = new AbortController();
    const abort = () => watchdog.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    const stopWatching = watch(cwd ?? state, folder, e => watchdog.abort(e));
    try {
      const { stdout } = await run(
        command,
        ['-qq', ...Object.entries(options).flatMap(([k, v]) => ['-o', `${k}=${v}`]), ...args],
        {
          env: { ...process.env, LC_ALL: 'C' },
          maxBuffer: 16 << 20,
          signal: watchdog.signal,
          ...(cwd ? { cwd } : {}),
        },
      );
      return stdout;
    } catch (cause) {
      watchdog.signal.throwIfAborted();
      const output = String((cause as { stderr?: unknown }).stderr ?? cause).trim();
      if (/No space left on device|write error - write \(28/.test(output)) {
        throw writeError(folder, Object.assign(new Error(output), { code: 'ENOSPC' }));
      }
      const reason = output.split('\n').find(l => l.startsWith('E: ')) ?? output.split('\n')[0] ?? '';
      throw new VmError('ERR_DOWNLOAD', `${command} ${args[0]} failed: ${reason}`, {
        hint: "Check the network and apt's sources, or name a Debian mirror with --mirror URL.",
        cause,
        details: { output },
      });
    } finally {
      stopWatching();
      signal?.removeEventListener('abort', abort);
    }
  }
}

function toPackageId(stanza: Stanza): PackageId {
  const [name, version, size, hash] = ['Package', 'Version', 'Size', 'SHA256'].map(f => stanza.get(f) ?? '');
  if (!name || !version || !Number(size) || !hash) {
    throw new VmError('ERR_DOWNLOAD', `the package list's entry of ${name || 'a package'} is incomplete`);
  }
  return { name, version, size: Number(size), sha256: hash };
}

/**
 * Looks after a running apt, which waits for ever when the disk is full (seen with apt 2.6): tells when that is so, or when
 * the files below `growing` have not changed for {@link STALL_MS}. The result ends it.
 */
function watch(growing: string, folder: string, stop: (e: VmError) => void): () => void {
  let [size, since, fullLooks] = [-1, Date.now(), 0];
  const look = async (): Promise<void> => {
    fullLooks = (await freeSpace(folder)) < 65536 ? fullLooks + 1 : 0;
    if (fullLooks >= 3) stop(writeError(folder, Object.assign(new Error('the disk is full'), { code: 'ENOSPC' })));
    const now = await folderSize(growing);
    if (now !== size) [size, since] = [now, Date.now()];
    else if (Date.now() - since > STALL_MS) {
      stop(new VmError('ERR_TIMEOUT', `apt made no progress for ${STALL_MS / 1000} s`, { hint: 'Check the network.' }));
    }
  };
  const timer = setInterval(() => void look().catch(() => undefined), 500);
  return () => clearInterval(timer);
}

/** Bytes of all files below a folder. */
async function folderSize(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => [])) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isFile()) sum += (await stat(path).catch(() => undefined))?.size ?? 0;
  }
  return sum;
}

async function largestFile(folder: string): Promise<{ path: string; size: number } | undefined> {
  let best: { path: string; size: number } | undefined;
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (!best || size > best.size) best = { path, size };
  }
  return best;
}
