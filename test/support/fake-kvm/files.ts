import { fail, refuse } from './errno.ts';

/** An argument of an ioctl: a number as it is, or a structure. */
export class Argument {
  readonly #value: number | DataView;

  constructor(request: number, argument: number | ArrayBufferView | undefined) {
    // _IOC_SIZE(), which the addon compares with what it is given.
    const size = (request >>> 16) & 0x3fff;
    if (argument === undefined || typeof argument === 'number') {
      if (size > 0) refuse('ioctl: this request takes a buffer, not a number');
      this.#value = argument ?? 0;
      return;
    }
    if (size === 0) refuse('ioctl: this request has no size and takes no buffer');
    if (size > argument.byteLength) refuse(`ioctl: the request needs ${size} bytes, not ${argument.byteLength}`);
    this.#value = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
  }

  get number(): number {
    return typeof this.#value === 'number' ? this.#value : fail('EFAULT');
  }

  get view(): DataView {
    return typeof this.#value === 'number' ? fail('EFAULT') : this.#value;
  }

  get bytes(): Uint8Array {
    const { buffer, byteOffset, byteLength } = this.view;
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  /** What was given, for the record of calls. */
  copy(): number | Uint8Array {
    return typeof this.#value === 'number' ? this.#value : this.bytes.slice();
  }
}

/** Ioctls of one kind of file descriptor: their names and what they do. */
export type Ioctls = ReadonlyMap<number, readonly [name: string, call: (a: Argument) => number | undefined]>;

/** What a file descriptor stands for. */
export interface FakeFile {
  /** E.g. '/dev/kvm', 'vm', 'vcpu 0', 'eventfd'. */
  readonly name: string;
  readonly ioctls: Ioctls;
  closed?(): void;
}

/** An eventfd(2). */
export class FakeEventFd implements FakeFile {
  readonly name = 'eventfd';
  readonly ioctls: Ioctls = new Map();
  value: bigint;
  readonly #onClose: (() => void)[] = [];

  constructor(initial: number) {
    this.value = BigInt(initial);
  }

  signal(): void {
    this.value++;
  }

  /** The value, which is 0 afterwards. */
  take(): bigint {
    const value = this.value;
    this.value = 0n;
    return value;
  }

  whenClosed(f: () => void): void {
    this.#onClose.push(f);
  }

  closed(): void {
    for (const f of this.#onClose) f();
  }
}

/** The process's file descriptors: the lowest free number is the next, so that one used after its end hits another's file. */
export class FakeFiles {
  readonly #files = new Map<number, FakeFile>();

  open(file: FakeFile): number {
    let fd = 3;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, file);
    return fd;
  }

  get(fd: number, call = 'ioctl'): FakeFile {
    return this.#files.get(fd) ?? fail('EBADF', call);
  }

  eventfd(fd: number, call = 'ioctl'): FakeEventFd {
    const file = this.get(fd, call);
    return file instanceof FakeEventFd ? file : fail('EINVAL', call);
  }

  close(fd: number): void {
    const file = this.get(fd, 'close');
    this.#files.delete(fd);
    file.closed?.();
  }

  names(): string[] {
    return [...this.#files.values()].map(f => f.name);
  }
}
