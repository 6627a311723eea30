import { VmError } from '../../util/errors.ts';
import * as F from './format.ts';
import type { Cell, FdtNode, FdtValue } from './node.ts';

/** What a device tree blob holds beside the tree. */
export interface FdtOptions {
  /** The memory reservation block. */
  readonly reservations?: readonly F.Reservation[];
  /** Physical id of the boot CPU: the `reg` of its cpu node. */
  readonly bootCpu?: number;
}

/**
 * Flattens a tree into a device tree blob, version 17 (Devicetree Specification v0.4 chapter 5). Nodes that others refer
 * to get phandles 1, 2, ... in the order of the blob, unless they have a `phandle` property already.
 *
 * @throws VmError ERR_INTERNAL for a reference to a node outside of the tree.
 */
export function encodeFdt(root: FdtNode, options: FdtOptions = {}): Uint8Array {
  const phandles = assignPhandles(root);
  const structure = new Writer();
  const strings = new StringTable();

  const property = (name: string, value: Uint8Array) => {
    structure.u32(F.FDT_PROP);
    structure.u32(value.length);
    structure.u32(strings.offsetOf(name));
    structure.bytes(value);
    structure.align(4);
  };
  const node = (n: FdtNode) => {
    structure.u32(F.FDT_BEGIN_NODE);
    structure.string(n.name);
    structure.align(4);
    for (const [name, value] of n.properties) property(name, toBytes(value, phandles));
    const phandle = phandles.get(n);
    if (phandle !== undefined && !n.properties.has('phandle')) property('phandle', cellBytes([phandle], phandles));
    for (const c of n.children) node(c);
    structure.u32(F.FDT_END_NODE);
  };
  node(root);
  structure.u32(F.FDT_END);

  return assemble(structure.take(), strings.bytes.take(), options);
}

function assemble(structure: Uint8Array, strings: Uint8Array, options: FdtOptions): Uint8Array {
  const reservations = options.reservations ?? [];
  // Section 5.1: the reservation block is 8-byte aligned, as the end of the header is; its end suits the structure block.
  const offReservations = F.HEADER_SIZE;
  const offStructure = offReservations + 16 * (reservations.length + 1);
  const offStrings = offStructure + structure.length;
  const total = (offStrings + strings.length + 7) & ~7;

  const out = new Writer();
  for (const field of [
    F.FDT_MAGIC,
    total,
    offStructure,
    offStrings,
    offReservations,
    F.FDT_VERSION,
    F.FDT_LAST_COMP_VERSION,
    options.bootCpu ?? 0,
    strings.length,
    structure.length,
  ]) {
    out.u32(field);
  }
  for (const r of [...reservations, { address: 0n, size: 0n }]) {
    out.u64(r.address);
    out.u64(r.size);
  }
  out.bytes(structure);
  out.bytes(strings);
  out.align(8);
  return out.take();
}

/** The phandle of every node that has one or that a cell refers to. */
function assignPhandles(root: FdtNode): ReadonlyMap<FdtNode, number> {
  const nodes = [...walk(root)];
  const phandles = new Map<FdtNode, number>();
  const referred = new Set<Cell>();
  for (const n of nodes) {
    for (const [name, value] of n.properties) {
      if (value instanceof Uint8Array) continue;
      const [first] = value;
      if (name === 'phandle' && typeof first === 'number') phandles.set(n, first);
      for (const cell of value) referred.add(cell);
    }
  }
  const taken = new Set(phandles.values());
  let next = 1;
  for (const n of nodes) {
    if (!referred.has(n) || phandles.has(n)) continue;
    while (taken.has(next)) next++;
    phandles.set(n, next++);
  }
  return phandles;
}

function* walk(n: FdtNode): Generator<FdtNode> {
  yield n;
  for (const c of n.children) yield* walk(c);
}

function toBytes(value: FdtValue, phandles: ReadonlyMap<FdtNode, number>): Uint8Array {
  return value instanceof Uint8Array ? value : cellBytes(value, phandles);
}

function cellBytes(cells: readonly Cell[], phandles: ReadonlyMap<FdtNode, number>): Uint8Array {
  const out = new Writer();
  for (const c of cells) {
    const value = typeof c === 'number' ? c : phandles.get(c);
    if (value === undefined) {
      throw new VmError('ERR_INTERNAL', `device tree: reference to a node '${(c as FdtNode).name}' of another tree`);
    }
    out.u32(value);
  }
  return out.take();
}

/** The strings block: every property name once. */
class StringTable {
  readonly bytes = new Writer();
  readonly #offsets = new Map<string, number>();

  offsetOf(s: string): number {
    let offset = this.#offsets.get(s);
    if (offset === undefined) {
      offset = this.bytes.length;
      this.bytes.string(s);
      this.#offsets.set(s, offset);
    }
    return offset;
  }
}

/** A growing array of bytes with big-endian numbers. */
class Writer {
  #bytes = new Uint8Array(256);
  length = 0;

  u32(v: number): void {
    this.#grow(4).setUint32(0, v);
  }

  u64(v: bigint): void {
    this.#grow(8).setBigUint64(0, v);
  }

  bytes(b: Uint8Array): void {
    const at = this.length;
    this.#grow(b.length);
    this.#bytes.set(b, at);
  }

  /** UTF-8 and a zero byte. */
  string(s: string): void {
    this.bytes(new TextEncoder().encode(`${s}\0`));
  }

  align(to: number): void {
    this.#grow((to - (this.length % to)) % to);
  }

  take(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }

  /** Appends `n` zero bytes and returns a view of them. */
  #grow(n: number): DataView {
    const at = this.length;
    this.length += n;
    if (this.length > this.#bytes.length) {
      const old = this.#bytes;
      this.#bytes = new Uint8Array(Math.max(2 * old.length, this.length));
      this.#bytes.set(old);
    }
    return new DataView(this.#bytes.buffer, at, n);
  }
}
