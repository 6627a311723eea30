import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';

/** An xz stream with one empty-free block stored in LZMA2 chunks "without compression", so that no xz program is needed. */
export function xzStored(data: Uint8Array): Uint8Array {
  const chunks: Buffer[] = [];
  for (let at = 0; at < data.length; at += 65536) {
    const part = data.subarray(at, at + 65536);
    // LZMA2 control 1: uncompressed chunk, dictionary reset; 2: without a reset. Then size - 1, big-endian.
    chunks.push(Buffer.from([at === 0 ? 1 : 2, (part.length - 1) >> 8, (part.length - 1) & 255]), Buffer.from(part));
  }
  chunks.push(Buffer.from([0]));
  const packed = Buffer.concat(chunks);
  const flags = Buffer.from([0, 0]); // no check
  const streamHeader = Buffer.concat([Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), flags, le32(crc32(flags))]);
  // Block header: size 12 bytes, one filter (LZMA2 0x21, one property byte: 1 MiB dictionary), padding, CRC32.
  const header = Buffer.from([2, 0, 0x21, 1, 16, 0, 0, 0]);
  const blockHeader = Buffer.concat([header, le32(crc32(header))]);
  const padding = Buffer.alloc(-packed.length & 3);
  const records = Buffer.concat([Buffer.from([0, 1]), vli(blockHeader.length + packed.length), vli(data.length)]);
  const index = Buffer.concat([records, Buffer.alloc(-records.length & 3)]);
  const indexAndCrc = Buffer.concat([index, le32(crc32(index))]);
  const backward = Buffer.concat([le32(indexAndCrc.length / 4 - 1), flags]);
  const footer = Buffer.concat([le32(crc32(backward)), backward, Buffer.from('YZ')]);
  return Buffer.concat([streamHeader, blockHeader, packed, padding, indexAndCrc, footer]);
}

/** A Debian package with these files in its data.tar. */
export async function makeDeb(
  files: Readonly<Record<string, Uint8Array>>,
  compression: 'none' | 'gz' | 'xz',
): Promise<Uint8Array> {
  const pack = tar.pack();
  pack.entry({ name: './', type: 'directory' });
  for (const [name, data] of Object.entries(files)) pack.entry({ name, mtime: new Date(0) }, Buffer.from(data));
  pack.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of pack) chunks.push(chunk as Uint8Array);
  const data = Buffer.concat(chunks);
  if (compression === 'none') return makeAr({ 'debian-binary': Buffer.from('2.0\n'), 'data.tar': data });
  const packed = compression === 'gz' ? gzipSync(data) : xzStored(data);
  return makeAr({
    'debian-binary': Buffer.from('2.0\n'),
    'control.tar.gz': gzipSync(new Uint8Array(1024)),
    [`data.tar.${compression}`]: packed,
  });
}

/** A Unix ar archive. */
export function makeAr(members: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from('!<arch>\n')];
  for (const [name, data] of Object.entries(members)) {
    const header = `${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}`;
    parts.push(Buffer.from(`${header}${String(data.length).padEnd(10)}\`\n`), data);
    if (data.length % 2) parts.push(Buffer.from('\n'));
  }
  return Buffer.concat(parts);
}

/** True when `program` can be started here. */
export function installed(program: string, args: readonly string[] = ['--version']): boolean {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}

function le32(n: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n >>> 0);
  return b;
}

function vli(n: number): Buffer {
  const bytes: number[] = [];
  for (; n >= 0x80; n = Math.floor(n / 128)) bytes.push((n % 128) | 0x80);
  return Buffer.from([...bytes, n]);
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const b of bytes) {
    crc ^= b;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
