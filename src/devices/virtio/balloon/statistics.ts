import { gather } from '../pieces.ts';
import * as R from './regs.ts';

/** Memory statistics as the guest's driver gave them; it chooses which. Amounts are bytes, the others are counts. */
export interface BalloonStatistics {
  /** Bytes that were swapped in, since the guest started. */
  readonly swapIn?: number;
  /** Bytes that were swapped out to disk. */
  readonly swapOut?: number;
  /** Major page faults. */
  readonly majorFaults?: number;
  /** Minor page faults. */
  readonly minorFaults?: number;
  /** Bytes that are used for nothing. */
  readonly freeMemory?: number;
  /** Bytes in all. */
  readonly totalMemory?: number;
  /** Bytes that new programs could have without swapping, an estimate. */
  readonly availableMemory?: number;
  /** Bytes that can be had back quickly without I/O, such as cached files. */
  readonly diskCaches?: number;
  /** Huge pages that were allocated. */
  readonly hugePageAllocations?: number;
  /** Huge pages that could not be allocated. */
  readonly hugePageFailures?: number;
}

const NAMES = new Map<number, keyof BalloonStatistics>([
  [R.VIRTIO_BALLOON_S_SWAP_IN, 'swapIn'],
  [R.VIRTIO_BALLOON_S_SWAP_OUT, 'swapOut'],
  [R.VIRTIO_BALLOON_S_MAJFLT, 'majorFaults'],
  [R.VIRTIO_BALLOON_S_MINFLT, 'minorFaults'],
  [R.VIRTIO_BALLOON_S_MEMFREE, 'freeMemory'],
  [R.VIRTIO_BALLOON_S_MEMTOT, 'totalMemory'],
  [R.VIRTIO_BALLOON_S_AVAIL, 'availableMemory'],
  [R.VIRTIO_BALLOON_S_CACHES, 'diskCaches'],
  [R.VIRTIO_BALLOON_S_HTLB_PGALLOC, 'hugePageAllocations'],
  [R.VIRTIO_BALLOON_S_HTLB_PGFAIL, 'hugePageFailures'],
]);

/** Entries of a buffer that are looked at: many more than there are tags. */
const MAX_ENTRIES = 256;

/**
 * Reads a buffer of the stats queue (section 5.5.6.3): entries in any order, unknown tags ignored, of repeated ones the
 * last counts. Values above 2^53 lose their low bits.
 */
export function parseStatistics(readable: readonly Uint8Array[]): BalloonStatistics {
  const bytes = new Uint8Array(MAX_ENTRIES * R.STAT_SIZE);
  const length = gather(readable, bytes);
  const view = new DataView(bytes.buffer);
  const statistics: { -readonly [K in keyof BalloonStatistics]: number } = {};
  for (let at = 0; at + R.STAT_SIZE <= length; at += R.STAT_SIZE) {
    const name = NAMES.get(view.getUint16(at, true));
    if (name) statistics[name] = Number(view.getBigUint64(at + 2, true));
  }
  return statistics;
}
