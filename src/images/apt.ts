import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { VmError } from '../util/errors.ts';
import { findStanza, type Stanza } from './deb822.ts';
import { sha256, writeError } from './files.ts';
import { kernelPackage } from './packages.ts';
import type { OnPullEvent, PackageId, PackageSource, Provenance } from './types.ts';

const run = promisify(execFile);
const POLL_MS = 200;

/** Options of {@link AptSource}. */
export interface AptOptions {
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
 * own with arm64 as its only architecture, so neither the host's package lists nor dpkg's database are touched, and no
 * privilege is needed.
 */
export class AptSource implements PackageSource {
  readonly #options: AptOptions;
  #state: string | undefined;
  #archives: string[] = [];

  constructor(options: AptOptions) {
    this.#options = options;
  }

  async resolve(): Promise<readonly PackageId[]> {
    this.#options.onEvent?.({ type: 'step', message: "asking apt's sources for the current kernel" });
    await mkdir(this.#options.folder, { recursive: true });
    const state = await mkdtemp(join(this.#options.folder, 'apt-'));
    this.#state = state;
    await mkdir(join(state, 'state/lists/partial'), { recursive: true });
    await mkdir(join(state, 'cache'));
    await writeFile(join(state, 'status'), ''); // nothing is installed here
    // A source that does not answer must not keep us from one that does: what matters is whether the packages are there.
    const update = await this.#apt('apt-get', ['update']).catch((e: unknown) => e);
    this.#options.signal?.throwIfAborted();
    const failed = update instanceof VmError ? update : undefined;
    if (failed?.code === 'ERR_DISK_FULL') throw failed;

    const meta = await this.#show('linux-image-cloud-arm64', failed);
    const stanzas = [await this.#show(kernelPackage(meta), failed), await this.#show('busybox-static', failed)];
    const ids = stanzas.map(toPackageId);
    this.#archives = await this.#origins(ids);
    return ids;
  }

  async fetch(id: PackageId): Promise<Uint8Array> {
    // By digest, so that what an interrupted pull left is the beginning of the same file; apt goes on from there.
    const folder = join(this.#options.folder, `apt-get-${id.sha256}`);
    await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
      throw writeError(folder, cause);
    });
    let reported = -1;
    const progress = (done: number) => {
      if (done <= reported) return; // a look at the folder that took longer than the rest of the download
      reported = Math.min(done, id.size);
      this.#options.onEvent?.({ type: 'progress', file: id.name, done: reported, total: id.size });
    };
    const timer = setInterval(() => void largestFile(folder).then(f => progress(f?.size ?? 0)), POLL_MS);
    try {
      await this.#apt('apt-get', ['download', `${id.name}=${id.version}`], folder);
      const file = await largestFile(folder);
      const bytes = await readFile(file?.path ?? folder);
      if (bytes.length !== id.size || sha256(bytes) !== id.sha256) {
        throw new VmError('ERR_VERIFY', `apt's download of ${id.name} does not have the digest of its package list`, {
          hint: 'Run the pull again.',
        });
      }
      progress(id.size);
      await rm(folder, { recursive: true, force: true });
      return bytes;
    } catch (cause) {
      // Keep the beginning of a file only where going on makes sense.
      const code = cause instanceof VmError ? cause.code : undefined;
      if (code === 'ERR_DISK_FULL' || code === 'ERR_VERIFY') await rm(folder, { recursive: true, force: true });
      throw cause;
    } finally {
      clearInterval(timer);
    }
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
    throw new VmError('ERR_DOWNLOAD', `apt's sources have no package ${name} for arm64`, {
      hint: 'Name a Debian mirror with --mirror URL or in $TSVISOR_MIRROR.',
    });
  }

  /** The archives that the packages come from, e.g. 'http://mirror.example/debian bookworm/main'. */
  async #origins(ids: readonly PackageId[]): Promise<string[]> {
    const policy = await this.#apt('apt-cache', ['policy', ...ids.map(p => p.name)]).catch(() => '');
    const lines = policy.matchAll(/^\s+-?\d+ (\S+:\/\/\S+ \S+) arm64 Packages$/gm);
    return [...new Set([...lines].map(m => m[1] ?? ''))];
  }

  async #apt(command: 'apt-get' | 'apt-cache', args: readonly string[], cwd?: string): Promise<string> {
    const state = this.#state ?? this.#options.folder;
    const options = {
      'Dir::State': join(state, 'state'),
      'Dir::State::status': join(state, 'status'),
      'Dir::Cache': join(state, 'cache'),
      'APT::Architecture': 'arm64',
      'APT::Architectures::': 'arm64',
      // The default, user _apt, cannot write to our folder.
      'APT::Sandbox::User': userInfo().username,
      'Debug::NoLocking': '1',
      'Acquire::AllowInsecureRepositories': 'false',
      'APT::Get::AllowUnauthenticated': 'false',
      'Acquire::Retries': '2',
    };
    const { signal } = this.#options;
    try {
      const { stdout } = await run(
        command,
        ['-qq', ...Object.entries(options).flatMap(([k, v]) => ['-o', `${k}=${v}`]), ...args],
        {
          env: { ...process.env, LC_ALL: 'C' },
          maxBuffer: 16 << 20,
          ...(cwd ? { cwd } : {}),
          ...(signal ? { signal } : {}),
        },
      );
      return stdout;
    } catch (cause) {
      signal?.throwIfAborted();
      const output = String((cause as { stderr?: unknown }).stderr ?? cause).trim();
      if (/No space left on device|write error - write \(28/.test(output)) {
        throw writeError(this.#options.folder, Object.assign(new Error(output), { code: 'ENOSPC' }));
      }
      const reason = output.split('\n').find(l => l.startsWith('E: ')) ?? output.split('\n')[0] ?? '';
      throw new VmError('ERR_DOWNLOAD', `${command} ${args[0]} failed: ${reason}`, {
        hint: "Check the network and apt's sources, or name a Debian mirror with --mirror URL.",
        cause,
        details: { output },
      });
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

async function largestFile(folder: string): Promise<{ path: string; size: number } | undefined> {
  let best: { path: string; size: number } | undefined;
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (!best || size > best.size) best = { path, size };
  }
  return best;
}
