import { VmError } from '../vmm/index.ts';
import { EXIT, exitCodeOfError } from './exit-codes.ts';

/** Where a verb writes what is not the guest's: people's lines, or JSON lines, on stderr. */
export class Output {
  readonly json: boolean;
  /** Bytes that the terminal needs before a line of ours, see terminal.ts. */
  prefix = '';

  constructor(json: boolean) {
    this.json = json;
  }

  /** Something that happened. People read `text`; JSON readers get `event` and `fields`. */
  event(event: string, fields: Readonly<Record<string, unknown>>, text: string | undefined): void {
    if (this.json) this.#line(JSON.stringify({ event, ...fields }));
    else if (text !== undefined) this.#line(text);
  }

  /** Reports an error and gives the exit code that belongs to it. */
  error(e: unknown): number {
    if (e instanceof VmError) {
      if (this.json) {
        const { code, message, hint, details } = e;
        this.#line(JSON.stringify({ event: 'error', code, message, hint, details }));
      } else {
        this.#line(`tsvisor: ${e.message}`);
        if (e.hint !== undefined) this.#line(`  hint: ${e.hint}`);
        this.#line(`  code: ${e.code}`);
        if (e.code === 'ERR_INTERNAL' && e.stack !== undefined) this.#line(e.stack);
      }
      return exitCodeOfError(e.code);
    }
    const message = e instanceof Error ? e.message : String(e);
    const stack = e instanceof Error ? e.stack : undefined;
    if (this.json) this.#line(JSON.stringify({ event: 'error', code: 'ERR_INTERNAL', message, stack }));
    else {
      this.#line(`tsvisor: internal fault: ${message}`);
      this.#line('  hint: this is a defect of tsvisor: please report it with the stack below and your command');
      this.#line('  code: ERR_INTERNAL');
      if (stack !== undefined) this.#line(stack);
    }
    return EXIT.fault;
  }

  #line(text: string): void {
    const end = this.prefix === '' ? '\n' : '\r\n';
    process.stderr.write(this.prefix + text.replace(/\n/g, end) + end);
  }
}
