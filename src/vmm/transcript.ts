import { VmError } from '../util/errors.ts';

/** What {@link VmConsole.waitFor} found. */
export interface ConsoleMatch {
  /** The matched text; for a regular expression its groups are in `groups` and `captures`. */
  readonly text: string;
  /** Console output between the previous match (or the start) and this one. */
  readonly before: string;
  /** Capture groups 1..n of a regular expression. */
  readonly captures: readonly (string | undefined)[];
  /** Named groups of a regular expression. */
  readonly groups: Readonly<Record<string, string | undefined>>;
}

interface Waiter {
  readonly pattern: string | RegExp;
  /** Position of the first character this waiter may see. */
  readonly from: number;
  resolve(m: ConsoleMatch): void;
  reject(e: Error): void;
}

/** A match may not be longer than this, so that a chatty guest does not make each search longer than the last. */
export const LONGEST_MATCH = 64 * 1024;
/** Characters kept; the oldest go first. */
const KEEP = 4 * 1024 * 1024;

/**
 * The console's output as text, and those who wait for something in it. Positions count UTF-16 units from the first
 * byte the guest ever wrote, so output that was printed before a wait began is found as well.
 */
export class Transcript {
  #text = '';
  /** Position of #text[0]. */
  #base = 0;
  /** End of the last match; the next wait starts here. */
  #cursor = 0;
  readonly #decoder = new TextDecoder('utf-8');
  readonly #waiters = new Set<Waiter>();
  #ended: VmError | undefined;

  get waiting(): boolean {
    return this.#waiters.size > 0;
  }

  /** Everything that is kept, from oldest to newest. */
  get text(): string {
    return this.#text;
  }

  /** Adds console output and serves those who wait for it. Characters may be cut anywhere between calls. */
  append(bytes: Uint8Array): void {
    const end = this.#base + this.#text.length;
    this.#text += this.#decoder.decode(bytes, { stream: true });
    for (const w of this.#waiters) this.#try(w, Math.max(w.from, end - LONGEST_MATCH));
    // Trims in large steps: each one copies what is kept.
    if (this.#text.length > 2 * KEEP) {
      const cut = this.#text.length - KEEP;
      this.#text = this.#text.slice(cut);
      this.#base += cut;
    }
  }

  /** No more output will come: waits that are pending, and later ones that do not match, fail with `error`. */
  end(error: VmError): void {
    this.#ended = error;
    for (const w of [...this.#waiters]) this.#fail(w, this.#explain(error, w.pattern));
  }

  /** Resolves with the first match after the previous one. The caller cancels through the returned function. */
  wait(pattern: string | RegExp): { readonly match: Promise<ConsoleMatch>; cancel(e: Error): void } {
    let waiter!: Waiter;
    const match = new Promise<ConsoleMatch>((resolve, reject) => {
      waiter = {
        // A copy: 'g' and 'y' keep state in lastIndex, and 'y' would match at one place only.
        pattern:
          typeof pattern === 'string' ? pattern : new RegExp(pattern.source, `${pattern.flags.replace(/[gy]/g, '')}g`),
        from: this.#cursor,
        resolve,
        reject,
      };
    });
    this.#waiters.add(waiter);
    this.#try(waiter, waiter.from);
    if (this.#ended !== undefined && this.#waiters.has(waiter)) {
      this.#fail(waiter, this.#explain(this.#ended, waiter.pattern));
    }
    return { match, cancel: e => this.#fail(waiter, e) };
  }

  /** The last `n` lines that are not empty, for error messages. */
  lastLines(n: number): string[] {
    const lines = this.#text.slice(-LONGEST_MATCH).split(/[\r\n]+/);
    return lines.filter(l => l.trim() !== '').slice(-n);
  }

  timeoutError(pattern: string | RegExp, ms: number): VmError {
    const lines = this.lastLines(10);
    return new VmError('ERR_TIMEOUT', `the console did not show ${show(pattern)} within ${ms} ms${tail(lines)}`, {
      hint: 'give it a longer timeout, or look at the last lines above for what the guest is doing',
      details: { pattern: String(pattern), timeoutMs: ms, lastLines: lines },
    });
  }

  #explain(error: VmError, pattern: string | RegExp): VmError {
    const lines = this.lastLines(10);
    return new VmError(error.code, `${error.message} before the console showed ${show(pattern)}${tail(lines)}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
      details: { ...error.details, pattern: String(pattern), lastLines: lines },
    });
  }

  #fail(w: Waiter, e: Error): void {
    if (this.#waiters.delete(w)) w.reject(e);
  }

  #try(w: Waiter, from: number): void {
    const start = Math.max(from - this.#base, 0);
    let index: number;
    let text: string;
    let m: RegExpExecArray | null = null;
    if (typeof w.pattern === 'string') {
      index = this.#text.indexOf(w.pattern, start);
      text = w.pattern;
    } else {
      w.pattern.lastIndex = start;
      m = w.pattern.exec(this.#text);
      index = m?.index ?? -1;
      text = m?.[0] ?? '';
    }
    if (index < 0) return;
    const before = this.#text.slice(Math.max(w.from - this.#base, 0), index);
    this.#cursor = Math.max(this.#cursor, this.#base + index + text.length);
    this.#waiters.delete(w);
    w.resolve({ text, before, captures: m?.slice(1) ?? [], groups: m?.groups ?? {} });
  }
}

function show(pattern: string | RegExp): string {
  // The copy that a waiter holds has gained a 'g'.
  return typeof pattern === 'string' ? JSON.stringify(pattern) : `/${pattern.source}/${pattern.flags.replace('g', '')}`;
}

function tail(lines: readonly string[]): string {
  return lines.length === 0
    ? '; it has printed nothing'
    : `; its last lines:\n${lines.map(l => `    ${l}`).join('\n')}`;
}
