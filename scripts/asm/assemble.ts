import { branch } from './branch.ts';
import { type Encoders, Instruction } from './context.ts';
import { type Expression, parseExpression, type Scope } from './expression.ts';
import { fp, vectors } from './fp.ts';
import { integer } from './integer.ts';
import { memory } from './memory.ts';
import { type Operand, parseOperands } from './operands.ts';
import { system } from './system.ts';
import { AsmError, stringOf, TokenReader, tokenize } from './tokens.ts';

export { AsmError } from './tokens.ts';

/** What {@link assemble} makes. */
export interface Assembled {
  /** Address of the first byte. */
  readonly base: bigint;
  readonly bytes: Uint8Array;
  /** Addresses of labels and values of `.equ`. */
  readonly symbols: ReadonlyMap<string, bigint>;
}

/** Options of {@link assemble}. */
export interface AssembleOptions {
  /** Address of the first byte; default 0. */
  readonly base?: bigint;
  /** Values of further names. */
  readonly define?: Readonly<Record<string, bigint | number>>;
}

const ENCODERS: Encoders = Object.assign(Object.create(null), fp, branch, memory, system, integer);
/** Directives that say nothing to an assembler with one section and no linker. */
const IGNORED = ['.text', '.global', '.globl', '.type', '.size', '.arch', '.cpu', '.section', '.file', '.ident'];
const DATA: Readonly<Record<string, number>> = {
  '.byte': 1,
  '.hword': 2,
  '.short': 2,
  '.2byte': 2,
  '.word': 4,
  '.long': 4,
  '.int': 4,
  '.4byte': 4,
  '.quad': 8,
  '.xword': 8,
  '.8byte': 8,
  '.dword': 8,
};

const NOP = 0xd503201fn;

/** A constant that `ldr =` waits for. */
interface PoolEntry {
  readonly key: string;
  readonly size: 4 | 8;
  readonly value: Expression;
  readonly line: number;
  at: number | undefined;
}

/**
 * Assembles A64 source in the syntax of GNU as: one section, labels and local labels (`1:`, `1b`), instructions, and the
 * directives .align/.balign/.p2align, .byte to .quad, .ascii/.asciz, .skip/.space/.zero, .org, .equ/.set, .rept, .ltorg.
 *
 * @throws AsmError with the line of the first thing that is wrong.
 */
export function assemble(source: string, options: AssembleOptions = {}): Assembled {
  return new Assembler(options).assemble(source);
}

/** A statement with the number of its line. */
interface Statement {
  readonly line: number;
  readonly text: string;
}

class Assembler {
  readonly #base: bigint;
  readonly #symbols = new Map<string, bigint>();
  /** Assigned by .equ once all labels are known, when it needs one that comes later. */
  readonly #deferred = new Map<string, Expression>();
  readonly #locals = new Map<string, number[]>();
  /** Write what has been reserved, once all labels are known. */
  readonly #emitters: (() => void)[] = [];
  #pool: PoolEntry[] = [];
  #at = 0;
  #bytes = new Uint8Array(0);

  constructor(options: AssembleOptions) {
    this.#base = options.base ?? 0n;
    for (const [name, value] of Object.entries(options.define ?? {})) this.#symbols.set(name, BigInt(value));
  }

  assemble(source: string): Assembled {
    const statements = split(source);
    for (const s of repeat(statements, s => this.#constant(s))) this.#statement(s);
    this.#flushPool();
    this.#bytes = new Uint8Array(this.#at);
    for (const emit of this.#emitters) emit();
    for (const name of this.#deferred.keys()) this.#symbols.set(name, this.#symbol(name)!);
    return { base: this.#base, bytes: this.#bytes, symbols: this.#symbols };
  }

  #statement({ line, text }: Statement): void {
    let rest = text;
    for (;;) {
      const label = /^\s*([A-Za-z_.$][\w.$]*|\d+)\s*:/.exec(rest);
      if (label === null) break;
      this.#label(label[1]!, line);
      rest = rest.slice(label[0].length);
    }
    rest = rest.trim();
    if (rest === '') return;
    const assignment = /^([A-Za-z_$][\w.$]*)\s*=(?!=)(.*)$/.exec(rest);
    if (assignment !== null) {
      this.#equ(assignment[1]!, new TokenReader(tokenize(assignment[2]!, line), line));
      return;
    }
    const [, word = '', operands = ''] = /^(\S+)\s*(.*)$/s.exec(rest) ?? [];
    const r = new TokenReader(tokenize(operands, line), line);
    if (word.startsWith('.')) this.#directive(word.toLowerCase(), r);
    else this.#instruction(word.toLowerCase(), r);
    if (!r.done) throw r.error(`'${r.peek()?.text}' is too much`);
  }

  #label(name: string, line: number): void {
    if (/^\d/.test(name)) {
      const places = this.#locals.get(name) ?? [];
      places.push(this.#at);
      this.#locals.set(name, places);
      return;
    }
    this.#define(name, line);
    this.#symbols.set(name, this.#base + BigInt(this.#at));
  }

  #define(name: string, line: number): void {
    if (this.#symbols.has(name) || this.#deferred.has(name)) throw new AsmError(line, `'${name}' is defined twice`);
  }

  #instruction(mnemonic: string, r: TokenReader): void {
    const operands = parseOperands(r);
    const encoder =
      (operands.some(isVector) ? vectors[mnemonic] : undefined) ?? ENCODERS[mnemonic] ?? vectors[mnemonic];
    if (encoder === undefined) throw r.error(`unknown instruction '${mnemonic}'`);
    if (this.#at % 4 !== 0) throw r.error('instructions must be aligned to 4 bytes');
    const at = this.#at;
    const entry = this.#literal(mnemonic, operands, r);
    this.#reserve(4, () => {
      const literal = entry?.at === undefined ? undefined : this.#base + BigInt(entry.at);
      this.#store(at, 4, BigInt(encoder(new Instruction(mnemonic, operands, this.#scope(r.line, at), literal))));
    });
  }

  /** Puts the constant of `ldr =` into the pool, once for all that ask for the same. */
  #literal(mnemonic: string, operands: readonly Operand[], r: TokenReader): PoolEntry | undefined {
    const [register, literal] = operands;
    if (literal?.kind !== 'literal') return undefined;
    if (mnemonic !== 'ldr' || register?.kind !== 'register') throw r.error("only ldr can load a constant with '='");
    const size = register.cls === 'w' || register.cls === 's' ? 4 : 8;
    const scope = this.#scope(r.line, this.#at);
    let key = `line ${r.line} ${this.#at}`;
    try {
      key = `${literal.value(scope)}`;
    } catch {
      // A label that comes later: an entry of its own.
    }
    const found = this.#pool.find(e => e.key === key && e.size === size);
    if (found !== undefined) return found;
    const entry: PoolEntry = { key, size, value: literal.value, line: r.line, at: undefined };
    this.#pool.push(entry);
    return entry;
  }

  #flushPool(): void {
    for (const entry of this.#pool.sort((a, b) => a.size - b.size)) {
      this.#align(entry.size, 0);
      const at = this.#at;
      entry.at = at;
      this.#reserve(entry.size, () => this.#store(at, entry.size, entry.value(this.#scope(entry.line, at))));
    }
    this.#pool = [];
  }

  #directive(name: string, r: TokenReader): void {
    const size = DATA[name];
    if (size !== undefined) {
      do this.#data(size, r);
      while (r.accept(','));
      return;
    }
    switch (name) {
      case '.align':
      case '.p2align':
        this.#align(2 ** this.#count(r, 16), r.accept(',') ? this.#count(r, 255) : undefined);
        return;
      case '.balign':
        this.#align(this.#count(r, 65536), r.accept(',') ? this.#count(r, 255) : undefined);
        return;
      case '.ascii':
      case '.asciz':
      case '.string':
        do this.#text(r, name !== '.ascii');
        while (r.accept(','));
        return;
      case '.skip':
      case '.space':
      case '.zero': {
        const n = this.#count(r);
        this.#fill(n, r.accept(',') ? this.#count(r, 255) : 0);
        return;
      }
      case '.org': {
        const to = this.#count(r);
        if (to < this.#at) throw r.error(`.org cannot go back from ${this.#at} to ${to}`);
        this.#fill(to - this.#at, 0);
        return;
      }
      case '.equ':
      case '.set': {
        const token = r.next();
        if (token.kind !== 'name') throw r.error(`'${token.text}' is no name`);
        r.expect(',');
        this.#equ(token.text, r);
        return;
      }
      case '.ltorg':
      case '.pool':
        this.#flushPool();
        return;
      default:
        if (!IGNORED.includes(name)) throw r.error(`unknown directive '${name}'`);
        while (!r.done) r.next();
    }
  }

  #equ(name: string, r: TokenReader): void {
    const value = parseExpression(r);
    const scope = this.#scope(r.line, this.#at);
    try {
      const now = value(scope);
      if (this.#deferred.has(name)) throw r.error(`'${name}' is defined twice`);
      this.#symbols.set(name, now);
    } catch (e) {
      if (!(e instanceof AsmError)) throw e;
      this.#define(name, r.line);
      this.#deferred.set(name, () => value(scope));
    }
  }

  #data(size: number, r: TokenReader): void {
    const value = parseExpression(r);
    const at = this.#at;
    this.#reserve(size, () => {
      const v = value(this.#scope(r.line, at));
      const limit = 1n << BigInt(8 * size);
      if (v >= limit || v < -limit / 2n) throw r.error(`${v} does not fit into ${size} bytes`);
      this.#store(at, size, v);
    });
  }

  #text(r: TokenReader, zero: boolean): void {
    const token = r.next();
    if (token.kind !== 'string') throw r.error(`expected a string, not '${token.text}'`);
    const bytes = new TextEncoder().encode(stringOf(token) + (zero ? '\0' : ''));
    const at = this.#at;
    this.#reserve(bytes.length, () => this.#bytes.set(bytes, at));
  }

  /** Without a value to fill with, whole words are NOPs: the place may be run through. */
  #align(to: number, value?: number): void {
    const count = to > 0 ? (to - (this.#at % to)) % to : 0;
    this.#fill(value === undefined ? count % 4 : count, value ?? 0);
    for (let left = value === undefined ? count : 0; left >= 4; left -= 4) {
      const at = this.#at;
      this.#reserve(4, () => this.#store(at, 4, NOP));
    }
  }

  #fill(count: number, value: number): void {
    const at = this.#at;
    this.#reserve(count, () => this.#bytes.fill(value, at, at + count));
  }

  /** A number that must be known at once, since what follows depends on it. */
  #count(r: TokenReader, most = 2 ** 28): number {
    const v = parseExpression(r)(this.#scope(r.line, this.#at));
    if (v < 0n || v > BigInt(most)) throw r.error(`${v} is not in 0 to ${most}`);
    return Number(v);
  }

  #constant(s: Statement): number {
    return this.#count(new TokenReader(tokenize(s.text, s.line), s.line), 65536);
  }

  #reserve(size: number, emit: () => void): void {
    this.#emitters.push(emit);
    this.#at += size;
  }

  #store(at: number, size: number, value: bigint): void {
    for (let i = 0; i < size; i++) this.#bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }

  #symbol(name: string): bigint | undefined {
    return this.#symbols.get(name) ?? this.#deferred.get(name)?.(this.#scope(0, 0));
  }

  #scope(line: number, at: number): Scope {
    return {
      line,
      here: this.#base + BigInt(at),
      symbol: name => this.#symbol(name),
      local: (number, forward) => {
        const places = this.#locals.get(number) ?? [];
        const place = forward ? places.find(p => p > at) : places.findLast(p => p <= at);
        return place === undefined ? undefined : this.#base + BigInt(place);
      },
    };
  }
}

function isVector(o: Operand): boolean {
  return o.kind === 'list' || (o.kind === 'register' && o.cls === 'v');
}

/** Removes comments and splits lines at semicolons. */
function split(source: string): Statement[] {
  const statements: Statement[] = [];
  // Comments become blanks, strings stay whole, line ends keep their number.
  const clean = source.replace(/"(?:\\.|[^"\\\n])*"|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, m =>
    m.startsWith('"') ? m : m.replace(/[^\n]/g, ' '),
  );
  for (const [n, line] of clean.split('\n').entries()) {
    if (/^\s*#/.test(line)) continue;
    for (const text of line.match(/(?:"(?:\\.|[^"\\])*"|[^;"])+/g) ?? []) {
      if (text.trim() !== '') statements.push({ line: n + 1, text });
    }
  }
  return statements;
}

/** Writes out what stands between .rept and .endr. */
function* repeat(statements: readonly Statement[], count: (s: Statement) => number): Generator<Statement> {
  for (let i = 0; i < statements.length; i++) {
    const s = statements[i]!;
    const m = /^\s*\.rept\s+(.*)$/i.exec(s.text);
    if (m === null) {
      if (/^\s*\.endr\b/i.test(s.text)) throw new AsmError(s.line, '.endr without .rept');
      yield s;
      continue;
    }
    let depth = 1;
    const start = ++i;
    for (; i < statements.length; i++) {
      if (/^\s*\.rept\b/i.test(statements[i]!.text)) depth++;
      if (/^\s*\.endr\b/i.test(statements[i]!.text) && --depth === 0) break;
    }
    if (depth > 0) throw new AsmError(s.line, '.rept without .endr');
    const body = statements.slice(start, i);
    for (let n = count({ line: s.line, text: m[1]! }); n > 0; n--) yield* repeat(body, count);
  }
}
