import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmError } from '../util/errors.ts';
import { sha256, writeError } from './files.ts';
import { httpGet } from './http.ts';

/** What to download, and how; see {@link download}. */
export interface DownloadOptions {
  /** Where the file grows; what is there already is taken as its beginning. Deleted when the file is complete. */
  readonly part: string;
  /** Bytes. */
  readonly size: number;
  /** In hexadecimal. */
  readonly sha256: string;
  readonly onProgress?: ((done: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly stallMs?: number | undefined;
}

const ATTEMPTS = 4;
const STALL_MS = 60_000;

/**
 * Downloads a file of known size and digest. After a break it goes on where it stopped, now (a few times) and in the next
 * call; a file whose digest is wrong is fetched once more from its start, since the beginning may be of an older version.
 *
 * @throws VmError ERR_DOWNLOAD, ERR_TIMEOUT, ERR_VERIFY when the digest is wrong, ERR_DISK_FULL, ERR_FILE_UNREADABLE.
 */
export async function download(url: string, options: DownloadOptions): Promise<Uint8Array> {
  for (let attempt = 1; ; attempt++) {
    let resumed = false;
    try {
      resumed = await fetchRest(url, options);
      const bytes = await readFile(options.part);
      await rm(options.part, { force: true });
      if (sha256(bytes) === options.sha256) return bytes;
      if (!resumed || attempt >= ATTEMPTS) {
        throw new VmError('ERR_VERIFY', `${url} does not have the digest of the mirror's list`, {
          hint: 'The mirror may be in the middle of an update, or damaged: try again later or another one.',
          details: { url, expected: options.sha256, found: sha256(bytes) },
        });
      }
    } catch (e) {
      options.signal?.throwIfAborted();
      const again = e instanceof VmError && (e.code === 'ERR_TIMEOUT' || e.details.retry === true);
      if (!again || attempt >= ATTEMPTS) throw e;
      await sleep(200 * 2 ** attempt, undefined, options.signal ? { signal: options.signal } : {});
    }
  }
}

/** One request for what is missing; true when there was a beginning already. */
async function fetchRest(url: string, options: DownloadOptions): Promise<boolean> {
  const { part, size, signal, onProgress, env, stallMs = STALL_MS } = options;
  const file = await open(part, 'a').catch((cause: unknown) => {
    throw writeError(part, cause);
  });
  let full = false;
  try {
    let done = (await file.stat()).size;
    if (done > size) {
      await file.truncate(0);
      done = 0;
    }
    const had = done > 0;
    if (done === size) return had;
    const response = await httpGet(url, { from: done, signal, stallMs, env });
    const { statusCode } = response;
    if (statusCode === 200 && done > 0) {
      await file.truncate(0); // a server without ranges sends all of it
      done = 0;
    } else if (statusCode === 206 && !response.headers['content-range']?.startsWith(`bytes ${done}-`)) {
      response.destroy();
      throw new VmError('ERR_DOWNLOAD', `${url} sent another range than the one that was asked for`);
    } else if (statusCode !== 200 && statusCode !== 206) {
      response.destroy();
      throw httpError(url, statusCode ?? 0);
    }
    onProgress?.(done);
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        done += chunk.length;
        if (done > size) {
          await file.truncate(0);
          throw new VmError('ERR_VERIFY', `${url} is longer than the ${size} bytes of the mirror's list`, {
            hint: 'Try again later, or another mirror.',
          });
        }
        await append(file, part, chunk);
        onProgress?.(done);
      }
    } catch (cause) {
      signal?.throwIfAborted();
      if (cause instanceof VmError) {
        full = cause.code === 'ERR_DISK_FULL';
        throw cause;
      }
      throw broken(url, done, size, cause);
    }
    if (done < size) throw broken(url, done, size);
    return had;
  } finally {
    await file.close();
    if (full) await rm(part, { force: true }); // on a full disk half a file is worth less than its space
  }
}

async function append(file: FileHandle, path: string, chunk: Uint8Array): Promise<void> {
  try {
    await file.writeFile(chunk);
  } catch (cause) {
    throw writeError(path, cause);
  }
}

/**
 * Downloads a small file of unknown size, or undefined when the server has none (404).
 *
 * @throws VmError ERR_DOWNLOAD or ERR_TIMEOUT, also when it is larger than `limit` bytes.
 */
export async function fetchSmall(
  url: string,
  limit: number,
  options: { signal?: AbortSignal | undefined; env: NodeJS.ProcessEnv; stallMs?: number | undefined },
): Promise<Uint8Array | undefined> {
  const response = await httpGet(url, { ...options, stallMs: options.stallMs ?? STALL_MS });
  if (response.statusCode === 404) {
    response.destroy();
    return undefined;
  }
  if (response.statusCode !== 200) {
    response.destroy();
    throw httpError(url, response.statusCode ?? 0);
  }
  const chunks: Buffer[] = [];
  let done = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      done += chunk.length;
      if (done > limit) throw new VmError('ERR_DOWNLOAD', `${url} is larger than ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw cause instanceof VmError ? cause : broken(url, done, undefined, cause);
  }
  return Buffer.concat(chunks);
}

function httpError(url: string, status: number): VmError {
  return new VmError('ERR_DOWNLOAD', `${url}: the server answers ${status}`, {
    hint: status === 404 ? 'Check the address of the mirror and the suite.' : 'Try again later, or another mirror.',
    details: { url, status, retry: status >= 500 || status === 429 },
  });
}

function broken(url: string, done: number, size: number | undefined, cause?: unknown): VmError {
  const of = size === undefined ? '' : ` of ${size}`;
  return new VmError('ERR_DOWNLOAD', `the connection broke after ${done}${of} bytes of ${url}`, {
    hint: 'Run the pull again: it goes on where it stopped.',
    details: { url, done, retry: true },
    ...(cause === undefined ? {} : { cause }),
  });
}
