import type { Vm } from '../vmm/index.ts';
import { formatSize } from '../vmm/index.ts';
import { ESCAPE_HELP, ESCAPE_HINT, EscapeFilter } from './escape.ts';
import type { Output } from './output.ts';

/** Attributes off, cursor visible: what a guest that was cut off may have left otherwise. */
const SANE = '\x1b[0m\x1b[?25h';

/**
 * Joins this process's standard input and output with a VM's console, until {@link detach}. On a terminal in raw mode,
 * with the escape key; otherwise bytes go through as they are and the end of the input means nothing.
 */
export class Terminal {
  readonly #vm: Vm;
  readonly #out: Output;
  readonly #raw: boolean;
  readonly #undo: (() => void)[] = [];
  #lastByte = 0x0a;
  #closed = false;
  /** The guest's output has been handed to stdout, all of it, or nobody is there to take it. */
  readonly drained: Promise<void>;

  constructor(vm: Vm, out: Output) {
    this.#vm = vm;
    this.#out = out;
    const { stdin, stdout } = process;
    // With the output going elsewhere, Ctrl-c must still work: no raw mode then.
    this.#raw = stdin.isTTY === true && stdout.isTTY === true;
    this.drained = new Promise(resolve => {
      vm.console.once('end', resolve);
      vm.console.once('close', resolve);
    });
    const track = (b: Buffer) => {
      this.#lastByte = b.at(-1) ?? this.#lastByte;
    };
    vm.console.on('data', track);
    vm.console.pipe(stdout, { end: false });
    const onError = (e: NodeJS.ErrnoException) => {
      if (!this.#closed) this.#outputLost(e);
    };
    stdout.on('error', onError);
    if (this.#raw) this.#enterRaw();
    else this.#pipeInput();
  }

  /** Gives the terminal back as it was. Safe to call twice, and from an 'exit' handler. */
  detach(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const f of this.#undo.reverse()) f();
  }

  #outputLost(e: NodeJS.ErrnoException): void {
    this.#vm.console.destroy();
    // `tsvisor run | head`: the reader has seen enough, which is no error.
    if (e.code !== 'EPIPE')
      this.#out.event('log', { line: String(e) }, `tsvisor: cannot write the output: ${e.message}`);
    void this.#vm.kill();
  }

  #pipeInput(): void {
    const { stdin } = process;
    const onError = () => stdin.unpipe(this.#vm.console);
    stdin.on('error', onError);
    stdin.pipe(this.#vm.console, { end: false });
    this.#undo.push(() => {
      stdin.unpipe(this.#vm.console);
      stdin.pause();
    });
  }

  #enterRaw(): void {
    const { stdin, stdout } = process;
    const filter = new EscapeFilter();
    const onData = (b: Buffer) => {
      const { guest, actions } = filter.feed(b);
      if (guest.length > 0) this.#vm.console.write(guest);
      for (const a of actions) this.#act(a);
    };
    const restore = () => this.detach();
    // Another program may have changed the terminal while we were stopped.
    const onContinue = () => stdin.setRawMode(true);
    stdin.setRawMode(true);
    this.#out.prefix = '\r';
    stdin.on('data', onData);
    process.on('exit', restore);
    process.on('SIGCONT', onContinue);
    this.#undo.push(() => {
      stdin.setRawMode(false);
      stdin.off('data', onData);
      stdin.pause();
      process.off('exit', restore);
      process.off('SIGCONT', onContinue);
      this.#out.prefix = '';
      if (stdout.writable) stdout.write(SANE + (this.#lastByte === 0x0a ? '' : '\r\n'));
    });
  }

  #act(action: 'quit' | 'help' | 'info' | 'hint'): void {
    switch (action) {
      case 'quit':
        this.#say(['ended by Ctrl-a x']);
        void this.#vm.stop();
        break;
      case 'help':
        this.#say(ESCAPE_HELP);
        break;
      case 'hint':
        this.#say([ESCAPE_HINT]);
        break;
      case 'info':
        this.#vm.info().then(
          i =>
            this.#say([
              `${i.name ?? 'virtual machine'}: ${i.machine} on engine ${i.engine} (${i.engineReason}), ${formatSize(i.memoryBytes)}`,
              ...i.vcpus.map(
                c =>
                  `vCPU ${c.id}: ${c.state}, pc 0x${c.pc.toString(16)}` +
                  (c.instructions === undefined ? '' : `, ${c.instructions.toLocaleString('en')} instructions`),
              ),
              `guest time ${(i.timeNs / 1e9).toFixed(3)} s`,
            ]),
          () => undefined,
        );
        break;
    }
  }

  #say(lines: readonly string[]): void {
    process.stderr.write(`\r\n${lines.map(l => `[tsvisor: ${l}]\r\n`).join('')}`);
  }
}
