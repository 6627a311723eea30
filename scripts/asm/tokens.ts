/** An error in assembler source, with the line it is on (counted from 1). */
export class AsmError extends Error {
  readonly line: number;
  readonly reason: string;

  constructor(line: number, reason: string) {
    super(`line ${line}: ${reason}`);
    this.line = line;
    this.reason = reason;
  }
}

/** A piece of a source line. `text` is as written; `value` is a number's. */
export interface Token {
  readonly kind: 'number' | 'name' | 'string' | 'local' | 'punct';
  readonly text: string;
  readonly value: bigint;
}

// In this order: a local label's reference (1b, 1f) looks like a number, 0b101 like such a reference.
const PATTERNS: readonly (readonly [Token['kind'] | 'space', RegExp])[] = [
  ['space', /\s+/y],
  ['number', /0[xX][0-9a-fA-F]+|0[bB][01]+/y],
  ['local', /\d+[bf](?![\w.])/y],
  ['number', /\d+(\.\d+)?([eE][+-]?\d+)?/y],
  ['name', /[A-Za-z_.$][\w.$]*/y],
  ['string', /"(?:\\.|[^"\\])*"/y],
  ['number', /'(?:\\.|[^'\\])'?/y],
  ['punct', /<<|>>|[-+*/%&|^~()[\]{},:=#!]/y],
];

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', 0: '\0', e: '\x1b' };

/** Splits a statement into tokens. */
export function tokenize(text: string, line: number): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  outer: while (at < text.length) {
    for (const [kind, pattern] of PATTERNS) {
      pattern.lastIndex = at;
      const found = pattern.exec(text)?.[0];
      if (found === undefined) continue;
      at += found.length;
      if (kind !== 'space') tokens.push({ kind, text: found, value: kind === 'number' ? numberOf(found) : 0n });
      continue outer;
    }
    throw new AsmError(line, `unexpected character ${JSON.stringify(text[at])}`);
  }
  return tokens;
}

function numberOf(text: string): bigint {
  if (text.startsWith("'")) {
    const c = text.slice(1).replace(/(?<=.)'$/s, '');
    return BigInt(unescaped(c).charCodeAt(0));
  }
  // A floating-point constant has no integer value; those who take one read the text.
  return /^\d+[.eE]/.test(text) ? 0n : BigInt(text);
}

/** The characters that a string token stands for. */
export function stringOf(token: Token): string {
  return unescaped(token.text.slice(1, -1));
}

function unescaped(text: string): string {
  return text.replace(/\\(x[0-9a-fA-F]{1,2}|.)/gs, (_, e: string) =>
    e.length > 1 ? String.fromCharCode(Number.parseInt(e.slice(1), 16)) : (ESCAPES[e] ?? e),
  );
}

/** Reads tokens from left to right. */
export class TokenReader {
  readonly line: number;
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[], line: number) {
    this.#tokens = tokens;
    this.line = line;
  }

  get done(): boolean {
    return this.#at >= this.#tokens.length;
  }

  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#at + ahead];
  }

  next(): Token {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw this.error('something is missing at the end');
    return token;
  }

  /** Takes the next token if it is this punctuation. */
  accept(punct: string): boolean {
    const token = this.peek();
    if (token?.kind !== 'punct' || token.text !== punct) return false;
    this.#at++;
    return true;
  }

  expect(punct: string): void {
    if (!this.accept(punct)) throw this.error(`expected '${punct}' before '${this.peek()?.text ?? 'the end'}'`);
  }

  error(reason: string): AsmError {
    return new AsmError(this.line, reason);
  }
}
