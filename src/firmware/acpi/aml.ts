import { ascii, check, concat, u8, u16, u32, u64 } from './bytes.ts';

/** One or more encoded terms of AML, the byte code of ACPI (ACPI 6.5, chapter 20). */
export type Aml = Uint8Array;

/** What a term takes as an operand: AML; a number stands for an integer, a string for a string (never for a name). */
export type Operand = Aml | number | bigint | string;

const PREFIX = { byte: 0x0a, word: 0x0b, dword: 0x0c, string: 0x0d, qword: 0x0e, ext: 0x5b } as const;

// Opcodes of section 20.3, table 20.2.
const OP = {
  zero: 0x00,
  one: 0x01,
  name: 0x08,
  scope: 0x10,
  buffer: 0x11,
  package: 0x12,
  method: 0x14,
  local0: 0x60,
  arg0: 0x68,
  store: 0x70,
  and: 0x7b,
  or: 0x7d,
  createDWordField: 0x8a,
  lNot: 0x92,
  lEqual: 0x93,
  if: 0xa0,
  else: 0xa1,
  return: 0xa4,
  /** Behind ExtOpPrefix. */
  device: 0x82,
} as const;

/** No target: the operator's result is its value only (SuperName's NullName, section 20.2.2). */
const NULL_TARGET = u8(0);

/**
 * A NameString (section 20.2.2): '_HID', '\\_SB.PCI0', '^^COM1', '\\'. Segments shorter than four characters are padded
 * with '_'.
 *
 * @throws VmError ERR_INTERNAL for what is no such path.
 */
export function nameString(path: string): Aml {
  const [, prefix, rest] = /^(\\|\^*)(.*)$/s.exec(path)!;
  const segments = rest === '' ? [] : rest!.split('.');
  for (const s of segments) check(/^[A-Z_][A-Z0-9_]{0,3}$/.test(s), `'${path}' is no name`);
  check(path !== '' && segments.length <= 255, `'${path}' is no name`);
  // NullName, NameSeg, DualNamePrefix, MultiNamePrefix.
  const count = [u8(0), u8(), u8(0x2e)][segments.length] ?? u8(0x2f, segments.length);
  return concat(ascii(prefix!), count, ...segments.map(s => ascii(s, 4, '_')));
}

/**
 * A PkgLength (section 20.2.4) for `length` bytes behind it: 1 to 4 bytes, which it counts itself as well.
 *
 * @throws VmError ERR_INTERNAL when the sum needs more than 28 bits.
 */
export function pkgLength(length: number): Aml {
  if (length + 1 < 1 << 6) return u8(length + 1);
  // The first byte has the number of those that follow in bits 7:6, and the low nibble; they have 8 bits each.
  const more = [1, 2, 3].find(n => length + 1 + n < 2 ** (4 + 8 * n));
  check(more !== undefined, `a package of ${length} bytes is too long`);
  const sum = length + 1 + more;
  return concat(u8((more << 6) | (sum & 0xf)), u32(sum >> 4).subarray(0, more));
}

/** An integer in the shortest form (section 20.2.3), 0 to 2^64-1; 64 bits need a definition block of revision 2. */
export function integer(value: number | bigint): Aml {
  if (value === 0 || value === 0n) return u8(OP.zero);
  if (value === 1 || value === 1n) return u8(OP.one);
  if (value < 2 ** 8) return u8(PREFIX.byte, Number(value));
  if (value < 2 ** 16) return concat(u8(PREFIX.word), u16(Number(value)));
  if (value < 2 ** 32) return concat(u8(PREFIX.dword), u32(Number(value)));
  return concat(u8(PREFIX.qword), u64(value));
}

/** DefBuffer (section 20.2.5.4) of exactly these bytes. */
export function buffer(bytes: Uint8Array): Aml {
  return sized(u8(OP.buffer), integer(bytes.length), bytes);
}

/** DefPackage (section 20.2.5.4) of at most 255 elements. */
export function packageOf(...elements: readonly Operand[]): Aml {
  return sized(u8(OP.package), u8(elements.length), ...elements.map(operand));
}

/**
 * The 32-bit integer that stands for an EISA id of three letters and four hexadecimal digits: 'PNP0A08' (ASL's EisaId,
 * section 19.6.36).
 */
export function eisaId(id: string): number {
  check(/^[A-Z]{3}[0-9A-F]{4}$/.test(id), `'${id}' is no EISA id`);
  const letters = [...id.slice(0, 3)].reduce((bits, c) => (bits << 5) | (c.charCodeAt(0) - 0x40), 0);
  const [a, b] = [letters, Number.parseInt(id.slice(3), 16)];
  // Both halves with their high byte first.
  return (((a >> 8) | ((a & 0xff) << 8)) + ((b >> 8) | ((b & 0xff) << 8)) * 2 ** 16) >>> 0;
}

/** The 16 bytes of a UUID, in the order of ASL's ToUUID (section 19.6.142): the first three fields have their low byte first. */
export function uuid(text: string): Uint8Array {
  const fields = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$/i.exec(text);
  check(fields !== null, `'${text}' is no UUID`);
  const [a, b, c, d, e] = fields.slice(1).map(f => f.match(/../g)!.map(h => Number.parseInt(h, 16)));
  return Uint8Array.from([...a!.reverse(), ...b!.reverse(), ...c!.reverse(), ...d!, ...e!]);
}

/** DefName (section 20.2.5.1): an object with a value. */
export function name(path: string, value: Operand): Aml {
  return concat(u8(OP.name), nameString(path), operand(value));
}

/** DefScope (section 20.2.5.1): what follows is inside of `path`, which exists. */
export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return sized(u8(OP.scope), nameString(path), ...terms);
}

/** DefDevice (section 20.2.5.2). */
export function device(path: string, ...terms: readonly Aml[]): Aml {
  return sized(u8(PREFIX.ext, OP.device), nameString(path), ...terms);
}

/**
 * DefMethod (section 20.2.5.2) with `args` arguments, 0 to 7. It is serialized: a method that makes names, fields among
 * them, has to be, or a second thread in it would make them twice.
 */
export function method(path: string, args: number, ...terms: readonly Aml[]): Aml {
  check(args >= 0 && args <= 7, `a method cannot have ${args} arguments`);
  return sized(u8(OP.method), nameString(path), u8(args | (1 << 3)), ...terms);
}

/** Argument `n` of the method, 0 to 6. */
export function arg(n: number): Aml {
  check(n >= 0 && n <= 6, `there is no argument ${n}`);
  return u8(OP.arg0 + n);
}

/** Local variable `n` of the method, 0 to 7. */
export function local(n: number): Aml {
  check(n >= 0 && n <= 7, `there is no local variable ${n}`);
  return u8(OP.local0 + n);
}

/** DefIfElse (section 20.2.5.3) without its other half. */
export function ifThen(condition: Operand, ...terms: readonly Aml[]): Aml {
  return sized(u8(OP.if), operand(condition), ...terms);
}

/** DefElse (section 20.2.5.3); only right behind {@link ifThen}. */
export function otherwise(...terms: readonly Aml[]): Aml {
  return sized(u8(OP.else), ...terms);
}

/** DefReturn (section 20.2.5.3). */
export function returns(value: Operand): Aml {
  return concat(u8(OP.return), operand(value));
}

/** DefStore (section 20.2.5.4): `value` into `target`. */
export function store(value: Operand, target: Aml): Aml {
  return concat(u8(OP.store), operand(value), target);
}

/** DefAnd (section 20.2.5.4): the bits of both; also stored in `target` if there is one. */
export function and(a: Operand, b: Operand, target: Aml = NULL_TARGET): Aml {
  return concat(u8(OP.and), operand(a), operand(b), target);
}

/** DefOr (section 20.2.5.4): the bits of either; also stored in `target` if there is one. */
export function or(a: Operand, b: Operand, target: Aml = NULL_TARGET): Aml {
  return concat(u8(OP.or), operand(a), operand(b), target);
}

/** DefLEqual (section 20.2.5.4); buffers and strings are compared by content. */
export function lEqual(a: Operand, b: Operand): Aml {
  return concat(u8(OP.lEqual), operand(a), operand(b));
}

/** DefLNot (section 20.2.5.4). */
export function lNot(a: Operand): Aml {
  return concat(u8(OP.lNot), operand(a));
}

/** DefCreateDWordField (section 20.2.5.2): the four bytes of a buffer at byte `index` get the name `path`. */
export function createDWordField(source: Aml, index: number, path: string): Aml {
  return concat(u8(OP.createDWordField), source, integer(index), nameString(path));
}

function operand(value: Operand): Aml {
  if (typeof value === 'string') return concat(u8(PREFIX.string), ascii(value), u8(0));
  return value instanceof Uint8Array ? value : integer(value);
}

/** A term whose opcode a PkgLength follows. */
function sized(opcode: Aml, ...parts: readonly Aml[]): Aml {
  const body = concat(...parts);
  return concat(opcode, pkgLength(body.length), body);
}
