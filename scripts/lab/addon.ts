import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../../test/support/lab.ts';

/**
 * The addon for an architecture (as Node names it), in build/ARCH, built again when a source in native/ is newer.
 *
 * @param onOutput gets the progress of the build; without it nothing is built.
 * @returns its path.
 * @throws Error saying why it cannot be built, and what would mend that.
 */
export async function labAddon(arch: 'x64' | 'arm64', onOutput?: (text: string) => void): Promise<string> {
  const folder = join(ROOT, 'build', arch);
  const path = join(folder, 'Release/tsvisor.node');
  const built = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const native = join(ROOT, 'native');
  if (onOutput === undefined || readdirSync(native).every(f => statSync(join(native, f)).mtimeMs < built)) return path;

  const args = [join(ROOT, 'scripts/build-addon.mjs'), '--arch', arch, '--out', folder, '--json'];
  // One build at a time in one folder.
  const lock = join(ROOT, 'build/lab', `${arch}.lock`);
  mkdirSync(dirname(lock), { recursive: true });
  const started = new Date();
  const child = spawn('flock', [lock, process.execPath, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let json = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    json += text;
  });
  child.stderr.setEncoding('utf8').on('data', onOutput);
  await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject));
  const result = JSON.parse(json) as { built: boolean; reason: string; fix?: string; log?: string };
  if (!result.built) {
    const lines = [`no addon for ${arch}: ${result.reason}`, result.fix && `fix: ${result.fix}`, result.log];
    throw new Error(lines.filter(Boolean).join('\n'));
  }
  // It may have been up to date already, as when only a comment has changed in a file that is no source.
  utimesSync(path, started, started);
  return path;
}
