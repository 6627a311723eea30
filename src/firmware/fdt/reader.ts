import { VmError } from '../../util/errors.ts';
import * as F from './format.ts';
import { FdtNode } from './node.ts';

/** A device tree blob taken apart. Property values are bytes: the blob does not say what they mean. */
export interface Fdt {
  readonly root: FdtNode;
  readonly reservations: readonly F.Reservation[];
  readonly bootCpu: number;
}

/**
 * Reads a device tree blob of version 16 or 17. Offsets and lengths in it are not trusted.
 *
 * @throws VmError ERR_INTERNAL saying what is wrong and at which offset.
 */
export function decodeFdt(blob: Uint8Array): Fdt {
  const whole = new Reader(blob, 0, blob.length);
  if (whole.u32() !== F.FDT_MAGIC) bad('no FDT_MAGIC', 0);
  const total = whole.u32();
  if (total > blob.length) bad(`totalsize ${total} of ${blob.length} bytes`, 4);
  const [offStructure, offStrings, offReservations, version, lastCompatible, bootCpu, sizeStrings, sizeStructure] =
    Array.from({ length: 8 }, () => whole.u32()) as [number, number, number, number, number, number, number, number];
  if (version < F.FDT_LAST_COMP_VERSION || lastCompatible > F.FDT_VERSION) bad(`version ${version}`, 20);

  const reservations: F.Reservation[] = [];
  const r = new Reader(blob, offReservations, total);
  for (;;) {
    const entry = { address: r.u64(), size: r.u64() };
    if (entry.address === 0n && entry.size === 0n) break;
    reservations.push(entry);
  }

  const strings = { blob, from: offStrings, to: Math.min(total, offStrings + sizeStrings) };
  // Version 16 has no size of the structure block.
  const end = version >= 17 ? Math.min(total, offStructure + sizeStructure) : total;
  const root = readNodes(new Reader(blob, offStructure, end), strings);
  return { root, reservations, bootCpu };
}

interface Strings {
  readonly blob: Uint8Array;
  readonly from: number;
  readonly to: number;
}

/** Reads the structure block; a loop, since the depth is the blob's to choose. */
function readNodes(r: Reader, strings: Strings): FdtNode {
  const open: FdtNode[] = [];
  let root: FdtNode | undefined;
  for (;;) {
    const at = r.at;
    const token = r.u32();
    const node = open.at(-1);
    if (token === F.FDT_NOP) continue;
    if (token === F.FDT_BEGIN_NODE) {
      const name = r.string();
      r.align(4);
      if (!node && (root || name !== '')) bad('not one root with an empty name', at);
      const child = node ? node.child(name) : new FdtNode();
      root ??= child;
      open.push(child);
    } else if (token === F.FDT_END_NODE && node) {
      open.pop();
    } else if (token === F.FDT_PROP && node) {
      const length = r.u32();
      const name = new Reader(strings.blob, strings.from + r.u32(), strings.to).string();
      node.bytes(name, r.bytes(length));
      r.align(4);
    } else if (token === F.FDT_END && root && !node) {
      return root;
    } else bad(`token ${token} out of place`, at);
  }
}

/** Big-endian numbers and strings out of a part of the blob. */
class Reader {
  at: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #end: number;

  constructor(bytes: Uint8Array, from: number, end: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = from;
    this.#end = end;
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  bytes(length: number): Uint8Array {
    const from = this.#advance(length);
    return this.#bytes.subarray(from, from + length);
  }

  string(): string {
    const zero = this.at < this.#end ? this.#bytes.indexOf(0, this.at) : -1;
    if (zero < 0 || zero >= this.#end) bad('string without end', this.at);
    const text = new TextDecoder().decode(this.#bytes.subarray(this.at, zero));
    this.at = zero + 1;
    return text;
  }

  align(to: number): void {
    this.at += (to - (this.at % to)) % to;
  }

  #advance(n: number): number {
    const from = this.at;
    if (from + n > this.#end) bad('ends too early', from);
    this.at = from + n;
    return from;
  }
}

function bad(what: string, offset: number): never {
  throw new VmError('ERR_INTERNAL', `device tree blob: ${what} (offset ${offset})`);
}
