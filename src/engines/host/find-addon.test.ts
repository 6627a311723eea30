import { describe, expect, test } from 'vitest';
import { MACHINES } from './elf.ts';
import { type AddonHost, findAddon, parsePrebuildName } from './find-addon.ts';

const ROOT = '/package';
const LOCAL = `${ROOT}/build/Release/tsvisor.node`;
const GLIBC = 'node.napi.glibc.node';
const MUSL = 'node.napi.musl.node';

/** A file: what machine it is for, and what loading it gives or throws. */
interface FakeFile {
  readonly machine?: string;
  readonly version?: string | null;
  readonly error?: string;
}

/** A host of files at paths, and the order in which they were loaded. */
function fakeHost(files: Readonly<Record<string, FakeFile>>, more: Partial<AddonHost> = {}) {
  const loaded: string[] = [];
  const host: AddonHost = {
    platform: 'linux',
    arch: 'x64',
    explicit: undefined,
    libc: () => 'glibc',
    list: folder =>
      Object.keys(files)
        .filter(f => f.startsWith(`${folder}/`))
        .map(f => f.slice(folder.length + 1)),
    open: path => {
      const file = files[path];
      if (file === undefined) return undefined;
      const header = new Uint8Array(64);
      if (file.machine !== 'none') header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
      new DataView(header.buffer).setUint16(18, MACHINES[file.machine ?? 'x64'] ?? 0, true);
      return (offset, length) => header.subarray(offset, offset + length);
    },
    load: path => {
      loaded.push(path);
      const file = files[path];
      if (file?.error !== undefined) throw new Error(file.error);
      return { version: file?.version === null ? undefined : (file?.version ?? '1.0.0'), path };
    },
    buildNote: () => undefined,
    ...more,
  };
  return { loaded, find: () => findAddon(ROOT, '1.0.0', host) };
}

/** `[path below the package, problem]` of every attempt. */
const attempts = (state: ReturnType<typeof findAddon>) =>
  state.attempts.map(a => [a.path.replace(`${ROOT}/`, ''), a.problem]);

const prebuild = (name: string, tuple = 'linux-x64') => `${ROOT}/prebuilds/${tuple}/${name}`;
const NO_FILE = 'there is no such file';

describe('where the addon comes from', () => {
  test('a local build comes before a prebuild, and nothing else is loaded', () => {
    const { find, loaded } = fakeHost({ [LOCAL]: {}, [prebuild(GLIBC)]: {} });
    const state = find();
    expect(state.addon).toMatchObject({ path: LOCAL });
    expect(state.attempts).toEqual([{ source: 'local build', path: LOCAL, found: true, problem: undefined }]);
    expect(loaded).toEqual([LOCAL]);
  });

  test('without a local build the prebuild of platform, architecture and libc is it', () => {
    const files = {
      [prebuild(MUSL)]: {},
      [prebuild(GLIBC)]: {},
      [prebuild('node.napi.armv8.glibc.node', 'linux-arm64')]: { machine: 'arm64' },
    };
    const glibc = fakeHost(files).find();
    expect(glibc.addon).toMatchObject({ path: prebuild(GLIBC) });
    expect(attempts(glibc)).toEqual([
      ['build/Release/tsvisor.node', NO_FILE],
      [`prebuilds/linux-x64/${MUSL}`, 'it is for musl, this is glibc'],
      [`prebuilds/linux-x64/${GLIBC}`, undefined],
    ]);
    expect(fakeHost(files, { libc: () => 'musl' }).find().addon).toMatchObject({ path: prebuild(MUSL) });
    const arm = fakeHost(files, { arch: 'arm64' }).find();
    expect(arm.addon).toMatchObject({ path: prebuild('node.napi.armv8.glibc.node', 'linux-arm64') });
  });

  test('the libc is asked for only where there are prebuilds', () => {
    const libc = () => {
      throw new Error('asked');
    };
    expect(fakeHost({}, { libc }).find().addon).toBeUndefined();
    expect(fakeHost({ [LOCAL]: {}, [prebuild(GLIBC)]: {} }, { libc }).find().addon).toBeDefined();
  });

  test('the prebuild with the most tags that fit is tried first, then the rest; an unknown libc refuses none', () => {
    const general = 'node.napi.node';
    const { find, loaded } = fakeHost(
      { [prebuild(general)]: {}, [prebuild(GLIBC)]: { error: "version `GLIBC_2.99' not found\nsecond line" } },
      { libc: () => undefined },
    );
    const state = find();
    expect(loaded).toEqual([prebuild(GLIBC), prebuild(general)]);
    expect(state.addon).toMatchObject({ path: prebuild(general) });
    expect(attempts(state)[1]).toEqual([`prebuilds/linux-x64/${GLIBC}`, "version `GLIBC_2.99' not found"]);
  });

  test.each([
    ['of another architecture', { machine: 'arm64' }, 'it is for arm64, this is x64'],
    ['of an older tsvisor', { version: '0.9.0' }, 'it is of tsvisor 0.9.0, this is 1.0.0'],
    ['from before versions', { version: null }, 'it is of an older tsvisor, this is 1.0.0'],
    ['that is no ELF file', { machine: 'none' }, 'it is not an ELF file of 64 bits'],
    [
      'of another ABI',
      { error: 'was compiled against a different Node.js' },
      'was compiled against a different Node.js',
    ],
  ])('a local build %s is left for the prebuild, and the reason kept', (_what, file, problem) => {
    const state = fakeHost({ [LOCAL]: file, [prebuild(GLIBC)]: {} }).find();
    expect(state.addon).toMatchObject({ path: prebuild(GLIBC) });
    expect(attempts(state)[0]).toEqual(['build/Release/tsvisor.node', problem]);
  });

  test('a file of another architecture is not even loaded', () => {
    const { find, loaded } = fakeHost({ [LOCAL]: { machine: 'arm64' }, [prebuild(GLIBC)]: { machine: 'arm64' } });
    expect(find().addon).toBeUndefined();
    expect(loaded).toEqual([]);
  });
});

describe('$TSVISOR_ADDON', () => {
  test('is the only file that is tried', () => {
    const { find, loaded } = fakeHost({ '/my/a.node': {}, [LOCAL]: {} }, { explicit: '/my/a.node' });
    expect(find()).toMatchObject({ addon: { path: '/my/a.node' }, attempts: [{ source: 'TSVISOR_ADDON' }] });
    expect(loaded).toEqual(['/my/a.node']);
  });

  test.each([
    ['/no/file.node', NO_FILE],
    ['/my/arm.node', 'it is for arm64, this is x64'],
    ['/my/old.node', 'it is of tsvisor 0.9.0, this is 1.0.0'],
    ['/my/broken.node', 'undefined symbol: napi_x'],
    ['/my/addon.so', 'its name does not end in .node'],
  ])('%s is an error that says why, not a fallback', (explicit, problem) => {
    const { find, loaded } = fakeHost(
      {
        '/my/arm.node': { machine: 'arm64' },
        '/my/old.node': { version: '0.9.0' },
        '/my/broken.node': { error: 'undefined symbol: napi_x' },
        '/my/addon.so': {},
        [LOCAL]: {},
        [prebuild(GLIBC)]: {},
      },
      { explicit },
    );
    expect(find).toThrow(
      expect.objectContaining({
        code: 'ERR_ENGINE_UNAVAILABLE',
        message: `$TSVISOR_ADDON (${explicit}): ${problem}`,
        hint: expect.stringContaining('unset TSVISOR_ADDON'),
      }),
    );
    expect(loaded).not.toContain(LOCAL);
  });

  test('set to nothing is not set', () => {
    expect(fakeHost({ [LOCAL]: {} }, { explicit: '' }).find().addon).toMatchObject({ path: LOCAL });
  });
});

describe('no addon', () => {
  test('nothing built, nothing shipped', () => {
    const state = fakeHost({}).find();
    expect(state).toMatchObject({
      addon: undefined,
      reason: 'the addon is not there: no prebuild came with this package, and none was built here',
      fix: 'build it here: tsvisor doctor --build-addon',
    });
    expect(attempts(state)).toEqual([
      ['build/Release/tsvisor.node', NO_FILE],
      ['prebuilds/linux-x64', NO_FILE],
    ]);
  });

  test('a build that failed says why, and what would help', () => {
    const buildNote = () => ({ reason: 'missing: a C++ compiler', fix: 'apk add g++' });
    expect(fakeHost({}, { buildNote }).find()).toMatchObject({
      reason: 'the addon is not there: missing: a C++ compiler',
      fix: 'apk add g++, then: tsvisor doctor --build-addon',
    });
  });

  test('a file that does not load is the reason, rather than the build that is not there', () => {
    const buildNote = () => ({ reason: 'missing: a C++ compiler', fix: undefined });
    const state = fakeHost({ [prebuild(GLIBC)]: { error: "version `GLIBC_2.99' not found" } }, { buildNote }).find();
    expect(state.reason).toBe(`the addon does not load: ${prebuild(GLIBC)}: version \`GLIBC_2.99' not found`);
    expect(state.fix).toContain('tsvisor doctor --build-addon');
  });

  test('another system has none, and nothing helps', () => {
    const state = fakeHost({ [LOCAL]: {} }, { platform: 'darwin' }).find();
    expect(state).toMatchObject({ reason: 'the addon is for Linux, this is darwin', fix: undefined, attempts: [] });
  });
});

describe("prebuildify's names", () => {
  test.each([
    ['node.napi.glibc.node', { runtime: 'node', libc: 'glibc', armv: undefined, tags: 3 }],
    ['node.napi.armv8.musl.node', { runtime: 'node', libc: 'musl', armv: '8', tags: 4 }],
    ['node.napi.uv1.armv8.node', { uv: '1', armv: '8', libc: undefined, tags: 4 }],
    ['electron.abi40.node', { runtime: 'electron', abi: '40', tags: 2 }],
    ['tsvisor.glibc.node', { runtime: undefined, libc: 'glibc', tags: 1 }],
    ['abide.armvx.node', { abi: undefined, armv: undefined, tags: 0 }],
  ])('%s', (name, parsed) => {
    expect(parsePrebuildName(name)).toMatchObject({ name, ...parsed });
  });

  test.each([
    ['electron.napi.glibc.node', 'it is for electron'],
    ['node.abi115.node', 'it is for Node ABI 115 only'],
    ['node.napi.uv2.node', 'it is for libuv 2'],
    ['node.napi.armv7.node', 'it is for ARMv7'],
    ['node.napi.musl.node', 'it is for musl, this is glibc'],
  ])('%s does not fit: %s', (name, problem) => {
    const file = prebuild(name, 'linux-arm64');
    const { find, loaded } = fakeHost({ [file]: { machine: 'arm64' } }, { arch: 'arm64' });
    expect(attempts(find())).toContainEqual([`prebuilds/linux-arm64/${name}`, problem]);
    expect(loaded).toEqual([]);
  });
});
