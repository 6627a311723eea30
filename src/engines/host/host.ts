import { getSystemErrorName } from 'node:util';
import { VmError } from '../../util/errors.ts';
import { type Addon, loadAddon } from './addon.ts';

/**
 * The addon, each of its errors a VmError: ERR_HOST_CALL with `details.errno` ('EACCES', ...) and `details.call` for a
 * failed system call, ERR_INTERNAL for an argument that the addon refused.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when there is no addon.
 */
export function host(): Addon {
  const { addon, reason, fix } = loadAddon();
  if (addon === undefined) {
    throw new VmError('ERR_ENGINE_UNAVAILABLE', reason, fix === undefined ? {} : { hint: fix });
  }
  return {
    version: addon.version,
    napi: addon.napi,
    open: (path, flags, mode) =>
      named(
        () => addon.open(path, flags, mode),
        () => path,
      ),
    close: fd => named(() => addon.close(fd)),
    ioctl: (fd, request, argument) =>
      named(
        () => addon.ioctl(fd, request, argument),
        () => `request 0x${request.toString(16)}`,
      ),
    eventfd: (initial, flags) => named(() => addon.eventfd(initial, flags)),
    eventfdRead: fd => named(() => addon.eventfdRead(fd)),
    eventfdWrite: (fd, value) => named(() => addon.eventfdWrite(fd, value)),
    mmap: (length, prot, flags, fd, offset) => named(() => addon.mmap(length, prot, flags, fd, offset)),
    madvise: (view, offset, length, advice) =>
      named(
        () => addon.madvise(view, offset, length, advice),
        () => advice,
      ),
    pageSize: () => named(() => addon.pageSize()),
    counterHz: () => named(() => addon.counterHz()),
    clockPair: into => named(() => addon.clockPair(into)),
    addressOf: view => named(() => addon.addressOf(view)),
    storeAddress: (into, offset, address) => named(() => addon.storeAddress(into, offset, address)),
    releaseAddress: address => named(() => addon.releaseAddress(address)),
    watch: (fd, callback) => named(() => addon.watch(fd, callback)),
    setWatching: (watch, wanted) => named(() => addon.setWatching(watch, wanted)),
    unwatch: watch => named(() => addon.unwatch(watch)),
    prlimit: (resource, soft, hard) => named(() => addon.prlimit(resource, soft, hard)),
    runnerCreate: (fds, mapSize, threads, ringSize) => named(() => addon.runnerCreate(fds, mapSize, threads, ringSize)),
    runnerState: (runner, vcpu) => named(() => addon.runnerState(runner, vcpu)),
    runnerRing: (runner, vcpu) => named(() => addon.runnerRing(runner, vcpu)),
    runnerCounters: runner => named(() => addon.runnerCounters(runner)),
    run: (runner, limitNs) => named(() => addon.run(runner, limitNs)),
    loopTimeoutNs: () => named(() => addon.loopTimeoutNs()),
    kick: runner => named(() => addon.kick(runner)),
    pause: (runner, limitMs) => named(() => addon.pause(runner, limitMs)),
    completeExit: (runner, vcpu) => named(() => addon.completeExit(runner, vcpu)),
    runnerWatch: (runner, fd, tag) => named(() => addon.runnerWatch(runner, fd, tag)),
    runnerUnwatch: (runner, fd) => named(() => addon.runnerUnwatch(runner, fd)),
    runnerDestroy: (runner, limitMs) => named(() => addon.runnerDestroy(runner, limitMs)),
    runnerWatchdog: (runner, ms) => named(() => addon.runnerWatchdog(runner, ms)),
    exitNow: code => addon.exitNow(code),
  };
}

function named<T>(call: () => T, subject?: () => string): T {
  try {
    return call();
  } catch (e) {
    const { errno, syscall, message } = e as NodeJS.ErrnoException;
    if (errno === undefined) throw new VmError('ERR_INTERNAL', message, { cause: e });
    const name = getSystemErrorName(-errno);
    const what = subject === undefined ? syscall : `${syscall} (${subject()})`;
    throw new VmError('ERR_HOST_CALL', `${what} failed: ${name}`, {
      cause: e,
      details: { call: syscall, errno: name },
    });
  }
}
