import { VmError } from '../../../src/util/errors.ts';

/** Errno names that the fake gives. */
export type Errno =
  | 'E2BIG'
  | 'EACCES'
  | 'EBADF'
  | 'EBUSY'
  | 'EEXIST'
  | 'EFAULT'
  | 'EINTR'
  | 'EINVAL'
  | 'EMFILE'
  | 'ENODEV'
  | 'ENOENT'
  | 'ENOEXEC'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'ENOTTY'
  | 'ENXIO'
  | 'EPERM';

/** Fails as src/engines/host/host.ts names a failed system call. */
export function fail(errno: Errno, call = 'ioctl'): never {
  throw new VmError('ERR_HOST_CALL', `${call} failed: ${errno}`, { details: { call, errno } });
}

/** Fails as for an argument that the addon refuses before any system call. */
export function refuse(message: string): never {
  throw new VmError('ERR_INTERNAL', message);
}
