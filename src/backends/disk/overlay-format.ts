import { VmError } from '../../util/errors.ts';

/*
 * The format of an overlay file, version 1. All numbers are little-endian.
 *
 *   0     header, 4096 bytes, zeroes behind the fields:
 *         0   8  magic: 'tsvcow', CR, LF (which a transfer as text would damage)
 *         8   4  version, 1
 *         12  4  bytes of a cluster, 65536
 *         16  8  bytes of the base and of the disk
 *         24  8  nanoseconds of the base's last change, 0 for a block device
 *         32  8  number of clusters of this file in use, header and table among them
 *   4096  table: 8 bytes for each cluster of the disk
 *   ...   data clusters, each at a multiple of 65536
 *
 * An entry of the table is 2 * s + z. s is the cluster of this file that holds the data, 0 while there is none; z = 1
 * says that the disk's cluster reads as zeroes, whatever s has: it keeps s for the next write. 0 says that the base has
 * the data. What is behind the end of the file counts as zeroes, so the table need not be written before it is used.
 *
 * A cluster is written whole before it gets into the table, and the number of clusters in use is durable before an
 * entry refers to one. Entries are aligned to 8 bytes, so no crash shows half of one. A crash thus leaves at most
 * clusters that nobody refers to, behind those in use.
 */

/** Bytes of a cluster, of the disk and of the file. */
export const CLUSTER = 65536;
/** Bytes of the header; the table begins behind it. */
export const HEADER_SIZE = 4096;
/** Bytes of an entry of the table. */
export const ENTRY_SIZE = 8;
/** Offset in the header of the number of clusters in use. */
export const HEADER_USED = 32;
/** Bytes of the largest base: its table takes 2 GiB. */
export const MAX_OVERLAY_SIZE = 2 ** 44;
/** Clusters that a file may have: entries stay below 2^32. Eight times what the largest base needs. */
export const MAX_CLUSTERS = 2 ** 31;

const MAGIC = 'tsvcow\r\n';
const VERSION = 1;

/** What tells a base from another one, or from what it was. */
export interface BaseFingerprint {
  /** Bytes. */
  readonly size: number;
  /** Last change in nanoseconds since 1970. */
  readonly mtime: bigint;
}

/** First cluster of the file behind header and table, for a disk of `size` bytes. */
export function firstDataCluster(size: number): number {
  return Math.ceil((HEADER_SIZE + Math.ceil(size / CLUSTER) * ENTRY_SIZE) / CLUSTER);
}

/** The header of an overlay that holds nothing yet. */
export function newHeader(base: BaseFingerprint): Uint8Array {
  const header = new Uint8Array(HEADER_SIZE);
  for (let i = 0; i < MAGIC.length; i++) header[i] = MAGIC.charCodeAt(i);
  const view = new DataView(header.buffer);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, CLUSTER, true);
  view.setBigUint64(16, BigInt(base.size), true);
  view.setBigUint64(24, base.mtime, true);
  view.setBigUint64(HEADER_USED, BigInt(firstDataCluster(base.size)), true);
  return header;
}

/**
 * Checks a header against its base and returns the number of clusters in use.
 * @param path names the overlay in messages.
 * @throws VmError ERR_DISK when it is no overlay, of a newer version, damaged, or of another base.
 */
export function checkHeader(header: Uint8Array, base: BaseFingerprint, path: string): number {
  const view = new DataView(header.buffer, header.byteOffset, HEADER_SIZE);
  const details = { option: 'cow', path };
  for (let i = 0; i < MAGIC.length; i++) {
    if (header[i] !== MAGIC.charCodeAt(i)) {
      throw new VmError('ERR_DISK', `disk: ${path} is not an overlay of tsvisor`, {
        hint: 'name a file that does not exist yet; it is created',
        details,
      });
    }
  }
  const version = view.getUint32(8, true);
  if (version !== VERSION || view.getUint32(12, true) !== CLUSTER) {
    throw new VmError('ERR_DISK', `disk: the overlay ${path} has version ${version}, which is not known`, {
      hint: 'use the version of tsvisor that made it, or newer',
      details: { ...details, version },
    });
  }
  const size = view.getBigUint64(16, true);
  if (size !== BigInt(base.size) || view.getBigUint64(24, true) !== base.mtime) {
    throw new VmError('ERR_DISK', `disk: the base of the overlay ${path} is not what it was`, {
      hint: 'give back the base as it was, with its time of change, or start a new overlay',
      details: { ...details, size: Number(size), baseSize: base.size },
    });
  }
  const used = view.getBigUint64(HEADER_USED, true);
  if (used < BigInt(firstDataCluster(base.size)) || used > BigInt(MAX_CLUSTERS)) {
    throw new VmError('ERR_DISK', `disk: the overlay ${path} is damaged`, {
      hint: 'restore it from a backup, or start a new overlay',
      details: { ...details, used: String(used) },
    });
  }
  return Number(used);
}
