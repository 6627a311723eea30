import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import { type Hypercall, type HypercallService, type IdRange, NOT_SUPPORTED, smcccReturn } from './hypercall.ts';
import { KVM_ENOSYS } from './hypercall-x86.ts';

/** Routes hypercalls by function id to the services that answer them. */
export interface HypercallBus {
  /**
   * Adds a service; disposing the result takes it off again.
   * @throws VmError ERR_OVERLAP naming both services when an id range is taken.
   */
  add(service: HypercallService): Disposable;
  /** Answers a call. An id without a service gets its convention's "not supported", never an exception. */
  handle(call: Hypercall): void;
}

/** An empty {@link HypercallBus}. A guest makes few hypercalls, so the ranges are searched one by one. */
export function createHypercallBus(): HypercallBus {
  const routes: { range: IdRange; service: HypercallService }[] = [];

  return {
    add(service) {
      for (const range of service.ids) {
        const taken = routes.find(r => r.range.first <= range.last && range.first <= r.range.last);
        if (taken) {
          throw new VmError(
            'ERR_OVERLAP',
            `hypercall ids ${hex(range.first)}..${hex(range.last)} of ${service.name} are taken by ${taken.service.name}`,
          );
        }
      }
      const added = service.ids.map(range => ({ range, service }));
      routes.push(...added);
      return {
        [Symbol.dispose]() {
          for (const route of added.splice(0)) routes.splice(routes.indexOf(route), 1);
        },
      };
    },

    handle(call) {
      const id = call.id >>> 0;
      const route = routes.find(r => id >= r.range.first && id <= r.range.last);
      if (route) route.service.handle(call);
      else if (call.abi === 'smccc') smcccReturn(call, NOT_SUPPORTED);
      else call.result(0, BigInt.asUintN(64, KVM_ENOSYS));
    },
  };
}
