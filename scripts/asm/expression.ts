import { AsmError, type TokenReader } from './tokens.ts';

/** What names and labels mean where an expression is evaluated. */
export interface Scope {
  readonly line: number;
  /** Value of `.`: the address of the statement. */
  readonly here: bigint;
  symbol(name: string): bigint | undefined;
  /** Address of the nearest local label of this number, backwards or forwards. */
  local(number: string, forward: boolean): bigint | undefined;
}

/** An expression that is evaluated once all labels are known. */
export type Expression = (scope: Scope) => bigint;

type Operator = (a: bigint, b: bigint) => bigint;

// GNU as: multiplication and shifts bind strongest, then the bitwise operators, then addition.
const LEVELS: readonly Readonly<Record<string, Operator>>[] = [
  { '+': (a, b) => a + b, '-': (a, b) => a - b },
  { '|': (a, b) => a | b, '&': (a, b) => a & b, '^': (a, b) => a ^ b },
  {
    '*': (a, b) => a * b,
    '/': (a, b) => a / nonZero(b),
    '%': (a, b) => a % nonZero(b),
    '<<': (a, b) => a << b,
    '>>': (a, b) => a >> b,
  },
];

function nonZero(n: bigint): bigint {
  if (n === 0n) throw new RangeError('division by zero');
  return n;
}

/** Parses an expression: numbers, names, `.`, `1b`, `1f`, `:lo12:`, parentheses, and operators with GNU as's precedence. */
export function parseExpression(r: TokenReader, level = 0): Expression {
  const operators = LEVELS[level];
  if (operators === undefined) return parseUnary(r);
  let left = parseExpression(r, level + 1);
  for (;;) {
    const token = r.peek();
    const operator = token?.kind === 'punct' ? operators[token.text] : undefined;
    if (operator === undefined) return left;
    r.next();
    const a = left;
    const b = parseExpression(r, level + 1);
    left = scope => {
      try {
        return operator(a(scope), b(scope));
      } catch (e) {
        if (e instanceof RangeError) throw new AsmError(scope.line, e.message);
        throw e;
      }
    };
  }
}

function parseUnary(r: TokenReader): Expression {
  if (r.accept('-')) return negated(parseUnary(r));
  if (r.accept('+')) return parseUnary(r);
  if (r.accept('~')) {
    const a = parseUnary(r);
    return scope => ~a(scope);
  }
  if (r.accept('(')) {
    const inner = parseExpression(r);
    r.expect(')');
    return inner;
  }
  if (r.accept(':')) {
    const modifier = r.next().text;
    r.expect(':');
    if (modifier !== 'lo12') throw r.error(`unknown relocation :${modifier}:`);
    const a = parseExpression(r);
    return scope => a(scope) & 0xfffn;
  }
  const token = r.next();
  switch (token.kind) {
    case 'number':
      return () => token.value;
    case 'local': {
      const number = token.text.slice(0, -1);
      const forward = token.text.endsWith('f');
      return scope => known(scope, scope.local(number, forward), token.text);
    }
    case 'name':
      if (token.text === '.') return scope => scope.here;
      return scope => known(scope, scope.symbol(token.text), token.text);
    default:
      throw r.error(`expected a value, not '${token.text}'`);
  }
}

function negated(a: Expression): Expression {
  return scope => -a(scope);
}

function known(scope: Scope, value: bigint | undefined, name: string): bigint {
  if (value === undefined) throw new AsmError(scope.line, `'${name}' is not defined`);
  return value;
}
