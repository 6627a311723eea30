import { VmError } from '../../util/errors.ts';
import type { Addon } from './addon.ts';
import { type ByteReader, elfMachine, type Libc, MACHINES } from './elf.ts';

/** Where a file that may be the addon came from. */
export type AddonSource = 'TSVISOR_ADDON' | 'local build' | 'prebuild';

/** One file, or folder, that was looked at for the addon. */
export interface AddonAttempt {
  readonly source: AddonSource;
  readonly path: string;
  /** Whether there is such a file. */
  readonly found: boolean;
  /** Why it is not the addon of this process; undefined for the one that was loaded. */
  readonly problem: string | undefined;
}

/** Whether there is an addon, and where not, why and what to do about it. */
export type AddonState = { readonly attempts: readonly AddonAttempt[] } & (
  | { readonly addon: Addon; readonly reason: undefined; readonly fix: undefined }
  | { readonly addon: undefined; readonly reason: string; readonly fix: string | undefined }
);

/** What the search sees of this host; tests have one of their own. */
export interface AddonHost {
  /** process.platform and process.arch. */
  readonly platform: string;
  readonly arch: string;
  /** $TSVISOR_ADDON. */
  readonly explicit: string | undefined;
  /** The C library that this process runs on. Called only when a prebuild asks. */
  libc(): Libc | undefined;
  /** Names in a folder; none when it cannot be read. */
  list(folder: string): readonly string[];
  /** Bytes of a file, undefined when there is no such file; see {@link ByteReader}. */
  open(path: string): ByteReader | undefined;
  /** What require() gives for an absolute path. */
  load(path: string): unknown;
  /** What scripts/build-addon.mjs noted about the last attempt to build: why it failed, and what would help. */
  buildNote(): { readonly reason: string; readonly fix: string | undefined } | undefined;
}

/** What to do where no file fits. */
const BUILD = 'tsvisor doctor --build-addon';

/**
 * Finds and loads the addon, without help from any install script: package managers refuse those more and more.
 *
 * 1. $TSVISOR_ADDON, alone: who names a file wants that file.
 * 2. build/Release/tsvisor.node: what was built here is newer than what was shipped.
 * 3. prebuilds/PLATFORM-ARCH/TAGS.node in prebuildify's layout, the file with the most tags that fit first.
 *
 * @param root The package's folder, absolute.
 * @param version The package's version; an addon of another one is left alone.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when $TSVISOR_ADDON is set and does not load.
 */
export function findAddon(root: string, version: string, host: AddonHost): AddonState {
  const attempts: AddonAttempt[] = [];
  /** The addon in a file, or undefined; either way it is noted. */
  const attempt = (source: AddonSource, path: string): Addon | undefined => {
    const { addon, problem } = tryFile(path, version, host);
    attempts.push({ source, path, found: problem !== NO_FILE, problem });
    return addon;
  };

  if (host.explicit !== undefined && host.explicit !== '') {
    const addon = attempt('TSVISOR_ADDON', host.explicit);
    if (addon !== undefined) return { addon, attempts, reason: undefined, fix: undefined };
    throw new VmError('ERR_ENGINE_UNAVAILABLE', `$TSVISOR_ADDON (${host.explicit}): ${attempts[0]?.problem}`, {
      hint: 'name a tsvisor.node of this version, platform and architecture, or unset TSVISOR_ADDON',
      details: { attempts },
    });
  }
  if (host.platform !== 'linux') {
    return { addon: undefined, attempts, reason: `the addon is for Linux, this is ${host.platform}`, fix: undefined };
  }
  const local = attempt('local build', `${root}/build/Release/tsvisor.node`);
  if (local !== undefined) return { addon: local, attempts, reason: undefined, fix: undefined };

  const folder = `${root}/prebuilds/${host.platform}-${host.arch}`;
  const names = host.list(folder).filter(f => f.endsWith('.node'));
  if (names.length === 0) attempts.push({ source: 'prebuild', path: folder, found: false, problem: NO_FILE });
  const libc = names.length === 0 ? undefined : host.libc();
  const fitting: Prebuild[] = [];
  for (const name of names) {
    const prebuild = parsePrebuildName(name);
    const problem = whyNotPrebuild(prebuild, host, libc);
    if (problem === undefined) fitting.push(prebuild);
    else attempts.push({ source: 'prebuild', path: `${folder}/${name}`, found: true, problem });
  }
  for (const { name } of fitting.sort((a, b) => b.tags - a.tags)) {
    const addon = attempt('prebuild', `${folder}/${name}`);
    if (addon !== undefined) return { addon, attempts, reason: undefined, fix: undefined };
  }

  // A file that is there and does not load says more than one that is missing.
  const broken = attempts.find(a => a.found);
  if (broken !== undefined) {
    const reason = `the addon does not load: ${broken.path}: ${broken.problem}`;
    return { addon: undefined, attempts, reason, fix: `build it for this host: ${BUILD}` };
  }
  const note = host.buildNote();
  return {
    addon: undefined,
    attempts,
    reason: `the addon is not there: ${note?.reason ?? 'no prebuild came with this package, and none was built here'}`,
    fix: note?.fix === undefined ? `build it here: ${BUILD}` : `${note.fix}, then: ${BUILD}`,
  };
}

const NO_FILE = 'there is no such file';

function tryFile(path: string, version: string, host: AddonHost): { addon?: Addon; problem: string | undefined } {
  try {
    const file = host.open(path);
    if (file === undefined) return { problem: NO_FILE };
    // What require() does depends on it.
    if (!path.endsWith('.node')) return { problem: 'its name does not end in .node' };
    // dlopen() of another machine's file says "cannot open shared object file", which misleads.
    const machine = elfMachine(file);
    const wanted = MACHINES[host.arch];
    if (machine === undefined) return { problem: 'it is not an ELF file of 64 bits' };
    if (wanted !== undefined && machine !== wanted) {
      const name = Object.keys(MACHINES).find(k => MACHINES[k] === machine) ?? `ELF machine ${machine}`;
      return { problem: `it is for ${name}, this is ${host.arch}` };
    }
    const addon = host.load(path) as Addon;
    if (addon.version === version) return { addon, problem: undefined };
    return {
      problem: `it is of ${addon.version ? `tsvisor ${addon.version}` : 'an older tsvisor'}, this is ${version}`,
    };
  } catch (e) {
    return { problem: (e instanceof Error ? e.message : String(e)).split('\n')[0] ?? '' };
  }
}

/** A prebuild's file name, taken apart. */
interface Prebuild {
  readonly name: string;
  readonly runtime: string | undefined;
  readonly abi: string | undefined;
  readonly uv: string | undefined;
  readonly armv: string | undefined;
  readonly libc: string | undefined;
  /** How many of its tags say something; more are more specific. */
  readonly tags: number;
}

const RUNTIMES = ['node', 'electron', 'node-webkit'];
const LIBCS = ['glibc', 'musl'];

/**
 * Takes a name such as `node.napi.armv8.glibc.node` apart: tags between dots, as prebuildify's README has them ("The
 * filenames of prebuilds are composed of tags"). A tag of no meaning here (its version 6 puts the package's name first) is
 * passed over.
 */
export function parsePrebuildName(name: string): Prebuild {
  const parts = name.split('.').slice(0, -1);
  const after = (prefix: string) => parts.find(p => p.startsWith(prefix) && /^\d+$/.test(p.slice(prefix.length)));
  const [abi, uv, armv] = [after('abi'), after('uv'), after('armv')];
  const runtime = parts.find(p => RUNTIMES.includes(p));
  const libc = parts.find(p => LIBCS.includes(p));
  const said = [abi, uv, armv, runtime, libc, parts.includes('napi') || undefined];
  return {
    name,
    runtime,
    abi: abi?.slice('abi'.length),
    uv: uv?.slice('uv'.length),
    armv: armv?.slice('armv'.length),
    libc,
    tags: said.filter(s => s !== undefined).length,
  };
}

function whyNotPrebuild(p: Prebuild, host: AddonHost, libc: Libc | undefined): string | undefined {
  if (p.runtime !== undefined && p.runtime !== 'node') return `it is for ${p.runtime}`;
  // We ship Node-API only, whose ABI is the same in every Node; a file that is tied to one is not ours.
  if (p.abi !== undefined) return `it is for Node ABI ${p.abi} only`;
  if (p.uv !== undefined && p.uv !== '1') return `it is for libuv ${p.uv}`;
  if (p.armv !== undefined && host.arch === 'arm64' && p.armv !== '8') return `it is for ARMv${p.armv}`;
  // A C library that could not be told is no reason to refuse: loading will say.
  if (p.libc !== undefined && libc !== undefined && p.libc !== libc) return `it is for ${p.libc}, this is ${libc}`;
  return undefined;
}
