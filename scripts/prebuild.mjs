// Makes prebuilds/PLATFORM-ARCH/TAGS.node for a release, in prebuildify's layout and with its tags:
//
//   node scripts/prebuild.mjs [--arch x64|arm64]... [--out DIR]      all that can be made here; DIR is prebuilds/ by default
//
// They are Node-API 8, so one file serves every Node from 20 on. Each is held against the oldest distributions that Node 20
// itself runs on: no symbol may be newer than theirs. Ends with 1 if one was not made or is too new. `npm pack` takes what is
// in prebuilds/; git does not.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildAddon, root, works } from './build-addon.mjs';

/** The newest symbol versions of RHEL 8 and Debian 10, with gcc 8: what Node 20's own binaries ask for (its BUILDING.md). */
const LIMITS = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11', GCC: '7.0.0' };

const MUSL = { x64: 'x86_64-linux-musl-g++', arm64: 'aarch64-linux-musl-g++' };
const OBJDUMP = { x64: 'x86_64-linux-gnu-objdump', arm64: 'aarch64-linux-gnu-objdump' };

/** @param {string} line */
const say = line => process.stdout.write(`${line}\n`);

/** @param {string} a @param {string} b */
const newer = (a, b) => a.localeCompare(b, 'en', { numeric: true }) > 0;

/** The C library of this machine's own compiler. */
const muslHere = /musl/.test(spawnSync('c++', ['-dumpmachine'], { encoding: 'utf8' }).stdout ?? '');

/** The symbols with a version that a file needs, from the table of objdump -T. @param {string} path @param {string} arch */
function needed(path, arch) {
  const tool = [OBJDUMP[/** @type {'x64'} */ (arch)], 'objdump'].find(works);
  if (tool === undefined) throw new Error('objdump (binutils) was not found');
  const r = spawnSync(tool, ['-T', path], { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${tool}: ${r.stderr.trim()}`);
  return [...r.stdout.matchAll(/\*UND\*.*\(?\b(GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)\)? +(\S+)$/gm)].map(
    ([, name, version, symbol]) => ({ name: String(name), version: String(version), symbol: String(symbol) }),
  );
}

/** Says the newest version that is asked for of each library. Whether all are old enough. @param {string} path @param {string} arch */
function check(path, arch) {
  const symbols = needed(path, arch);
  if (symbols.length === 0) throw new Error(`objdump shows no symbol versions in ${path}`);
  let good = true;
  for (const [name, limit] of Object.entries(LIMITS)) {
    const of = symbols.filter(s => s.name === name);
    const newest = of.map(s => s.version).reduce((a, b) => (newer(b, a) ? b : a), '0');
    if (newest !== '0') say(`  needs ${name} ${newest} or newer (limit ${limit})`);
    for (const s of of.filter(s => newer(s.version, limit))) {
      say(`  too new: ${s.symbol} (${name}_${s.version}); see native/old-glibc.h`);
      good = false;
    }
  }
  return good;
}

/** @param {'x64' | 'arm64'} arch @param {'glibc' | 'musl'} libc @param {string} out @returns {Promise<'made' | 'left out' | 'failed'>} */
async function prebuild(arch, libc, out) {
  const name = `linux-${arch}/node.napi${arch === 'arm64' ? '.armv8' : ''}.${libc}.node`;
  let compiler;
  if ((libc === 'musl') !== muslHere || (muslHere && arch !== process.arch)) {
    if (libc === 'glibc') {
      say(`${name}: left out: the compiler here is musl's`);
      return 'left out';
    }
    compiler = MUSL[arch];
    // Debian's musl-tools wraps the C compiler only.
    if (!works(compiler)) {
      say(`${name}: left out: there is no C++ compiler for musl here (${compiler}); on Alpine this script makes it`);
      return 'left out';
    }
  }
  const options = { arch, out: join(root, `build/prebuild/${arch}-${libc}`), portable: true };
  const result = await buildAddon(compiler === undefined ? options : { ...options, compiler });
  if (!result.built || result.path === undefined) {
    say(`${name}: ${result.reason}`);
    if (result.fix !== undefined) say(`  fix: ${result.fix}`);
    if (result.log !== undefined) say(result.log);
    return 'failed';
  }
  const to = join(out, name);
  mkdirSync(join(to, '..'), { recursive: true });
  // By a rename: a process may have the old one mapped.
  copyFileSync(result.path, `${to}.new`);
  renameSync(`${to}.new`, to);
  say(`${name}: ${statSync(to).size} bytes`);
  return libc === 'musl' || check(to, arch) ? 'made' : 'failed';
}

const { values } = parseArgs({ options: { arch: { type: 'string', multiple: true }, out: { type: 'string' } } });
const results = [];
for (const arch of values.arch ?? ['x64', 'arm64']) {
  if (arch !== 'x64' && arch !== 'arm64') throw new Error(`there is no addon for ${arch}`);
  for (const libc of /** @type {const} */ (['glibc', 'musl'])) {
    results.push(await prebuild(arch, libc, resolve(values.out ?? join(root, 'prebuilds'))));
  }
}
process.exitCode = results.includes('failed') || !results.includes('made') ? 1 : 0;
