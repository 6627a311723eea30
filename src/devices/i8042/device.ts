import type { BusDevice } from '../../bus/types.ts';
import * as R from './regs.ts';

/** What an {@link I8042} is connected to. */
export interface I8042Options {
  /** The guest pulls the CPU's reset line. */
  reset(): void;
}

/** A keyboard controller's state. */
export interface I8042State {
  /** Without STATUS_OUTPUT_FULL, which is `full`. */
  readonly status: number;
  readonly commandByte: number;
  readonly outputPort: number;
  readonly output: number;
  readonly full: boolean;
  /** The command that waits for its byte at the data port, or 0. */
  readonly pending: number;
}

/**
 * Keyboard controller 8042 of a PC, as far as a reset needs it: no keyboard, no mouse, no interrupt. It answers the
 * commands that drivers probe with, so that none of them waits for long. A20 is only remembered; it is always open.
 *
 * Two devices of one port each: between them, at 0x61, is the port of another device.
 */
export class I8042 {
  /** Port 0x60. */
  readonly data: BusDevice = {
    name: 'i8042-data',
    read: () => this.#readData(),
    write: (_offset, _size, value) => this.#writeData(value & 0xff),
  };
  /** Port 0x64: status when read, commands when written. */
  readonly command: BusDevice = {
    name: 'i8042-command',
    read: () => this.#status | (this.#full ? R.STATUS_OUTPUT_FULL : 0),
    write: (_offset, _size, value) => this.#writeCommand(value & 0xff),
  };

  readonly #options: I8042Options;
  #status = 0;
  #commandByte = 0;
  #outputPort = 0;
  #output = 0;
  #full = false;
  #pending = 0;

  constructor(options: I8042Options) {
    this.#options = options;
    this.reset();
  }

  reset(): void {
    this.#status = R.STATUS_UNLOCKED | R.STATUS_COMMAND;
    this.#commandByte = R.COMMAND_KEYBOARD_INTERRUPT;
    this.#outputPort = R.OUTPUT_RESET | R.OUTPUT_A20;
    this.#output = this.#pending = 0;
    this.#full = false;
  }

  /** For {@link restore}. */
  save(): I8042State {
    return {
      status: this.#status,
      commandByte: this.#commandByte,
      outputPort: this.#outputPort,
      output: this.#output,
      full: this.#full,
      pending: this.#pending,
    };
  }

  restore(s: I8042State): void {
    this.#status = s.status;
    this.#commandByte = s.commandByte;
    this.#outputPort = s.outputPort;
    this.#output = s.output;
    this.#full = s.full;
    this.#pending = s.pending;
  }

  #readData(): number {
    this.#full = false;
    return this.#output;
  }

  #writeData(value: number): void {
    this.#status &= ~R.STATUS_COMMAND;
    const command = this.#pending;
    this.#pending = 0;
    switch (command) {
      case R.WRITE_COMMAND_BYTE:
        this.#commandByte = value;
        break;
      case R.WRITE_OUTPUT_PORT:
        this.#writeOutputPort(value);
        break;
      case R.WRITE_KEYBOARD_BUFFER:
      // As from the keyboard, without the status bit of the auxiliary device: drivers see that there is none.
      case R.WRITE_AUXILIARY_BUFFER:
        this.#answer(value);
        break;
      // What goes to the keyboard or the auxiliary device: nobody is there.
    }
  }

  #writeCommand(command: number): void {
    this.#status |= R.STATUS_COMMAND;
    this.#pending = 0;
    switch (command) {
      case R.READ_COMMAND_BYTE:
        this.#answer(this.#commandByte);
        break;
      case R.WRITE_COMMAND_BYTE:
      case R.WRITE_OUTPUT_PORT:
      case R.WRITE_KEYBOARD_BUFFER:
      case R.WRITE_AUXILIARY_BUFFER:
      case R.WRITE_AUXILIARY:
        this.#pending = command;
        break;
      case R.TEST_AUXILIARY:
        this.#answer(R.TEST_CLOCK_LOW);
        break;
      case R.SELF_TEST:
        this.#status |= R.STATUS_SYSTEM;
        this.#answer(R.SELF_TEST_PASSED);
        break;
      case R.TEST_KEYBOARD:
        this.#answer(R.TEST_PASSED);
        break;
      case R.DISABLE_KEYBOARD:
        this.#commandByte |= R.COMMAND_DISABLE_KEYBOARD;
        break;
      case R.ENABLE_KEYBOARD:
        this.#commandByte &= ~R.COMMAND_DISABLE_KEYBOARD;
        break;
      case R.READ_OUTPUT_PORT:
        this.#answer(this.#outputPort);
        break;
      case R.DISABLE_A20:
        this.#outputPort &= ~R.OUTPUT_A20;
        break;
      case R.ENABLE_A20:
        this.#outputPort |= R.OUTPUT_A20;
        break;
      default:
        if (command >= R.PULSE_OUTPUT_PORT && !(command & R.OUTPUT_RESET)) this.#options.reset();
    }
  }

  #writeOutputPort(value: number): void {
    // What is in the output buffer shows by itself: nothing, when the answer with this port's value gets there.
    this.#outputPort = (value & ~R.OUTPUT_BUFFER_FULL) | R.OUTPUT_RESET;
    if (!(value & R.OUTPUT_RESET)) this.#options.reset();
  }

  #answer(value: number): void {
    this.#output = value;
    this.#full = true;
  }
}
