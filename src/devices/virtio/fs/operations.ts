import { attrOut, dirent, direntSize, entryOut, openOut } from './encode.ts';
import { ERRNO, errnoOf, FileError } from './errno.ts';
import type { AttributeChanges, Entry, FileServer, OpenAccess } from './file-server.ts';
import * as P from './protocol.ts';
import { copyOut, type Decoder, Encoder, slice } from './wire.ts';

/** Largest FUSE_WRITE in bytes, as FUSE_INIT says. */
export const MAX_WRITE = 1 << 20;

/** Bytes of one answer to FUSE_READDIR, so that a single request keeps the machine's thread for a few ms at most. */
const MAX_DIRECTORY_BYTES = 1 << 16;

/** A request whose header has been read. */
export interface Request {
  readonly node: number;
  /** What follows the header; of FUSE_WRITE only its structure. */
  readonly args: Decoder;
  /** Guest RAM: header, structure and data of the request, and the reply from its header on. */
  readonly readable: readonly Uint8Array[];
  readonly writable: readonly Uint8Array[];
  /** Bytes of the request, header and all. */
  readonly length: number;
  /** Bytes that the reply may have behind its header. */
  readonly room: number;
}

/** What an answer has behind its header: bytes, a number of bytes that are already in place, or nothing. */
export type Payload = Encoder | number | undefined;

/** One operation of the protocol. */
export interface Operation {
  /** Bytes that the answer needs; a request with less room is refused before anything happens. */
  readonly reply: number;
  /** @throws what the server throws, FileError EINVAL for a malformed request */
  run(server: FileServer, request: Request): Payload | Promise<Payload>;
}

/** All operations by opcode but FUSE_INIT and FUSE_DESTROY, which are the session's, and those without an answer. */
export const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [P.FUSE_LOOKUP, { reply: P.ENTRY_OUT_SIZE, run: (s, r) => entry(s.lookup(r.node, lastString(r))) }],
  [P.FUSE_GETATTR, { reply: P.ATTR_OUT_SIZE, run: getattr }],
  [P.FUSE_SETATTR, { reply: P.ATTR_OUT_SIZE, run: setattr }],
  [P.FUSE_READLINK, { reply: 0, run: readlink }],
  [P.FUSE_SYMLINK, { reply: P.ENTRY_OUT_SIZE, run: symlink }],
  [P.FUSE_MKNOD, { reply: P.ENTRY_OUT_SIZE, run: mknod }],
  [P.FUSE_MKDIR, { reply: P.ENTRY_OUT_SIZE, run: mkdir }],
  [P.FUSE_UNLINK, { reply: 0, run: nothing((s, r) => s.unlink(r.node, lastString(r))) }],
  [P.FUSE_RMDIR, { reply: 0, run: nothing((s, r) => s.removeDirectory(r.node, lastString(r))) }],
  [P.FUSE_RENAME, { reply: 0, run: (s, r) => rename(s, r, r.args.u64(), 0) }],
  [P.FUSE_RENAME2, { reply: 0, run: rename2 }],
  [P.FUSE_LINK, { reply: P.ENTRY_OUT_SIZE, run: (s, r) => entry(s.link(r.args.u64(), r.node, lastString(r))) }],
  [P.FUSE_OPEN, { reply: P.OPEN_OUT_SIZE, run: (s, r) => opened(s.open(r.node, accessOf(r.args.u32()))) }],
  [P.FUSE_READ, { reply: 0, run: read }],
  [P.FUSE_WRITE, { reply: P.WRITE_OUT_SIZE, run: write }],
  [P.FUSE_STATFS, { reply: P.STATFS_OUT_SIZE, run: statfs }],
  [P.FUSE_RELEASE, { reply: 0, run: nothing((s, r) => s.release(r.args.u64())) }],
  [P.FUSE_FSYNC, { reply: 0, run: fsync }],
  [P.FUSE_OPENDIR, { reply: P.OPEN_OUT_SIZE, run: (s, r) => opened(s.openDirectory(r.node)) }],
  [P.FUSE_READDIR, { reply: 0, run: (s, r) => readdir(s, r, false) }],
  [P.FUSE_READDIRPLUS, { reply: 0, run: (s, r) => readdir(s, r, true) }],
  [P.FUSE_RELEASEDIR, { reply: 0, run: nothing((s, r) => s.release(r.args.u64())) }],
  [P.FUSE_FSYNCDIR, { reply: 0, run: fsync }],
  [P.FUSE_CREATE, { reply: P.ENTRY_OUT_SIZE + P.OPEN_OUT_SIZE, run: create }],
  [P.FUSE_ACCESS, { reply: 0, run: nothing((s, r) => s.access(r.node, r.args.u32())) }],
  // FUSE_FLUSH is not here: nothing is kept back between a write and the host's file, so that a guest that gets ENOSYS once
  // saves a request at each close(2).
]);

/** fuse_forget_in, which has no answer. */
export function forget(server: FileServer, request: Request): void {
  server.forget(request.node, request.args.u64());
}

/** fuse_batch_forget_in and as many fuse_forget_one as it says, or as there are. */
export function batchForget(server: FileServer, { args }: Request): void {
  const count = args.u32();
  args.skip(4);
  for (let i = 0; i < count; i++) server.forget(args.u64(), args.u64()); // ends by EINVAL behind the last
}

/** An operation whose answer is that it has been done. */
function nothing(run: (server: FileServer, request: Request) => void): Operation['run'] {
  return (server, request) => {
    run(server, request);
    return undefined;
  };
}

function entry(e: Entry): Encoder {
  const out = new Encoder(P.ENTRY_OUT_SIZE);
  entryOut(out, e);
  return out;
}

function opened(handle: number): Encoder {
  const out = new Encoder(P.OPEN_OUT_SIZE);
  openOut(out, handle);
  return out;
}

function lastString({ args }: Request, maximum?: number): string {
  const name = args.string(maximum);
  args.end();
  return name;
}

function accessOf(flags: number): OpenAccess {
  const mode = flags & P.O_ACCMODE;
  if (mode === P.O_ACCMODE) throw new FileError('EINVAL');
  return {
    read: mode !== P.O_WRONLY,
    write: mode !== 0,
    append: (flags & P.O_APPEND) !== 0,
    truncate: (flags & P.O_TRUNC) !== 0,
    exclusive: (flags & P.O_EXCL) !== 0,
  };
}

function getattr(server: FileServer, { node, args }: Request): Encoder {
  const flags = args.u32();
  args.skip(4);
  const handle = args.u64();
  const out = new Encoder(P.ATTR_OUT_SIZE);
  attrOut(out, server.attributes(node, flags & P.FUSE_GETATTR_FH ? handle : undefined));
  return out;
}

function setattr(server: FileServer, { node, args }: Request): Encoder {
  const valid = args.u32();
  args.skip(4);
  const handle = args.u64();
  const size = args.u64();
  args.skip(8); // lock_owner
  const [atime, mtime] = [args.bigI64(), args.bigI64()];
  args.skip(8); // ctime is the host's business
  const [atimensec, mtimensec] = [args.u32(), args.u32()];
  args.skip(4); // ctimensec
  const mode = args.u32();
  args.skip(4);
  const [uid, gid] = [args.u32(), args.u32()];
  const time = (bit: number, nowBit: number, sec: bigint, nsec: number) =>
    valid & nowBit ? 'now' : valid & bit ? sec * 1_000_000_000n + BigInt(nsec) : undefined;
  const atimeNs = time(P.FATTR_ATIME, P.FATTR_ATIME_NOW, atime, atimensec);
  const mtimeNs = time(P.FATTR_MTIME, P.FATTR_MTIME_NOW, mtime, mtimensec);
  const changes: AttributeChanges = {
    ...(valid & P.FATTR_MODE && { mode: mode & 0o7777 }),
    ...(valid & P.FATTR_UID && { uid }),
    ...(valid & P.FATTR_GID && { gid }),
    ...(valid & P.FATTR_SIZE && { size }),
    ...(valid & P.FATTR_FH && { handle }),
    ...(atimeNs !== undefined && { atimeNs }),
    ...(mtimeNs !== undefined && { mtimeNs }),
  };
  const out = new Encoder(P.ATTR_OUT_SIZE);
  attrOut(out, server.setAttributes(node, changes));
  return out;
}

function readlink(server: FileServer, { node, room }: Request): Encoder {
  const target = server.readLink(node);
  if (target.length > room) throw new FileError('ENAMETOOLONG');
  return new Encoder(target.length).string(target);
}

function symlink(server: FileServer, request: Request): Encoder {
  const name = request.args.string();
  return entry(server.makeLink(request.node, name, lastString(request, P.PATH_MAX - 1)));
}

function mknod(server: FileServer, request: Request): Encoder {
  const mode = request.args.u32();
  request.args.skip(12); // rdev: only regular files are made; umask: applied by the guest; padding
  return entry(server.makeNode(request.node, lastString(request), mode));
}

function mkdir(server: FileServer, request: Request): Encoder {
  const mode = request.args.u32() & 0o7777;
  request.args.skip(4); // umask
  return entry(server.makeDirectory(request.node, lastString(request), mode));
}

function create(server: FileServer, request: Request): Encoder {
  const access = accessOf(request.args.u32());
  const mode = request.args.u32() & 0o7777;
  request.args.skip(8); // umask, open_flags
  const created = server.create(request.node, lastString(request), mode, access);
  const out = new Encoder(P.ENTRY_OUT_SIZE + P.OPEN_OUT_SIZE);
  entryOut(out, created);
  openOut(out, created.handle);
  return out;
}

function rename(server: FileServer, request: Request, newParent: number, flags: number): undefined {
  // RENAME_EXCHANGE and RENAME_WHITEOUT cannot be done with rename(2), which is what Node has.
  if (flags & ~P.RENAME_NOREPLACE) throw new FileError('EINVAL');
  const name = request.args.string();
  const newName = lastString(request);
  server.rename(request.node, name, newParent, newName, flags !== 0);
}

function rename2(server: FileServer, request: Request): undefined {
  const newParent = request.args.u64();
  const flags = request.args.u32();
  request.args.skip(4);
  rename(server, request, newParent, flags);
}

function read(server: FileServer, { args, writable, room }: Request): Promise<number> {
  const handle = args.u64();
  const offset = args.u64();
  const size = Math.min(args.u32(), room);
  return server.read(handle, offset, slice(writable, P.OUT_HEADER_SIZE, size));
}

async function write(server: FileServer, { args, readable, length }: Request): Promise<Encoder> {
  const handle = args.u64();
  const offset = args.u64();
  const size = args.u32();
  args.skip(20); // write_flags, lock_owner, flags, padding
  const dataAt = P.IN_HEADER_SIZE + 40;
  if (size > MAX_WRITE || dataAt + size > length) throw new FileError('EINVAL');
  const written = await server.write(handle, offset, slice(readable, dataAt, size));
  return new Encoder(P.WRITE_OUT_SIZE).u32(written).u32(0);
}

async function fsync(server: FileServer, { args }: Request): Promise<undefined> {
  const handle = args.u64();
  await server.sync(handle, (args.u32() & P.FUSE_FSYNC_FDATASYNC) !== 0);
}

function statfs(server: FileServer, { node }: Request): Encoder {
  const s = server.statistics(node);
  const out = new Encoder(P.STATFS_OUT_SIZE);
  out.u64(s.blocks).u64(s.bfree).u64(s.bavail).u64(s.files).u64(s.ffree);
  out.u32(s.bsize).u32(s.namelen).u32(s.bsize); // bsize, namelen, frsize
  return out.skip(P.STATFS_OUT_SIZE - out.length);
}

/**
 * Directory entries from an offset on, as many as there is room for. Offsets count: 0 is `.`, 1 is `..`, and name i is i + 2.
 */
function readdir(server: FileServer, { node, args, room }: Request, plus: boolean): Encoder {
  const handle = args.u64();
  const offset = args.u64();
  const out = new Encoder(Math.min(args.u32(), room, MAX_DIRECTORY_BYTES));
  for (let i = offset; ; i++) {
    const name = i < 2 ? '.'.repeat(i + 1) : server.directoryName(handle, i - 2);
    if (name === undefined) break;
    // A lookup that does not get to the guest would never be taken back: room comes first.
    if (out.length + direntSize(name, plus) > out.bytes.length) {
      if (out.length === 0) throw new FileError('EINVAL');
      break;
    }
    if (i < 2) {
      if (plus) out.skip(P.ENTRY_OUT_SIZE); // node 0: the guest takes the name only
      dirent(out, name, i + 1, i === 0 ? server.attributes(node, undefined).ino : P.FUSE_UNKNOWN_INO, S_IFDIR);
    } else named(server, node, name, i + 1, plus, out);
  }
  return out;
}

const S_IFDIR = 0o040000;

/** One entry other than `.` and `..`; none when its file has gone since the directory was read. */
function named(server: FileServer, node: number, name: string, next: number, plus: boolean, out: Encoder): void {
  try {
    if (plus) {
      const found = server.lookup(node, name);
      entryOut(out, found);
      dirent(out, name, next, found.attributes.ino, found.attributes.mode);
    } else {
      const { ino, mode } = server.peek(node, name);
      dirent(out, name, next, ino, mode);
    }
  } catch (error) {
    if (errnoOf(error) === ERRNO.ENOENT) return;
    if (plus) out.skip(P.ENTRY_OUT_SIZE);
    dirent(out, name, next, P.FUSE_UNKNOWN_INO, 0);
  }
}

/** Puts an answer into guest RAM: struct fuse_out_header and what is behind it. Returns its length in bytes. */
export function answer(writable: readonly Uint8Array[], unique: bigint, errno: number, payload: Payload): number {
  const bytes = typeof payload === 'number' ? payload : (payload?.length ?? 0);
  const length = P.OUT_HEADER_SIZE + bytes;
  copyOut(writable, 0, new Encoder(P.OUT_HEADER_SIZE).u32(length).u32(-errno).u64(unique).bytes);
  if (payload instanceof Encoder) copyOut(writable, P.OUT_HEADER_SIZE, payload.bytes.subarray(0, bytes));
  return length;
}
