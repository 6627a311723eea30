import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { EXIT } from './exit-codes.ts';
import { type Finding, jsonFinding, printFinding } from './findings.ts';
import type { Output } from './output.ts';

/** What scripts/build-addon.mjs says of its attempt, as JSON. */
interface BuildResult {
  readonly built: boolean;
  readonly reason: string;
  readonly path?: string;
  /** What is not here that a build needs. */
  readonly missing?: readonly string[];
  readonly fix?: string;
  /** The end of the compilers' output. */
  readonly log?: string;
}

/** The script is shipped beside dist/; npm's install script uses it too, when there is no dist/ yet in a checkout. */
const SCRIPT = fileURLToPath(new URL('../../scripts/build-addon.mjs', import.meta.url));

/**
 * `tsvisor doctor --build-addon`: compiles the addon for this host, with its progress on standard error. The exit code is 0
 * when it is built and loads, 3 when it cannot be here; then what is missing is said, and the command that brings it.
 */
export async function buildAddon(out: Output): Promise<number> {
  const child = spawn(process.execPath, [SCRIPT, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [answer] = await Promise.all([text(child.stdout), once(child, 'close')]);
  let result: BuildResult;
  try {
    result = JSON.parse(answer) as BuildResult;
  } catch {
    result = { built: false, reason: `the build ended without an answer (${SCRIPT})` };
  }
  const { built, reason, path, fix, log, missing } = result;
  const finding: Finding = {
    check: 'addon',
    status: built ? 'ok' : 'bad',
    text: built ? `built ${path}; it loads` : `not built: ${reason}`,
    fix,
    data: { ...(missing === undefined ? {} : { missing }), ...(log === undefined ? {} : { log }) },
  };
  if (out.json) process.stdout.write(`${JSON.stringify(jsonFinding(finding), null, 2)}\n`);
  else {
    if (!built && log !== undefined) process.stderr.write(`${log.trimEnd()}\n`);
    process.stdout.write(printFinding(finding));
  }
  return built ? EXIT.ok : EXIT.host;
}
