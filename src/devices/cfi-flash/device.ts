import type { AccessSize, BusDevice } from '../../bus/types.ts';
import { type FlashGeometry, queryTable } from './query.ts';
import * as R from './regs.ts';

/** Where the contents of a bank are kept. */
export interface FlashStore {
  /**
   * Keeps `bytes` for the bytes from `offset` on; both lie in the bank. When it returns, they are safe from the end of
   * this process. false: they could not be kept, and the guest is told that the operation failed.
   */
  write(offset: number, bytes: Uint8Array): boolean;
}

/** What a {@link CfiFlash} is made of. */
export interface CfiFlashOptions {
  readonly name: string;
  readonly geometry: FlashGeometry;
  /** The contents, as many bytes as the geometry says. */
  readonly array: Uint8Array;
  /** Nothing can be programmed or erased: as if the programming voltage were missing. */
  readonly readOnly?: boolean | undefined;
  /** Told of every change before the guest sees it. Without it the contents end with the device. */
  readonly store?: FlashStore | undefined;
  /** Lets the guest read {@link array} as memory, at the place of the device (CFI-7); disposing the result ends it. */
  mapArray?(): Disposable | undefined;
}

/** What reads give. */
type ReadMode = 'array' | 'status' | 'identifier' | 'query';
/** What the next write is. */
type State = 'command' | 'word' | 'erase' | 'lock' | 'count' | 'data' | 'confirm';

/**
 * NOR flash with the Common Flash Interface and Intel's extended command set: two chips of 16 bits side by side on a bus of
 * 32. Drivers write every command to both at once; what they read is the same in both halves. Every operation is done when
 * the write that starts it returns, so the status is always ready.
 *
 * In read-array mode it is memory that guests read without an exit (CFI-7); any write reaches {@link write}.
 */
export class CfiFlash implements BusDevice {
  readonly name: string;
  readonly #options: CfiFlashOptions;
  readonly #query: Uint8Array;
  readonly #lockedBlocks = new Set<number>();
  readonly #buffer: Uint8Array;
  #mapping: Disposable | undefined;
  #mode: ReadMode = 'array';
  #state: State = 'command';
  #status = R.SR_READY;
  /** Words that a buffered program still waits for. */
  #wordsLeft = 0;
  /** Where the buffer begins, once its first word has come, and how much of it is used, bytes. */
  #bufferStart: number | undefined;
  #bufferUsed = 0;
  /** A word went beside the buffer. */
  #bufferMissed = false;

  constructor(options: CfiFlashOptions) {
    this.name = options.name;
    this.#options = options;
    this.#query = queryTable(options.geometry);
    this.#buffer = new Uint8Array(options.geometry.bufferSize);
    this.#setMode('array');
  }

  /** Reset or power-up: a command that was begun is forgotten, all blocks are unlocked, the contents stay (CFI-9). */
  reset(): void {
    this.#state = 'command';
    this.#status = R.SR_READY;
    this.#lockedBlocks.clear();
    this.#setMode('array');
  }

  read(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.#readByte(offset + i);
    return value >>> 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    const command = value & 0xff;
    switch (this.#state) {
      case 'command':
        this.#begin(command);
        break;
      case 'word':
        this.#state = 'command';
        this.#program(offset, littleEndian(value, size));
        break;
      case 'erase':
        this.#state = 'command';
        if (command === R.CONFIRM) this.#erase(offset);
        else this.#status |= R.SR_COMMAND_SEQUENCE_ERROR;
        break;
      case 'lock':
        this.#state = 'command';
        if (command === R.LOCK_BLOCK) this.#lockedBlocks.add(this.#block(offset));
        else if (command === R.CONFIRM) this.#lockedBlocks.delete(this.#block(offset));
        else this.#status |= R.SR_COMMAND_SEQUENCE_ERROR;
        break;
      case 'count':
        this.#setCount((value & 0xffff) + 1);
        break;
      case 'data':
        this.#fillBuffer(offset, littleEndian(value, size));
        break;
      case 'confirm':
        this.#state = 'command';
        if (command !== R.CONFIRM || this.#bufferMissed) this.#status |= R.SR_PROGRAM_ERROR;
        else this.#program(this.#bufferStart!, this.#buffer.slice(0, this.#bufferUsed));
        break;
    }
  }

  /** Wider than the bus: ignored (CFI-8). */
  write64(): void {}

  read64(offset: number): bigint {
    return (BigInt(this.read(offset + 4, 4)) << 32n) | BigInt(this.read(offset, 4));
  }

  /** The first cycle of a command. One that the chip does not have changes nothing. */
  #begin(command: number): void {
    switch (command) {
      case R.READ_ARRAY:
        this.#setMode('array');
        break;
      case R.READ_QUERY:
        this.#setMode('query');
        break;
      case R.READ_IDENTIFIER:
        this.#setMode('identifier');
        break;
      case R.READ_STATUS:
        this.#setMode('status');
        break;
      case R.CLEAR_STATUS:
        this.#status = R.SR_READY;
        this.#setMode('array');
        break;
      case R.WORD_PROGRAM:
      case R.WORD_PROGRAM_ALTERNATE:
        this.#enter('word');
        break;
      case R.BLOCK_ERASE:
        this.#enter('erase');
        break;
      case R.LOCK_SETUP:
        this.#enter('lock');
        break;
      case R.BUFFERED_PROGRAM:
        this.#enter('count');
        break;
    }
  }

  /** A command of several cycles: reads give the status from now on, until another command says otherwise. */
  #enter(state: State): void {
    this.#state = state;
    this.#setMode('status');
  }

  #setMode(mode: ReadMode): void {
    this.#mode = mode;
    if (mode === 'array') this.#mapping ??= this.#options.mapArray?.();
    else {
      this.#mapping?.[Symbol.dispose]();
      this.#mapping = undefined;
    }
  }

  #readByte(offset: number): number {
    const half = 8 * (offset & 1);
    switch (this.#mode) {
      case 'array':
        return this.#options.array[offset] ?? 0xff;
      case 'status':
        return (this.#status >> half) & 0xff;
      case 'identifier':
        return (this.#identifier(offset) >> half) & 0xff;
      case 'query':
        return half === 0 ? (this.#query[offset >>> 2] ?? 0) : 0;
    }
  }

  /** CFI-2. The codes of the chip can be read in every block, beside the block's own. */
  #identifier(offset: number): number {
    switch ((offset % this.#options.geometry.blockSize) >>> 2) {
      case R.ID_MANUFACTURER:
        return R.MANUFACTURER_INTEL;
      case R.ID_DEVICE:
        return R.DEVICE_CODE;
      case R.ID_BLOCK_LOCK:
        return this.#locked(offset) ? 1 : 0;
      default:
        return 0;
    }
  }

  #block(offset: number): number {
    return Math.floor(offset / this.#options.geometry.blockSize);
  }

  #locked(offset: number): boolean {
    return this.#lockedBlocks.has(this.#block(offset));
  }

  /** A buffer that is too small for what is announced: the chip takes no words then, they would be commands. */
  #setCount(words: number): void {
    if (words * 4 > this.#buffer.length) {
      this.#state = 'command';
      this.#status |= R.SR_COMMAND_SEQUENCE_ERROR;
      return;
    }
    this.#state = 'data';
    this.#wordsLeft = words;
    this.#buffer.fill(0xff);
    this.#bufferStart = undefined;
    this.#bufferUsed = 0;
    this.#bufferMissed = false;
  }

  /** CFI-4: the first word says where the buffer goes, the others lie in it, and it lies in one block. */
  #fillBuffer(offset: number, data: Uint8Array): void {
    this.#bufferStart ??= offset;
    const start = this.#bufferStart;
    const end = offset + data.length - start;
    if (offset < start || end > this.#buffer.length || this.#block(offset + data.length - 1) !== this.#block(start)) {
      this.#bufferMissed = true;
    } else {
      this.#buffer.set(data, offset - start);
      this.#bufferUsed = Math.max(this.#bufferUsed, end);
    }
    if (--this.#wordsLeft === 0) this.#state = 'confirm';
  }

  /** CFI-6: ones become zeroes, and stay zeroes until an erase. */
  #program(offset: number, data: Uint8Array): void {
    const { array, readOnly, store } = this.#options;
    if (readOnly) {
      this.#status |= R.SR_PROGRAM_ERROR | R.SR_VPP_ERROR;
      return;
    }
    if (this.#locked(offset) || this.#locked(offset + data.length - 1)) {
      this.#status |= R.SR_PROGRAM_ERROR | R.SR_BLOCK_LOCKED;
      return;
    }
    for (let i = 0; i < data.length; i++) data[i]! &= array[offset + i]!;
    if (store === undefined || store.write(offset, data)) array.set(data, offset);
    else this.#status |= R.SR_PROGRAM_ERROR;
  }

  #erase(offset: number): void {
    const { array, readOnly, store, geometry } = this.#options;
    if (readOnly) {
      this.#status |= R.SR_ERASE_ERROR | R.SR_VPP_ERROR;
      return;
    }
    if (this.#locked(offset)) {
      // Of the two errors the one of programs: CFI-3.
      this.#status |= R.SR_PROGRAM_ERROR | R.SR_BLOCK_LOCKED;
      return;
    }
    const start = this.#block(offset) * geometry.blockSize;
    const erased = new Uint8Array(geometry.blockSize).fill(0xff);
    if (store === undefined || store.write(start, erased)) array.set(erased, start);
    else this.#status |= R.SR_ERASE_ERROR;
  }
}

function littleEndian(value: number, size: AccessSize): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 0xff);
}
