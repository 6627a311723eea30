// Builds the Linux addon from native/, on the user's wish (`tsvisor doctor --build-addon`), for `npm install`
// (install.mjs) and for releases and the lab (prebuild.mjs):
//
//   node scripts/build-addon.mjs [--arch x64|arm64] [--out DIR] [--portable] [--json]
//
// Without --arch and --out node-gyp builds it for this Node, into build/Release, with what is here: it downloads nothing.
// With either of them cmake-js builds DIR/Release/tsvisor.node; DIR is build/ARCH by default. --portable links the C++
// library into it and strips it. What is missing is said with the command that brings it. Progress goes to standard
// error. Ends with 0 when the addon is built (and loads, where this machine can), else with 1.
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Where node-gyp puts it, and where the loader looks first. */
export const localBuild = join(root, 'build/Release/tsvisor.node');

/**
 * @typedef {{ readonly arch?: string, readonly out?: string, readonly portable?: boolean, readonly compiler?: string, readonly sanitize?: string,
 *   readonly timeLimit?: number, readonly progress?: (line: string) => void }} BuildOptions
 * `compiler`: the C++ compiler in place of the usual one. `timeLimit`: milliseconds, for the whole build. `sanitize`: what
 * -fsanitize takes, with `out`; the addon loads only beside the sanitizer's runtime then (test-native.mjs).
 * @typedef {{ readonly built: boolean, readonly reason: string, readonly path?: string, readonly missing?: string[],
 *   readonly fix?: string, readonly log?: string }} BuildResult
 */

/** What the package managers call what a build needs. */
const DISTRIBUTIONS = {
  debian: {
    install: 'apt-get install',
    compiler: 'g++',
    make: 'make',
    python: 'python3',
    npm: 'npm',
    headers: 'libnode-dev',
    kernel: 'linux-libc-dev',
    cross: 'g++-aarch64-linux-gnu',
    cmake: 'cmake',
  },
  fedora: {
    install: 'dnf install',
    compiler: 'gcc-c++',
    make: 'make',
    python: 'python3',
    npm: 'nodejs-npm',
    headers: 'nodejs-devel',
    kernel: 'kernel-headers',
    cross: undefined, // gcc-c++-aarch64-linux-gnu has no C library: it builds kernels only.
    cmake: 'cmake',
  },
  alpine: {
    install: 'apk add',
    compiler: 'g++',
    make: 'make',
    python: 'python3',
    npm: 'npm',
    headers: 'nodejs-dev',
    kernel: 'linux-headers',
    cross: undefined,
    cmake: 'cmake',
  },
  arch: {
    install: 'pacman -S',
    compiler: 'gcc',
    make: 'make',
    python: 'python',
    npm: 'npm',
    headers: 'nodejs',
    kernel: 'linux-api-headers',
    cross: 'aarch64-linux-gnu-gcc',
    cmake: 'cmake',
  },
};

/** Which of them this is, by os-release(5): ID, then what it is like. */
function distribution() {
  let text = '';
  try {
    text = readFileSync('/etc/os-release', 'utf8');
  } catch {
    // Not there: no distribution that we know.
  }
  const value = /** @param {string} key */ key => RegExp(`^${key}="?([^"\n]*)`, 'm').exec(text)?.[1] ?? '';
  const ids = `${value('ID')} ${value('ID_LIKE')}`.split(' ').map(id => (/^(rhel|centos)$/.test(id) ? 'fedora' : id));
  const id = ids.find(i => i in DISTRIBUTIONS);
  return id === undefined ? undefined : DISTRIBUTIONS[/** @type {keyof typeof DISTRIBUTIONS} */ (id)];
}

/** @param {string} command */
export const works = command => spawnSync(command, ['--version'], { stdio: 'ignore', timeout: 10_000 }).status === 0;

/** A prefix with include/node; common.gypi is what node-gyp reads of it. */
function findHeaders() {
  const candidates = [
    process.env.npm_config_nodedir,
    dirname(dirname(process.execPath)),
    join(homedir(), '.cache/node-gyp', process.version.slice(1)),
    '/usr',
  ];
  return candidates.find(
    d => d && ['node_api.h', 'uv.h', 'common.gypi'].every(f => existsSync(join(d, 'include/node', f))),
  );
}

/** Ours in a checkout; else the one that every npm has inside. */
function findGyp() {
  const npm = (process.env.PATH ?? '').split(delimiter).map(d => join(d, 'npm'));
  const insideNpm = npm
    .filter(p => existsSync(p))
    .map(p => join(dirname(dirname(realpathSync(p))), 'node_modules/node-gyp/bin/node-gyp.js'));
  const candidates = [
    process.env.npm_config_node_gyp,
    join(root, 'node_modules/node-gyp/bin/node-gyp.js'),
    ...insideNpm,
    // Debian's.
    '/usr/share/nodejs/node-gyp/bin/node-gyp.js',
  ];
  return candidates.find(p => p && existsSync(p));
}

/** @param {string} name */
function findModule(name) {
  try {
    return createRequire(import.meta.url).resolve(name);
  } catch {
    return undefined;
  }
}

/** The first of the usual C++ compilers that runs. @param {boolean} cross */
function findCompiler(cross) {
  if (cross) return ['aarch64-linux-gnu-g++'].find(works);
  return [process.env.CXX, 'c++', 'g++', 'clang++'].find(c => c && works(c));
}

/** Whether a compiler finds the kernel's headers: on Alpine they are a package that no other brings. @param {string} compiler */
function findsKernelHeaders(compiler) {
  const input = '#include <linux/kvm.h>\n#include <linux/if_tun.h>\n';
  return spawnSync(compiler, ['-E', '-x', 'c++', '-'], { input, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0;
}

/**
 * What is missing for a build, in words, and the commands that bring it.
 * @param {{ cmake: boolean, cross: boolean, compiler?: string | undefined }} wanted
 */
function examine({ cmake, cross, compiler: given }) {
  const packages = distribution();
  /** @type {string[]} */
  const missing = [];
  /** @type {string[]} */
  const wishes = [];
  /** @type {string[]} */
  const commands = [];
  /** @param {string} what @param {Exclude<keyof typeof DISTRIBUTIONS.debian, 'install'>} key */
  const lacks = (what, key) => {
    missing.push(what);
    const name = packages?.[key];
    if (name !== undefined) wishes.push(name);
    else commands.push(`(install ${what})`);
  };
  const compiler = given ?? findCompiler(cross);
  if (compiler === undefined || !works(compiler)) {
    if (cross) lacks('the cross compiler aarch64-linux-gnu-g++', 'cross');
    else lacks('a C++ compiler', 'compiler');
  } else if (!findsKernelHeaders(compiler)) lacks("the kernel's headers (linux/kvm.h)", 'kernel');
  if (!works('make')) lacks('make', 'make');
  const headers = findHeaders();
  if (headers === undefined) {
    const what = `the headers of Node ${process.versions.node} (include/node)`;
    // Node from the distribution has a package of headers; every other Node came with them, or node-gyp fetches them.
    if (packages !== undefined && dirname(process.execPath) === '/usr/bin') lacks(what, 'headers');
    else {
      missing.push(what);
      commands.push('npx --yes node-gyp install');
    }
  }
  const gyp = findGyp();
  const cmakeJs = findModule('cmake-js');
  if (cmake) {
    if (!works('cmake')) lacks('cmake', 'cmake');
    if (cmakeJs === undefined) {
      missing.push('the package cmake-js');
      commands.push('npm install --include=dev');
    }
  } else {
    if (!works(process.env.PYTHON ?? 'python3')) lacks('python3, which node-gyp needs', 'python');
    if (gyp === undefined) lacks('node-gyp, which is part of npm', 'npm');
  }
  if (findModule('node-addon-api') === undefined) {
    missing.push('the package node-addon-api');
    commands.push('npm install');
  }
  if (wishes.length > 0) {
    commands.unshift(`${process.getuid?.() === 0 ? '' : 'sudo '}${packages?.install} ${wishes.join(' ')}`);
  }
  return { missing, fix: commands.join(' && '), headers, gyp, cmakeJs };
}

/** Runs a program, its output line by line to `line`. @param {string[]} args @param {BuildOptions} options */
function run(args, options, env = {}) {
  const { promise, resolve: done } = withResolvers();
  // A group of its own, so that a time limit ends make's compilers too.
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let log = '';
  let rest = '';
  let late = false;
  const timer =
    options.timeLimit === undefined
      ? undefined
      : setTimeout(() => {
          late = true;
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
        }, options.timeLimit);
  /** @param {string} text */
  const take = text => {
    log = (log + text).slice(-8000);
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const l of lines) {
      // make: `CXX(target) Release/obj.target/tsvisor/native/fd.o`; cmake: `Building CXX object .../native/fd.cc.o`.
      const source = /CXX.*\/([\w-]+?)(?:\.cc)?\.o$/.exec(l)?.[1];
      if (source !== undefined) options.progress?.(`compiling native/${source}.cc`);
      else if (/SOLINK|Linking/.test(l)) options.progress?.('linking');
    }
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  child.on('error', e => done({ problem: e.message, log }));
  child.on('close', (code, signal) => {
    clearTimeout(timer);
    if (code === 0) return done({ problem: undefined, log });
    if (late) return done({ problem: `the build took over ${(options.timeLimit ?? 0) / 1000} s`, log });
    const why = /^.*(?:error:|Error:|fatal).*$/m.exec(log)?.[0].trim() ?? `it ended with ${code ?? signal}`;
    return done({ problem: `the build failed: ${why.slice(0, 300)}`, log });
  });
  return promise;
}

// Promise.withResolvers() needs Node 22.
/** @returns {{ promise: Promise<{ problem: string | undefined, log: string }>, resolve: (r: { problem: string | undefined, log: string }) => void }} */
function withResolvers() {
  let resolve = /** @type {any} */ (undefined);
  const promise = new Promise(r => {
    resolve = r;
  });
  return /** @type {any} */ ({ promise, resolve });
}

/** Loads an addon in a process of its own: a broken one may take its process with it. @param {string} path */
export function whyNotLoading(path) {
  const script = `try { require(${JSON.stringify(path)}) } catch (e) { console.log(e.message.split('\\n')[0]); process.exit(1) }`;
  const r = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 30_000 });
  return r.status === 0 ? undefined : r.stdout?.trim() || `its process ended with ${r.signal ?? r.status}`;
}

/** Whether files can be made in a folder or, where it is not there yet, in the nearest one above. @param {string} folder */
function whyNotWritable(folder) {
  let at = folder;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  try {
    accessSync(at, constants.W_OK);
    return undefined;
  } catch (e) {
    return `${at} cannot be written (${/** @type {NodeJS.ErrnoException} */ (e).code})`;
  }
}

/**
 * Builds the addon; see the head of this file.
 * @param {BuildOptions} options
 * @returns {Promise<BuildResult>}
 */
export async function buildAddon(options = {}) {
  const arch = options.arch ?? process.arch;
  if (process.platform !== 'linux')
    return { built: false, reason: `the addon is for Linux, this is ${process.platform}` };
  if (arch !== 'x64' && arch !== 'arm64') return { built: false, reason: `there is no addon for ${arch}` };
  const cmake = options.out !== undefined || arch !== process.arch;
  const cross = arch === 'arm64' && process.arch !== 'arm64';
  if (arch === 'x64' && process.arch !== 'x64' && options.compiler === undefined) {
    return { built: false, reason: 'an addon for x64 is built on x64' };
  }
  const out = resolve(options.out ?? join(root, cmake ? `build/${arch}` : 'build'));
  const readOnly = whyNotWritable(out);
  if (readOnly !== undefined) {
    const fix = 'run it as a user who may write there, or install tsvisor in a folder of your own';
    return { built: false, reason: readOnly, fix };
  }
  const { missing, fix, headers, gyp, cmakeJs: cmakeJsModule } = examine({ cmake, cross, compiler: options.compiler });
  if (missing.length > 0) {
    return { built: false, reason: `missing: ${missing.join('; ')}`, missing, ...(fix === '' ? {} : { fix }) };
  }
  mkdirSync(out, { recursive: true });
  const path = join(out, 'Release/tsvisor.node');
  /** @type {string[][]} */
  let steps;
  if (cmake) {
    const cmakeJs = [join(dirname(/** @type {string} */ (cmakeJsModule)), '../bin/cmake-js')];
    const flags = ['-d', join(root, 'native'), '-O', out, '-a', arch, '--prefer-make'];
    flags.push(`--CDPORTABLE=${options.portable ? 'ON' : 'OFF'}`);
    if (options.sanitize !== undefined) flags.push(`--CDSANITIZE=${options.sanitize}`);
    if (options.compiler !== undefined) flags.push(`--CDCMAKE_CXX_COMPILER=${options.compiler}`);
    else if (cross) flags.push(`--CDCMAKE_TOOLCHAIN_FILE=${join(root, 'native/arm64.cmake')}`);
    // `build` alone would keep what an earlier configuration said.
    steps = ['configure', 'build'].map(verb => [...cmakeJs, verb, ...flags]);
  } else {
    // Not `rebuild`: it removes build/ with all that is in it before anything is known to work.
    steps = [[/** @type {string} */ (gyp), 'configure', 'build', `--nodedir=${headers}`]];
  }
  let log = '';
  for (const args of steps) {
    const r = await run(args, options, { npm_config_nodedir: headers });
    log += r.log;
    if (r.problem !== undefined) return { built: false, reason: r.problem, log };
  }
  if (!cross && options.compiler === undefined && options.sanitize === undefined) {
    const why = whyNotLoading(path);
    if (why !== undefined) return { built: false, reason: `the addon was built but does not load: ${why}`, log };
  }
  return { built: true, reason: 'built', path };
}

/** Keeps what happened for `tsvisor doctor`. @param {BuildResult} result */
export function note(result) {
  const status = { ...result, node: process.version, platform: process.platform, arch: process.arch };
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(join(root, 'build/addon-status.json'), `${JSON.stringify(status, null, 2)}\n`);
}

if (import.meta.url === pathToFileURL(realpathSync(process.argv[1] ?? '.')).href) {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      out: { type: 'string' },
      portable: { type: 'boolean' },
      json: { type: 'boolean' },
    },
  });
  const { json, ...options } = values;
  const say = /** @param {string} line */ line => process.stderr.write(`${line}\n`);
  const result = await buildAddon({ ...options, progress: line => say(`  ${line}`) });
  if (options.arch === undefined && options.out === undefined) {
    try {
      note(result);
    } catch {
      // A folder that cannot be written is in the result already.
    }
  }
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else {
    say(result.built ? `built ${result.path}` : `not built: ${result.reason}`);
    if (result.fix !== undefined) say(`fix: ${result.fix}`);
    if (result.log !== undefined) say(result.log);
  }
  process.exitCode = result.built ? 0 : 1;
}
