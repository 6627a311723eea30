import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import tar from 'tar-stream';
import xz from 'xz-decompress';
import { isGzip, unzstd } from '../firmware/decompress.ts';
import { VmError } from '../util/errors.ts';

/** No more than this is kept of one package, in bytes. */
const KEEP_LIMIT = 1 << 30;
/** No package's data may unpack to more than this, in bytes. */
const DATA_LIMIT = 4 * (1 << 30);

const AR_MAGIC = '!<arch>\n';
const AR_HEADER = 60;

/** One member of an ar archive; `data` is a view of the archive. */
export interface ArMember {
  readonly name: string;
  readonly data: Uint8Array;
}

/**
 * The members of a Unix ar archive with short names, which is what a Debian package is (deb(5)).
 *
 * @throws VmError ERR_DOWNLOAD when the bytes are no such archive.
 */
export function readAr(bytes: Uint8Array): ArMember[] {
  const latin1 = (from: number, to: number) => Buffer.from(bytes.subarray(from, to)).toString('latin1');
  if (latin1(0, AR_MAGIC.length) !== AR_MAGIC) throw damaged('it does not start with an ar header');
  const members: ArMember[] = [];
  for (let at = AR_MAGIC.length; at < bytes.length; ) {
    const header = latin1(at, at + AR_HEADER);
    const size = Number(header.slice(48, 58).trim() || Number.NaN);
    if (header.length < AR_HEADER || !header.endsWith('`\n') || !Number.isInteger(size) || size < 0) {
      throw damaged(`there is no member header at offset ${at}`);
    }
    const data = bytes.subarray(at + AR_HEADER, at + AR_HEADER + size);
    if (data.length < size) throw damaged('its last member is cut off');
    members.push({ name: header.slice(0, 16).trim().replace(/\/$/, ''), data });
    at += AR_HEADER + size + (size & 1);
  }
  return members;
}

/**
 * Unpacks those regular files of a Debian package whose path (without leading `./` or `/`) `want` accepts, without dpkg,
 * so that it works on every operating system.
 *
 * @throws VmError ERR_DOWNLOAD when the package is damaged or compressed in an unknown way.
 */
export async function readDeb(
  bytes: Uint8Array,
  want: (path: string) => boolean,
  signal?: AbortSignal,
): Promise<Map<string, Uint8Array>> {
  const member = readAr(bytes).find(m => m.name.startsWith('data.tar'));
  if (!member) throw damaged('it has no data.tar');
  const files = new Map<string, Uint8Array>();
  let kept = 0;
  const extract = tar.extract();
  extract.on('entry', (header, entry, next) => {
    const path = header.name.replace(/^(\.?\/)+/, '');
    const chunks: Buffer[] = [];
    const keep = header.type === 'file' && want(path);
    entry.on('data', data => {
      if (!keep) return;
      const chunk = data as Buffer;
      kept += chunk.length;
      if (kept > KEEP_LIMIT) return entry.destroy(damaged(`its files are larger than ${KEEP_LIMIT} bytes`));
      chunks.push(chunk);
    });
    entry.on('error', next);
    entry.on('end', () => {
      if (keep) files.set(path, Buffer.concat(chunks));
      next();
    });
  });
  try {
    const options = signal ? { signal } : {};
    await pipeline(Readable.from(limited(unpacked(member))), extract, options);
  } catch (cause) {
    signal?.throwIfAborted();
    throw cause instanceof VmError ? cause : damaged('its data cannot be unpacked', cause);
  }
  return files;
}

function unpacked(member: ArMember): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  const { name, data } = member;
  if (name.endsWith('.xz')) return unxzStream(data);
  if (name.endsWith('.gz')) return isGzip(data) ? Readable.from([data]).pipe(createGunzip()) : raise('no gzip data');
  if (name.endsWith('.zst')) return [unzstd(data, KEEP_LIMIT, 'the package')];
  if (name === 'data.tar') return [data];
  return raise(`${name} is compressed in a way that is not supported`);
}

async function* limited(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let total = 0;
  for await (const chunk of chunks) {
    total += chunk.length;
    if (total > DATA_LIMIT) throw damaged(`it unpacks to more than ${DATA_LIMIT} bytes`);
    // The decoder reuses its buffer.
    yield Buffer.from(chunk);
  }
}

async function* unxzStream(data: Uint8Array): AsyncIterable<Uint8Array> {
  const source = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(data);
      controller.close();
    },
  });
  yield* new xz.XzReadableStream(source) as unknown as AsyncIterable<Uint8Array>;
}

/**
 * Unpacks an xz file, to at most `limit` bytes.
 *
 * @throws VmError ERR_DOWNLOAD when it is damaged or larger.
 */
export async function unxz(data: Uint8Array, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  try {
    for await (const chunk of unxzStream(data)) {
      total += chunk.length;
      if (total > limit) throw damaged(`it unpacks to more than ${limit} bytes`);
      chunks.push(Buffer.from(chunk));
    }
  } catch (cause) {
    throw cause instanceof VmError ? cause : damaged('its xz data cannot be unpacked', cause);
  }
  return Buffer.concat(chunks);
}

function raise(why: string): never {
  throw damaged(why);
}

function damaged(why: string, cause?: unknown): VmError {
  return new VmError('ERR_DOWNLOAD', `a downloaded package is damaged: ${why}`, {
    hint: 'Run the pull again; if it fails again, try another mirror.',
    ...(cause === undefined ? {} : { cause }),
  });
}
