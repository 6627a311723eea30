import { host } from '../engines/host/host.ts';
import { vcpuStuck } from '../engines/kvm/stuck.ts';
import type { VmError } from '../util/errors.ts';

/** Whether some thread of this process hangs in the kernel for good. */
let hung = false;

/**
 * Watches a machine's watchdog() from another thread than the machine's. `stuck` is called once, with ERR_VCPU_STUCK, when that thread
 * hangs in the kernel; it can be neither ended nor waited for then, and the process ends without waiting for it.
 * @param fd the eventfd; closed when the result is disposed.
 */
export function watchForStuck(fd: number, stuck: (e: VmError) => void): Disposable {
  const addon = host();
  const watch = addon.watch(fd, () => {
    addon.setWatching(watch, false);
    if (!hung) {
      hung = true;
      // Node waits for its Workers, at the end of the process too.
      process.once('exit', code => addon.exitNow(Number(code)));
    }
    stuck(vcpuStuck(0));
  });
  return {
    [Symbol.dispose]: () => {
      addon.unwatch(watch);
      addon.close(fd);
    },
  };
}
