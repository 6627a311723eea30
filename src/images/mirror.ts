import { execFile } from 'node:child_process';
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzip } from '../firmware/decompress.ts';
import { VmError } from '../util/errors.ts';
import type { ImageRecipe } from './catalog.ts';
import { unxz } from './deb.ts';
import { findStanza, parseStanza, type ReleaseFile, releaseFiles, type Stanza } from './deb822.ts';
import { download, fetchSmall } from './download.ts';
import { writeError } from './files.ts';
import { kernelPackage } from './packages.ts';
import type { OnPullEvent, PackageId, PackageSource, Provenance } from './types.ts';

/**
 * 'auto' checks the signature where gpgv and Debian's keyring are installed, and says so where not; 'require' fails there;
 * 'skip' is for a private mirror without one.
 */
export type SignatureCheck = 'auto' | 'require' | 'skip';

/** Options of {@link MirrorSource}. */
export interface MirrorOptions {
  /** The image to find packages for. */
  readonly recipe: ImageRecipe;
  /** Address of the archive, i.e. the folder that has `dists` and `pool`. */
  readonly mirror: string;
  readonly suite: string;
  readonly signature: SignatureCheck;
  /** A folder of ours for files on their way. */
  readonly folder: string;
  readonly onEvent?: OnPullEvent | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly stallMs?: number | undefined;
}

const RELEASE_LIMIT = 16 << 20;
const PACKAGES_LIMIT = 1 << 30;
/** Where Debian's package debian-archive-keyring puts its keys; $TSVISOR_KEYRING names another file. */
const KEYRINGS = [
  '/usr/share/keyrings/debian-archive-keyring.pgp',
  '/usr/share/keyrings/debian-archive-keyring.gpg',
  '/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg',
];

/**
 * Packages from a Debian mirror over HTTP, without apt. Trust goes down a chain: the signature covers the Release file,
 * that has the digest of the package list, and that has the digests of the packages.
 */
export class MirrorSource implements PackageSource {
  readonly #options: MirrorOptions;
  readonly #base: string;
  readonly #verified: string[] = [];
  readonly #notVerified: string[] = [];
  /** Path of each package below the mirror's address. */
  readonly #paths = new Map<string, string>();

  constructor(options: MirrorOptions) {
    this.#options = options;
    this.#base = options.mirror.replace(/\/+$/, '');
  }

  async resolve(): Promise<readonly PackageId[]> {
    const { onEvent, suite, recipe } = this.#options;
    onEvent?.({ type: 'step', message: `asking ${this.#base} for the current kernel of ${suite}` });
    const release = await this.#release();
    const list = await this.#packageList(release);
    const stanza = (name: string): Stanza => {
      const found = findStanza(list, name);
      if (found) return found;
      throw new VmError(
        'ERR_DOWNLOAD',
        `${this.#base} has no package ${name} for ${recipe.debianArchitecture} in ${suite}`,
        {
          hint: 'Try another suite or mirror.',
        },
      );
    };
    const kernel = stanza(kernelPackage(stanza(recipe.kernelPackage)));
    return [kernel, stanza('busybox-static')].map(s => this.#package(s));
  }

  async fetch(id: PackageId): Promise<Uint8Array> {
    const { folder, onEvent, signal, env, stallMs } = this.#options;
    return download(`${this.#base}/${this.#paths.get(id.sha256) ?? ''}`, {
      part: join(folder, `${id.sha256}.part`),
      size: id.size,
      sha256: id.sha256,
      onProgress: done => onEvent?.({ type: 'progress', file: id.name, done, total: id.size }),
      signal,
      env,
      stallMs,
    });
  }

  provenance(): Provenance {
    return {
      source: `${this.#base} ${this.#options.suite}/main`,
      verified: [
        ...this.#verified,
        'the digest of the package list (SHA-256), against the Release file',
        'the digest of each package (SHA-256), against the package list',
      ],
      notVerified: this.#notVerified,
    };
  }

  async close(): Promise<void> {
    // Beginnings of files stay for the next pull.
  }

  /** The Release file, with its signature checked as far as that goes. */
  async #release(): Promise<Stanza> {
    const { suite, signature, onEvent } = this.#options;
    const dist = `dists/${suite}`;
    const inline = await this.#small(`${dist}/InRelease`);
    const detached = inline ? undefined : await this.#small(`${dist}/Release`);
    const text = inline ?? detached;
    if (!text) {
      throw new VmError('ERR_DOWNLOAD', `${this.#base} has no suite ${suite}`, {
        hint: 'Check the address of the mirror (it is the folder that has dists/) and the suite.',
      });
    }
    let trusted: Uint8Array = text;
    const keyring = signature === 'skip' ? undefined : await findKeyring(this.#options.env);
    const missing = signature === 'skip' ? 'it was not asked for' : await cannotVerify(keyring, this.#options.env);
    if (missing === undefined && keyring !== undefined) {
      const sig = inline ? undefined : await this.#small(`${dist}/Release.gpg`);
      trusted = await this.#gpgv(keyring, text, inline !== undefined, sig);
      this.#verified.push(`the signature of the Release file, by gpgv with ${keyring}`);
    } else {
      const message = `signature not checked: ${missing}`;
      if (signature === 'require') {
        throw new VmError('ERR_VERIFY', message, { hint: 'Install gpgv and debian-archive-keyring.' });
      }
      this.#notVerified.push(message);
      onEvent?.({ type: 'warning', message });
    }
    const release = parseStanza(stripClearsign(new TextDecoder().decode(trusted)));
    this.#checkRelease(release);
    return release;
  }

  /** A signed Release file of another suite, or one that has expired, must not pass for the current one of this suite. */
  #checkRelease(release: Stanza): void {
    const { suite } = this.#options;
    const names = [release.get('Suite'), release.get('Codename')];
    if (!names.includes(suite)) {
      throw new VmError('ERR_VERIFY', `the Release file of ${suite} says that it is of ${names.join(' or ')}`, {
        hint: 'Try another mirror.',
      });
    }
    const until = Date.parse(release.get('Valid-Until') ?? '');
    if (until < Date.now()) {
      throw new VmError('ERR_VERIFY', `the Release file has expired on ${release.get('Valid-Until')}`, {
        hint: "The mirror is out of date, or this machine's clock is wrong.",
      });
    }
  }

  async #packageList(release: Stanza): Promise<string> {
    const { debianArchitecture } = this.#options.recipe;
    const files = releaseFiles(release);
    for (const suffix of ['.xz', '.gz', '']) {
      const file = files.get(`main/binary-${debianArchitecture}/Packages${suffix}`);
      if (!file) continue;
      const bytes = await this.#index(file, release.get('Acquire-By-Hash') === 'yes');
      if (suffix === '.xz') return new TextDecoder().decode(await unxz(bytes, PACKAGES_LIMIT));
      return new TextDecoder().decode(suffix === '.gz' ? gunzip(bytes, PACKAGES_LIMIT, 'the package list') : bytes);
    }
    throw new VmError(
      'ERR_DOWNLOAD',
      `${this.#base} has no packages for ${debianArchitecture} in ${this.#options.suite}`,
      {
        hint: 'Try another mirror: some carry only a few architectures.',
      },
    );
  }

  async #index(file: ReleaseFile, byHash: boolean): Promise<Uint8Array> {
    const { folder, suite, onEvent, signal, env, stallMs } = this.#options;
    const plain = `${this.#base}/dists/${suite}/${file.path}`;
    const options = {
      part: join(folder, `${file.sha256}.part`),
      size: file.size,
      sha256: file.sha256,
      onProgress: (done: number) => onEvent?.({ type: 'progress', file: 'package list', done, total: file.size }),
      signal,
      env,
      stallMs,
    };
    if (!byHash) return download(plain, options);
    // By its digest the list cannot change while the mirror is being updated.
    return download(plain.replace(/[^/]+$/, `by-hash/SHA256/${file.sha256}`), options).catch((e: unknown) => {
      if (e instanceof VmError && e.details.status === 404) return download(plain, options);
      throw e;
    });
  }

  #package(stanza: Stanza): PackageId {
    const [name, version, size, hash, path] = ['Package', 'Version', 'Size', 'SHA256', 'Filename'].map(
      f => stanza.get(f) ?? '',
    );
    if (!name || !version || !path || !/^\d+$/.test(size ?? '') || !/^[0-9a-f]{64}$/.test(hash ?? '')) {
      throw new VmError('ERR_DOWNLOAD', `the package list's entry of ${name || 'a package'} is incomplete`);
    }
    this.#paths.set(hash ?? '', path.split('/').map(encodeURIComponent).join('/'));
    return { name, version, size: Number(size), sha256: hash ?? '' };
  }

  #small(path: string): Promise<Uint8Array | undefined> {
    return fetchSmall(`${this.#base}/${path}`, RELEASE_LIMIT, this.#options);
  }

  /** The text that a valid signature covers; what stands around it in an InRelease file is not to be trusted. */
  async #gpgv(keyring: string, text: Uint8Array, inline: boolean, sig: Uint8Array | undefined): Promise<Uint8Array> {
    const { folder, signal, env } = this.#options;
    if (!inline && !sig) {
      throw new VmError('ERR_VERIFY', `${this.#base} has a Release file without a signature`, {
        hint: 'Try another mirror.',
      });
    }
    const temporary = await mkdtemp(join(folder, 'gpgv-')).catch((cause: unknown) => {
      throw writeError(folder, cause);
    });
    try {
      const [file, sigFile] = [join(temporary, 'Release'), join(temporary, 'Release.gpg')];
      await writeFile(file, text);
      if (sig) await writeFile(sigFile, sig);
      const args = inline ? ['--output', '-', file] : [sigFile, file];
      const out = await gpgv(['--keyring', keyring, ...args], env, signal);
      return inline ? out : text;
    } catch (cause) {
      signal?.throwIfAborted();
      const detail = String((cause as { stderr?: unknown }).stderr ?? cause).trim();
      throw new VmError('ERR_VERIFY', `the signature of the Release file is not valid: ${detail.split('\n').at(-1)}`, {
        hint: 'Try another mirror. If it is your own, name its keyring in $TSVISOR_KEYRING.',
        cause,
        details: { detail },
      });
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }
}

/** Takes an armoured text out of its clear-signed message (RFC 4880, section 7); other texts stay as they are. */
export function stripClearsign(text: string): string {
  const body =
    /^-----BEGIN PGP SIGNED MESSAGE-----\r?\n(?:.+\r?\n)*\r?\n([\s\S]*?)\r?\n-----BEGIN PGP SIGNATURE-----/m.exec(text);
  return body?.[1] === undefined ? text : body[1].replace(/^- /gm, '');
}

function gpgv(args: readonly string[], env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const options = { encoding: 'buffer' as const, maxBuffer: RELEASE_LIMIT * 2, env, ...(signal ? { signal } : {}) };
    execFile('gpgv', args, options, (error, stdout, stderr) => {
      if (error) reject(Object.assign(error, { stderr: stderr.toString('utf8') }));
      else resolve(stdout);
    });
  });
}

async function findKeyring(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const named = env.TSVISOR_KEYRING;
  if (named) return named;
  for (const path of KEYRINGS)
    if (
      await access(path).then(
        () => true,
        () => false,
      )
    )
      return path;
  return undefined;
}

/** Why a signature cannot be checked on this machine, or undefined when it can. */
async function cannotVerify(keyring: string | undefined, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const works = await gpgv(['--version'], env).then(
    () => true,
    () => false,
  );
  if (works && keyring) return undefined;
  return works ? "no keyring of Debian's archive" : keyring ? 'no gpgv' : 'no gpgv and no keyring';
}
