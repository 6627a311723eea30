import { FileError } from '../../src/devices/virtio/fs/errno.ts';
import type {
  AttributeChanges,
  Entry,
  FileAttributes,
  FileServer,
  FileSystemStatistics,
  OpenAccess,
} from '../../src/devices/virtio/fs/file-server.ts';
import type { FuseSession } from '../../src/devices/virtio/fs/session.ts';
import { fakeChain } from './fake-virtio.ts';

/** All bytes of some parts; for larger ones than tests otherwise have. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Little-endian integers by a format of H (16 bits), I (32) and Q (64), as the kernel's header has them. */
export function pack(format: string, ...values: readonly (number | bigint)[]): Uint8Array {
  const parts = [...format].map((f, i) => {
    const size = f === 'H' ? 2 : f === 'I' ? 4 : 8;
    let v = BigInt.asUintN(64, BigInt(values[i]!));
    return Uint8Array.from({ length: size }, () => {
      const byte = Number(v & 255n);
      v >>= 8n;
      return byte;
    });
  });
  return joined(parts);
}

/** A name of bytes with its zero. */
export function zero(name: string): Uint8Array {
  return Uint8Array.from([...name, '\0'].map(c => c.charCodeAt(0)));
}

/** A request as one array. */
export function request(opcode: number, node: number | bigint, ...args: readonly Uint8Array[]): Uint8Array {
  const body = joined(args);
  return joined([pack('IIQQIIIHH', 40 + body.length, opcode, 7, node, 1000, 1000, 42, 0, 0), body]);
}

/** An answer: `error` as Linux's number (0 for none) and what is behind the header. */
export class Answer {
  readonly view: DataView;

  constructor(
    readonly error: number,
    readonly bytes: Uint8Array,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32(offset: number): number {
    return this.view.getUint32(offset, true);
  }

  u64(offset: number): number {
    return Number(this.view.getBigUint64(offset, true));
  }

  get text(): string {
    return Buffer.from(this.bytes).toString('latin1');
  }

  /** Node, mode and size of struct fuse_entry_out. */
  get entry(): { node: number; mode: number; size: number } {
    return { node: this.u64(0), mode: this.u32(40 + 60), size: this.u64(40 + 8) };
  }
}

/** Reads what a device wrote. */
export function answerOf(written: number, writable: readonly Uint8Array[]): Answer {
  const bytes = joined(writable);
  const view = new DataView(bytes.buffer);
  if (view.getUint32(0, true) !== written)
    throw new Error(`${view.getUint32(0, true)} in the header, ${written} written`);
  if (view.getBigUint64(8, true) !== 7n) throw new Error('not the answer to this request');
  return new Answer(0 - view.getInt32(4, true), bytes.slice(16, written));
}

/** A guest's side of the protocol, by hand, over a session. */
export class FuseClient {
  readonly #session: FuseSession;

  constructor(session: FuseSession) {
    this.#session = session;
  }

  async call(opcode: number, node: number, args: readonly Uint8Array[], room = 4096): Promise<Answer> {
    const chain = fakeChain([request(opcode, node, ...args)], [16, room]);
    return answerOf(await this.#session.handle(chain), chain.writable);
  }

  init(minor = 37): Promise<Answer> {
    return this.call(26, 0, [pack('IIII', 7, minor, 1 << 17, 0xffff_ffff)], 64);
  }

  lookup(parent: number, name: string): Promise<Answer> {
    return this.call(1, parent, [zero(name)]);
  }

  forget(node: number, count: number): void {
    this.#session.handle(fakeChain([request(2, node, pack('Q', count))], []));
  }

  open(node: number, flags: number): Promise<Answer> {
    return this.call(14, node, [pack('II', flags, 0)]);
  }

  create(parent: number, name: string, flags = 2, mode = 0o644): Promise<Answer> {
    return this.call(35, parent, [pack('IIII', flags | 0o100, mode, 0, 0), zero(name)]);
  }

  read(node: number, handle: number, offset: number | bigint, size: number): Promise<Answer> {
    return this.call(15, node, [pack('QQIIQII', handle, offset, size, 0, 0, 0, 0)], size);
  }

  write(node: number, handle: number, offset: number | bigint, data: string): Promise<Answer> {
    const bytes = Buffer.from(data, 'latin1');
    return this.call(16, node, [pack('QQIIQII', handle, offset, bytes.length, 0, 0, 0, 0), bytes], 8);
  }

  /** Names, types and nodes of a directory. */
  async list(node: number, plus: boolean, room = 4096): Promise<{ name: string; type: number; node: number }[]> {
    const handle = (await this.call(27, node, [pack('II', 0, 0)])).u64(0);
    const result: { name: string; type: number; node: number }[] = [];
    const skip = plus ? 128 : 0;
    for (let offset = 0; ; ) {
      const a = await this.call(plus ? 44 : 28, node, [pack('QQIIQII', handle, offset, room, 0, 0, 0, 0)], room);
      if (a.error !== 0) throw new Error(`readdir: ${a.error}`);
      if (a.bytes.length === 0) break;
      for (let at = 0; at < a.bytes.length; ) {
        const length = a.u32(at + skip + 16);
        const name = a.text.slice(at + skip + 24, at + skip + 24 + length);
        result.push({ name, type: a.u32(at + skip + 20), node: plus ? a.u64(at) : 0 });
        offset = a.u64(at + skip + 8);
        at += skip + ((24 + length + 7) & ~7);
      }
    }
    await this.call(29, node, [pack('QIIQ', handle, 0, 0, 0)]);
    return result;
  }
}

/** Files in memory, a directory deep: enough to see what the protocol makes of them. */
export class MemoryFiles implements FileServer {
  readonly files = new Map<string, { node: number; mode: number; data: Uint8Array }>();
  /** What was asked for beside names, in order. */
  readonly calls: unknown[][] = [];
  readonly lookups = new Map<number, number>();
  /** Resolves reads when called; without it they resolve at once. */
  hold: Promise<void> | undefined;
  #next = 2;

  lookup(parent: number, name: string): Entry {
    const attributes = this.peek(parent, name);
    const { node } = this.files.get(name)!;
    this.lookups.set(node, (this.lookups.get(node) ?? 0) + 1);
    return { node, attributes };
  }

  peek(parent: number, name: string): FileAttributes {
    const file = this.files.get(name);
    if (parent !== 1) throw new FileError('ENOTDIR');
    if (file === undefined) throw new FileError('ENOENT');
    return this.#attributes(file.node, file.mode, file.data.length);
  }

  forget(node: number, count: number): void {
    this.calls.push(['forget', node, count]);
  }

  attributes(node: number, handle: number | undefined): FileAttributes {
    this.calls.push(['attributes', node, handle]);
    if (node === 1) return this.#attributes(1, 0o040755, 0);
    const file = this.#file(node);
    return this.#attributes(node, file.mode, file.data.length);
  }

  setAttributes(node: number, changes: AttributeChanges): FileAttributes {
    this.calls.push(['setAttributes', node, changes]);
    return this.#attributes(node, 0o100644, changes.size ?? 0);
  }

  readLink(): string {
    return '../t\xe4rget';
  }

  makeLink(parent: number, name: string, target: string): Entry {
    this.calls.push(['makeLink', parent, name, target]);
    return this.#make(parent, name, 0o120777);
  }

  makeNode(parent: number, name: string, mode: number): Entry {
    return this.#make(parent, name, mode);
  }

  makeDirectory(parent: number, name: string, mode: number): Entry {
    return this.#make(parent, name, 0o040000 | mode);
  }

  link(node: number, parent: number, name: string): Entry {
    this.calls.push(['link', node, parent, name]);
    this.files.set(name, this.#file(node));
    return this.lookup(parent, name);
  }

  create(parent: number, name: string, mode: number, access: OpenAccess): Entry & { readonly handle: number } {
    this.calls.push(['create', parent, name, mode, access]);
    const made = this.#make(parent, name, 0o100000 | mode);
    return { ...made, handle: made.node + 100 };
  }

  unlink(_parent: number, name: string): void {
    if (!this.files.delete(name)) throw new FileError('ENOENT');
  }

  removeDirectory(parent: number, name: string): void {
    this.unlink(parent, name);
  }

  rename(parent: number, name: string, newParent: number, newName: string, noReplace: boolean): void {
    this.calls.push(['rename', parent, name, newParent, newName, noReplace]);
  }

  /** Handle of a node: its number and 100. */
  open(node: number, access: OpenAccess): number {
    this.calls.push(['open', node, access]);
    this.#file(node);
    return node + 100;
  }

  openDirectory(node: number): number {
    if (node !== 1) throw new FileError('ENOTDIR');
    return 101;
  }

  release(handle: number): void {
    this.calls.push(['release', handle]);
  }

  directoryName(handle: number, index: number): string | undefined {
    if (handle !== 101) throw new FileError('EBADF');
    return [...this.files.keys()][index];
  }

  async read(handle: number, offset: number, buffers: readonly Uint8Array[]): Promise<number> {
    const { data } = this.#file(handle - 100);
    await this.hold;
    let at = offset;
    for (const buffer of buffers) {
      const part = data.subarray(at, at + buffer.length);
      buffer.set(part);
      at += part.length;
    }
    return at - offset;
  }

  async write(handle: number, offset: number, buffers: readonly Uint8Array[]): Promise<number> {
    const bytes = joined(buffers);
    this.calls.push(['write', handle, offset, Buffer.from(bytes).toString('latin1')]);
    return bytes.length;
  }

  async sync(handle: number, dataOnly: boolean): Promise<void> {
    this.calls.push(['sync', handle, dataOnly]);
  }

  access(node: number, mask: number): void {
    this.calls.push(['access', node, mask]);
    if (mask & 2) throw new FileError('EROFS');
  }

  statistics(): FileSystemStatistics {
    return { blocks: 1000n, bfree: 500n, bavail: 400n, files: 64n, ffree: 32n, bsize: 4096, namelen: 255 };
  }

  reset(): void {
    this.calls.push(['reset']);
  }

  /** Makes a file without the guest. */
  put(name: string, data: string, mode = 0o100644): number {
    const node = this.#next++;
    this.files.set(name, { node, mode, data: Buffer.from(data, 'latin1') });
    return node;
  }

  #make(parent: number, name: string, mode: number): Entry {
    if (parent !== 1) throw new FileError('ENOTDIR');
    if (this.files.has(name)) throw new FileError('EEXIST');
    if (this.files.size >= 64) throw new FileError('ENOSPC');
    this.put(name, '', mode);
    return this.lookup(parent, name);
  }

  #file(node: number) {
    for (const file of this.files.values()) if (file.node === node) return file;
    throw new FileError('ESTALE');
  }

  #attributes(ino: number, mode: number, size: number): FileAttributes {
    const times = { atimeNs: 1_000_000_001n, mtimeNs: 2_000_000_002n, ctimeNs: -1n };
    const rest = { nlink: 1, uid: 1000, gid: 1001, rdev: 0, blksize: 4096 };
    return { ino: BigInt(ino), size: BigInt(size), blocks: 8n, mode, ...times, ...rest };
  }
}
