/** Stable identifiers of everything that the host's side can get wrong; each has an anchor in docs/errors.md. */
export type ErrorCode =
  | 'ERR_USAGE'
  | 'ERR_BAD_SIZE'
  | 'ERR_FILE_NOT_FOUND'
  | 'ERR_FILE_UNREADABLE'
  | 'ERR_FILE_IS_DIRECTORY'
  | 'ERR_NOT_A_KERNEL'
  | 'ERR_WRONG_ARCHITECTURE'
  | 'ERR_KERNEL_CORRUPT'
  | 'ERR_MEMORY_TOO_SMALL'
  | 'ERR_MEMORY_TOO_LARGE'
  | 'ERR_DOES_NOT_FIT'
  | 'ERR_ENGINE_UNAVAILABLE'
  | 'ERR_HOST_CALL'
  | 'ERR_VCPU_STUCK'
  | 'ERR_VCPU_FAILED'
  | 'ERR_CACHE_CORRUPT'
  | 'ERR_DISK_FULL'
  | 'ERR_OFFLINE'
  | 'ERR_DOWNLOAD'
  | 'ERR_VERIFY'
  | 'ERR_TIMEOUT'
  | 'ERR_STATE'
  | 'ERR_OVERLAP'
  | 'ERR_GUEST_ADDRESS'
  | 'ERR_BAR'
  | 'ERR_DISK'
  | 'ERR_NETWORK'
  | 'ERR_DEVICE'
  | 'ERR_PCI_SLOT'
  | 'ERR_PIN_INVALID'
  | 'ERR_PIN_PERMISSION'
  | 'ERR_PIN_FAULT'
  | 'ERR_PIN_UNSUPPORTED'
  | 'ERR_PIN_OVERFLOW'
  | 'ERR_MEMLOCK_LIMIT'
  | 'ERR_PINNED'
  | 'ERR_INTERNAL';

/** Options of a {@link VmError}: what to do about it, what caused it, and machine-readable details. */
export interface VmErrorOptions {
  /** One sentence that tells the user what to do. */
  readonly hint?: string;
  readonly cause?: unknown;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Marks an error as one of ours, whichever copy of this module made it; on the prototype, so that nobody prints it. */
const BRAND = Symbol.for('tsvisor.VmError');

/**
 * The one error class of the library: a mistake of the host's side or of the configuration.
 * Guest mistakes never throw; they get the architected answer.
 */
export class VmError extends Error {
  /**
   * True for errors of whichever copy of this class: the Worker's code is bundled, and a device module may bring a package of its own.
   */
  static override [Symbol.hasInstance](value: unknown): value is VmError {
    return typeof value === 'object' && value !== null && BRAND in value;
  }

  override readonly name = 'VmError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: VmErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }

  get [BRAND](): true {
    return true;
  }
}
