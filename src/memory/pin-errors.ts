import { type ErrorCode, VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import type { PinErrno, PinQuota } from './pin-types.ts';
import type { Gpa } from './types.ts';

/** A pin that was refused. */
export interface Refusal {
  readonly errno: PinErrno;
  /** The first address that is in the way. */
  readonly at: Gpa;
  /** Ends the message. */
  readonly why: string;
  readonly quota?: PinQuota;
}

const CODES: Readonly<Record<PinErrno, ErrorCode>> = {
  EINVAL: 'ERR_PIN_INVALID',
  EPERM: 'ERR_PIN_PERMISSION',
  EFAULT: 'ERR_PIN_FAULT',
  ENOMEM: 'ERR_MEMLOCK_LIMIT',
  EOPNOTSUPP: 'ERR_PIN_UNSUPPORTED',
  EOVERFLOW: 'ERR_PIN_OVERFLOW',
  EBUSY: 'ERR_PINNED',
};

const HINTS: Readonly<Partial<Record<PinErrno, string>>> = {
  EPERM: 'pin it for reading, without FOLL_WRITE',
  EOPNOTSUPP: 'pin it for one request at a time, without FOLL_LONGTERM, or give the VM anonymous or memfd memory',
  EOVERFLOW: 'release pins: the holder seems to forget some',
  EBUSY: 'wait until the operation on this memory is over',
};

const QUOTA_HINTS: Readonly<Record<PinQuota['name'], string>> = {
  'long-term': 'raise the limit for long-term pins of this VM, or give it fewer devices that map memory for long',
  RLIMIT_MEMLOCK:
    "raise the process's limit of locked memory (`ulimit -l`, LimitMEMLOCK= of systemd, /etc/security/limits.conf) or give the VM less memory",
  'in flight': 'give the device smaller or fewer requests at a time',
  pins: 'release pins: the holder seems to forget some',
};

/** The error of a pin() that was refused, with `details.errno` (PIN-7). */
export function pinError(r: Refusal, base: Gpa, length: number, owner: string): VmError {
  const hint = r.quota === undefined ? HINTS[r.errno] : QUOTA_HINTS[r.quota.name];
  return new VmError(CODES[r.errno], `${owner} cannot pin ${hex(base)} (${length} bytes): ${r.why}`, {
    ...(hint === undefined ? {} : { hint }),
    details: { errno: r.errno, owner, base, length, page: r.at, ...quotaDetails(r.quota) },
  });
}

/** The last words of a message about a limit. */
export function quotaText(q: PinQuota): string {
  const unit = q.name === 'pins' ? '' : ' bytes';
  return `${q.needed}${unit} more would exceed the limit (${q.name}) of ${q.limit}${unit}, of which ${q.used} are used`;
}

function quotaDetails(q: PinQuota | undefined): Readonly<Record<string, unknown>> {
  return q === undefined ? {} : { limitName: q.name, needed: q.needed, used: q.used, limit: q.limit };
}

/** A misuse of a handle, or of the table (PIN-4). */
export function invalid(why: string, details: Readonly<Record<string, unknown>> = {}): VmError {
  return new VmError('ERR_PIN_INVALID', why, { details: { errno: 'EINVAL', ...details } });
}

/** Some other operation that pins are in the way of: EBUSY, naming the owners. */
export function pinnedError(what: string, base: Gpa, length: number, owners: readonly string[]): VmError {
  return new VmError('ERR_PINNED', `${what}: ${hex(base)} (${length} bytes) is pinned by ${owners.join(', ')}`, {
    hint: 'unplug or stop these devices, or try again when their requests are done',
    details: { errno: 'EBUSY', base, length, owners },
  });
}
