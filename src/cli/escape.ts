/** What the user asks of the terminal itself. */
export type EscapeAction = 'quit' | 'help' | 'info' | 'hint';

/** Ctrl-a, which begins a command to the terminal. */
const ESCAPE = 0x01;
const CTRL_C = 0x03;

/** The help that Ctrl-a h prints. */
export const ESCAPE_HELP = [
  'Ctrl-a x  quit: end the virtual machine',
  'Ctrl-a c  show what the virtual machine is doing',
  'Ctrl-a a  send a Ctrl-a to the guest',
  'Ctrl-a h  this help',
];
export const ESCAPE_HINT = 'Ctrl-c goes to the guest; Ctrl-a x ends the virtual machine, Ctrl-a h helps';

/** Splits what is typed into input for the guest and commands to the terminal. */
export class EscapeFilter {
  #escaped = false;
  #hinted = false;

  /** The guest's bytes of `typed`, and the commands in it; the first Ctrl-c also asks for a hint, once. */
  feed(typed: Uint8Array): { readonly guest: Uint8Array; readonly actions: readonly EscapeAction[] } {
    const guest: number[] = [];
    const actions: EscapeAction[] = [];
    for (const b of typed) {
      if (this.#escaped) {
        this.#escaped = false;
        const c = String.fromCharCode(b).toLowerCase();
        if (c === 'x') actions.push('quit');
        else if (c === 'h' || c === '?') actions.push('help');
        else if (c === 'c') actions.push('info');
        else if (c === 'a' || b === ESCAPE) guest.push(ESCAPE);
        else actions.push('help');
      } else if (b === ESCAPE) this.#escaped = true;
      else {
        if (b === CTRL_C && !this.#hinted) {
          this.#hinted = true;
          actions.push('hint');
        }
        guest.push(b);
      }
    }
    return { guest: Uint8Array.from(guest), actions };
  }
}
