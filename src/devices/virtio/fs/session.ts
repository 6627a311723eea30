import type { Chain } from '../device.ts';
import { errnoOf, FileError } from './errno.ts';
import type { FileServer } from './file-server.ts';
import { answer, batchForget, forget, MAX_WRITE, OPERATIONS, type Payload, type Request } from './operations.ts';
import * as P from './protocol.ts';
import { copyIn, Decoder, Encoder } from './wire.ts';

/** Longest structure and names of a request in bytes; the longest that a Linux guest sends is FUSE_SYMLINK's. */
const MAX_ARGUMENTS = 1 << 16;

/** Bytes that a guest may read ahead. */
const MAX_READAHEAD = 1 << 20;

/** Requests that the guest sends before it lets background ones (reads ahead) wait, and where it calls the disk busy. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

/** Node sets times of files in microseconds, see src/backends/share. */
const TIME_GRANULARITY_NS = 1000;

const FLAGS =
  P.FUSE_ASYNC_READ |
  P.FUSE_ATOMIC_O_TRUNC |
  P.FUSE_BIG_WRITES |
  P.FUSE_AUTO_INVAL_DATA |
  P.FUSE_DO_READDIRPLUS |
  P.FUSE_READDIRPLUS_AUTO |
  P.FUSE_ASYNC_DIO |
  P.FUSE_PARALLEL_DIROPS |
  P.FUSE_MAX_PAGES;

/**
 * A guest's conversation with a file server in the FUSE protocol: takes requests apart and puts answers together. It begins
 * with FUSE_INIT (a mount) and ends with FUSE_DESTROY or {@link reset}.
 */
export class FuseSession {
  readonly #server: FileServer;
  #initialized = false;

  constructor(server: FileServer) {
    this.#server = server;
  }

  /**
   * Serves one request. Gives the number of bytes written to its writable part, 0 for those without an answer and for what
   * is no request; a promise, which does not fail, when data has to move first. Never throws for what a guest sent.
   */
  handle(chain: Chain): number | Promise<number> {
    if (chain.readableLength < P.IN_HEADER_SIZE) return 0;
    const header = new Decoder(copyIn(chain.readable, 0, P.IN_HEADER_SIZE));
    const length = header.u32();
    const opcode = header.u32();
    const unique = header.bigU64();
    const node = header.u64();
    const finish = (errno: number, payload?: Payload) => answer(chain.writable, unique, errno, payload);
    const refuse = (error: unknown) => finish(errnoOf(error));
    const room = chain.writableLength - P.OUT_HEADER_SIZE;
    try {
      const request = (): Request => ({
        node,
        args: this.#arguments(chain, opcode, length),
        readable: chain.readable,
        writable: chain.writable,
        length,
        room,
      });
      if (NO_ANSWER.has(opcode)) {
        this.#unanswered(opcode, request());
        return 0;
      }
      if (room < 0) return 0; // nothing may change without the guest knowing
      const payload = this.#run(opcode, room, request);
      return payload instanceof Promise ? payload.then(done => finish(0, done), refuse) : finish(0, payload);
    } catch (error) {
      return NO_ANSWER.has(opcode) ? 0 : refuse(error);
    }
  }

  /** The guest has gone. */
  reset(): void {
    this.#initialized = false;
    this.#server.reset();
  }

  /** A copy of what follows the header, since the guest could change its memory while it is looked at. */
  #arguments(chain: Chain, opcode: number, length: number): Decoder {
    if (length < P.IN_HEADER_SIZE || length > chain.readableLength) throw new FileError('EINVAL');
    const bytes = length - P.IN_HEADER_SIZE;
    if (opcode === P.FUSE_WRITE) return new Decoder(copyIn(chain.readable, P.IN_HEADER_SIZE, Math.min(bytes, 40)));
    if (bytes > MAX_ARGUMENTS) throw new FileError('E2BIG');
    return new Decoder(copyIn(chain.readable, P.IN_HEADER_SIZE, bytes));
  }

  #unanswered(opcode: number, request: Request): void {
    if (opcode === P.FUSE_FORGET) forget(this.#server, request);
    if (opcode === P.FUSE_BATCH_FORGET) batchForget(this.#server, request);
    // FUSE_INTERRUPT asks for EINTR where a request would wait for long; none does.
  }

  #run(opcode: number, room: number, request: () => Request): Payload | Promise<Payload> {
    if (opcode === P.FUSE_INIT) return this.#init(request());
    if (!this.#initialized) throw new FileError('EIO');
    if (opcode === P.FUSE_DESTROY) {
      this.reset();
      return undefined;
    }
    const operation = OPERATIONS.get(opcode);
    if (operation === undefined) throw new FileError('ENOSYS');
    if (room < operation.reply) throw new FileError('EINVAL');
    return operation.run(this.#server, request());
  }

  /** Agrees on a version: the smaller minor one counts; a guest of a newer major one asks again with ours. */
  #init({ args, room }: Request): Encoder {
    if (room < P.INIT_OUT_SIZE) throw new FileError('EINVAL');
    const major = args.u32();
    const minor = args.u32();
    const maxReadahead = args.u32();
    const flags = args.u32();
    const out = new Encoder(P.INIT_OUT_SIZE).u32(P.FUSE_KERNEL_VERSION);
    if (major > P.FUSE_KERNEL_VERSION) return out.u32(P.FUSE_KERNEL_MINOR_VERSION).skip(P.INIT_OUT_SIZE - 8);
    if (major < P.FUSE_KERNEL_VERSION || minor < P.OLDEST_MINOR_VERSION) throw new FileError('EPROTO');
    this.reset();
    this.#initialized = true;
    out.u32(Math.min(minor, P.FUSE_KERNEL_MINOR_VERSION));
    out.u32(Math.min(maxReadahead, MAX_READAHEAD)).u32(flags & FLAGS);
    out.u16(MAX_BACKGROUND).u16(CONGESTION_THRESHOLD).u32(MAX_WRITE).u32(TIME_GRANULARITY_NS);
    return out.u16(MAX_WRITE / 4096).skip(P.INIT_OUT_SIZE - out.length); // max_pages; no DAX, no flags2
  }
}

/** Operations that have no answer, not even for an error. */
const NO_ANSWER: ReadonlySet<number> = new Set([P.FUSE_FORGET, P.FUSE_BATCH_FORGET, P.FUSE_INTERRUPT]);
