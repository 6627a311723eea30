import { VmError } from '../../util/errors.ts';

/** One 32-bit cell; a node stands for its phandle, which it gets when it is first referred to. */
export type Cell = number | FdtNode;

/** A property's value: raw bytes, or cells that may refer to nodes. */
export type FdtValue = Uint8Array | readonly Cell[];

// Devicetree Specification v0.4, section 2.2.1 and table 2.5. The specification limits names to 31 characters,
// but dtc, libfdt and Linux have long taken longer ones.
const NODE_NAME = /^[0-9a-zA-Z,._+-]+(@[0-9a-zA-Z,._+-]+)?$/;
const PROPERTY_NAME = /^[0-9a-zA-Z,._+?#-]+$/;

/**
 * A node of a device tree in the making (Devicetree Specification v0.4). Properties and children keep the order in which
 * they were added; setting a property again replaces its value. Every property method returns the node itself.
 *
 * Bad names, numbers out of range and a child's name given twice throw VmError ERR_INTERNAL: trees are built by programs.
 */
export class FdtNode {
  readonly name: string;
  readonly #properties = new Map<string, FdtValue>();
  readonly #children: FdtNode[] = [];

  /** `name` with its unit address, if it has one: 'cpu@0'. The root's name is empty. */
  constructor(name = '') {
    this.name = name;
  }

  get properties(): ReadonlyMap<string, FdtValue> {
    return this.#properties;
  }

  get children(): readonly FdtNode[] {
    return this.#children;
  }

  /** Adds a child and returns it. */
  child(name: string): FdtNode {
    check(NODE_NAME.test(name), `bad node name '${name}'`);
    check(!this.#children.some(c => c.name === name), `node '${this.name}' has two children '${name}'`);
    const node = new FdtNode(name);
    this.#children.push(node);
    return node;
  }

  /** A property whose presence is its meaning. */
  empty(name: string): this {
    return this.bytes(name, new Uint8Array(0));
  }

  /** <prop-encoded-array> of 32-bit cells: numbers 0..2^32-1, or nodes for their phandles. */
  u32(name: string, ...cells: Cell[]): this {
    for (const c of cells) check(typeof c !== 'number' || isU32(c), `${name}: ${c} is no 32-bit cell`);
    return this.#set(name, cells);
  }

  /** 64-bit numbers, two cells each with the high one first, as #address-cells = <2> wants. */
  u64(name: string, ...values: (number | bigint)[]): this {
    const cells = values.flatMap(v => {
      check(typeof v === 'bigint' || Number.isSafeInteger(v), `${name}: ${v} is no integer`);
      const value = BigInt(v);
      check(value >= 0n && value < 1n << 64n, `${name}: ${v} is no 64-bit number`);
      return [Number(value >> 32n), Number(value & 0xffff_ffffn)];
    });
    return this.#set(name, cells);
  }

  /** <string>, or <stringlist> when there are several. UTF-8, each with a zero byte behind it. */
  string(name: string, ...values: string[]): this {
    for (const v of values) check(!v.includes('\0'), `${name}: zero byte in a string`);
    return this.bytes(name, new TextEncoder().encode(values.map(v => `${v}\0`).join('')));
  }

  /** Bytes as they are; they are copied. */
  bytes(name: string, value: Uint8Array): this {
    return this.#set(name, new Uint8Array(value)); // slice() of a Buffer would share them
  }

  #set(name: string, value: FdtValue): this {
    check(PROPERTY_NAME.test(name), `bad property name '${name}'`);
    this.#properties.set(name, value);
    return this;
  }
}

function isU32(v: number): boolean {
  return Number.isInteger(v) && v >= 0 && v <= 0xffff_ffff;
}

function check(ok: boolean, message: string): void {
  if (!ok) throw new VmError('ERR_INTERNAL', `device tree: ${message}`);
}
