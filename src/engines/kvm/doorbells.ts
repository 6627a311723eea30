import type { Doorbell, DoorbellEvents } from '../../bus/doorbell.ts';
import { errnoOf } from './system.ts';
import type { IoEvent, KvmVm } from './vm.ts';

const EFD_NONBLOCK = 0o4000;

/** Waits for eventfds together with the vCPUs. */
export interface EventWatcher {
  /** From now on the runner reports writes of `fd` by `tag`. */
  watch(fd: number, tag: number): void;
  unwatch(fd: number): void;
}

interface Registered {
  readonly fd: number;
  readonly event: IoEvent;
  readonly doorbell: Doorbell;
}

/**
 * Doorbells as ioeventfds: the guest's write signals an eventfd in the kernel, and the vCPU goes on while this thread
 * answers. A BAR's move disposes the old registration and makes a new one.
 */
export class KvmDoorbells implements DoorbellEvents, Disposable {
  readonly #vm: KvmVm;
  readonly #watcher: EventWatcher;
  readonly #registered = new Map<number, Registered>();
  #nextTag = 0;

  constructor(vm: KvmVm, watcher: EventWatcher) {
    this.#vm = vm;
    this.#watcher = watcher;
  }

  /** undefined where the kernel has no room or the place is taken: the write is an exit then. */
  register(space: 'memory' | 'io', address: number, doorbell: Doorbell): Disposable | undefined {
    const { host } = this.#vm;
    const event = { space, address, length: doorbell.size, value: doorbell.value };
    let fd: number | undefined;
    try {
      fd = host.eventfd(0, EFD_NONBLOCK);
      this.#vm.ioeventfd(fd, event, true);
    } catch (e) {
      if (fd !== undefined) host.close(fd);
      if (errnoOf(e) === undefined) throw e;
      return undefined;
    }
    let tag = this.#nextTag;
    while (this.#registered.has(tag)) tag++;
    this.#nextTag = (tag + 1) % 1_000_000;
    this.#registered.set(tag, { fd, event, doorbell });
    this.#watcher.watch(fd, tag);
    return { [Symbol.dispose]: () => this.#remove(tag) };
  }

  /** The runner reports that `tag`'s eventfd was written; one that is gone meanwhile is nobody's. */
  ring(tag: number): void {
    this.#registered.get(tag)?.doorbell.ring();
  }

  /** Tells a new VM, and the runner of its vCPUs, of all doorbells. */
  renew(): void {
    for (const [tag, { fd, event }] of this.#registered) {
      this.#vm.ioeventfd(fd, event, true);
      this.#watcher.watch(fd, tag);
    }
  }

  /** Ends all that are left. */
  [Symbol.dispose](): void {
    for (const tag of [...this.#registered.keys()]) this.#remove(tag);
  }

  #remove(tag: number): void {
    const r = this.#registered.get(tag);
    if (r === undefined) return;
    this.#registered.delete(tag);
    this.#watcher.unwatch(r.fd);
    if (!this.#vm.closed) this.#vm.ioeventfd(r.fd, r.event, false);
    this.#vm.host.close(r.fd);
    // A write that came before the move is this BAR's still.
  }
}
