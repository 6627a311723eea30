/**
 * What a device module may do beyond plain Node: be written in TypeScript, and import 'tsvisor' and 'tsvisor/devices' from
 * a folder that has no such package installed. Module customization hooks; Node runs them on a thread of their own.
 */
import { readFile } from 'node:fs/promises';
import type { LoadHook, ResolveHook } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { TransformFailure } from 'esbuild';

const OURS = /^tsvisor(\/|$)/;
const TYPESCRIPT = /\.m?ts$/;

/** Node's own resolution; where it finds nothing, our own package, or the TypeScript file that a name stands for. */
export const resolve: ResolveHook = async (specifier, context, next) => {
  try {
    return await next(specifier, context);
  } catch (e) {
    if (OURS.test(specifier)) return await next(specifier, { ...context, parentURL: import.meta.url });
    for (const other of typescriptNames(specifier)) {
      try {
        return await next(other, context);
      } catch {
        // The first error says what was asked for.
      }
    }
    throw e;
  }
};

/** Compiles TypeScript. A device module is an ES module whatever the package.json around it says. */
export const load: LoadHook = async (url, context, next) => {
  const { protocol, pathname } = new URL(url);
  if (protocol !== 'file:' || !TYPESCRIPT.test(pathname)) return await next(url, context);
  const path = fileURLToPath(url);
  const text = await readFile(path, 'utf8');
  return { format: 'module', source: await compile(text, path), shortCircuit: true };
};

/** One call, one short-lived process of the compiler: nothing is left running beside the machine. */
async function compile(text: string, path: string): Promise<string> {
  const { transformSync } = await compiler();
  try {
    const options = { loader: 'ts', format: 'esm', target: 'node20', sourcefile: path, sourcemap: 'inline' } as const;
    return transformSync(text, options).code;
  } catch (e) {
    const { text: why = (e as Error).message, location } = (e as TransformFailure).errors?.[0] ?? {};
    throw new SyntaxError(`${location ? `${path}:${location.line}:${location.column + 1}: ` : ''}${why}`);
  }
}

/**
 * Only TypeScript pays for the compiler. It looks at this variable when it is loaded; without it, it keeps a process in a thread of
 * its own, which nobody waits for when this thread ends.
 */
async function compiler(): Promise<typeof import('esbuild')> {
  const { env } = process;
  const before = env.ESBUILD_WORKER_THREADS;
  env.ESBUILD_WORKER_THREADS = '0';
  try {
    return await import('esbuild');
  } finally {
    if (before === undefined) delete env.ESBUILD_WORKER_THREADS;
    else env.ESBUILD_WORKER_THREADS = before;
  }
}

/** As in TypeScript's own resolution, './x.js' may be x.ts; './x' may be, too. */
function typescriptNames(specifier: string): string[] {
  if (!/^(\.{1,2}\/|\/|file:)/.test(specifier)) return [];
  const named = specifier.replace(/\.(m?)js$/, '.$1ts');
  return named === specifier ? [`${specifier}.ts`] : [named];
}
