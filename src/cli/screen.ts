const CLEAR = '\x1b[H\x1b[J';
const ENTER_SCREEN = '\x1b[?1049h\x1b[?25l';
const LEAVE_SCREEN = '\x1b[?25h\x1b[?1049l';
const CTRL_C = 3;

/** The terminal's second screen, and its keys; until it is disposed. */
export interface Screen extends Disposable {
  /** Puts `text` in the place of what is there. */
  show(text: string): void;
}

/** What a {@link Screen} tells. */
export interface ScreenEvents {
  /** q or Ctrl-c was typed. */
  quit(): void;
  /** The terminal has another size now. */
  resized?(): void;
}

/** Takes the terminal over, which must be one; however the process ends, it gets it back. */
export function openScreen({ quit, resized }: ScreenEvents): Screen {
  const { stdin, stdout } = process;
  const onKey = (bytes: Buffer) => {
    if (bytes.includes(CTRL_C) || bytes.includes('q')) quit();
  };
  const onResize = () => resized?.();
  const leave = () => {
    stdout.write(LEAVE_SCREEN);
  };
  stdout.write(ENTER_SCREEN);
  process.once('exit', leave);
  stdout.on('resize', onResize);
  if (stdin.isTTY) {
    stdin.setRawMode(true);
    stdin.on('data', onKey);
  }
  return {
    show: text => {
      stdout.write(`${CLEAR}${text}`);
    },
    [Symbol.dispose]: () => {
      process.off('exit', leave);
      stdout.off('resize', onResize);
      leave();
      if (!stdin.isTTY) return;
      stdin.off('data', onKey);
      stdin.setRawMode(false);
      stdin.pause();
    },
  };
}
