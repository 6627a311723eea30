import { host } from '../../src/engines/host/host.ts';
import type { IrqRoutes } from '../../src/engines/kvm/irqs.ts';
import { KvmSystem } from '../../src/engines/kvm/system.ts';
import { KvmVm } from '../../src/engines/kvm/vm.ts';
import { X86Architecture } from '../../src/engines/kvm/x86/architecture.ts';
import { labCase } from './lab-case.ts';

// What a message costs its sender by KVM_SIGNAL_MSI and by an irqfd, and what it costs to move an irqfd's route, as a guest makes us do
// when it rewrites an MSI-X table entry: the numbers of docs/adr/0012. A measurement, which fails only when a call does.

const ROUNDS = 5;
const COUNT = 2000;
const ROUTES = 40;

/** Microseconds that each of `count` calls takes. */
function time(count: number, f: (n: number) => void): number {
  const started = performance.now();
  for (let n = 0; n < count; n++) f(n);
  return ((performance.now() - started) * 1000) / count;
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

labCase('a message by KVM_SIGNAL_MSI and by an irqfd', { on: ['x86'], memory: 1536, cpus: 2, seconds: 120 }, ctx => {
  const addon = host();
  const architecture = new X86Architecture({ cpus: 1, invariantTsc: false, reserved: 0xfeff_c000 });
  using vm = new KvmVm(new KvmSystem(addon), architecture.vmType);
  architecture.build(vm);
  const routes: IrqRoutes = architecture.routes(vm);
  using event = routes.event()!;
  const message = (data: number) => ({ address: 0xfee0_0000, data });
  event.route(message(0x41));
  const signal: number[] = [];
  const irqfd: number[] = [];
  const route: number[] = [];
  for (let n = 0; n < ROUNDS; n++) {
    signal.push(time(COUNT, () => vm.signalMsi(message(0x41), false)));
    irqfd.push(time(COUNT, () => addon.eventfdWrite(event.fd, 1n)));
    route.push(time(ROUTES, i => event.route(message(0x42 + (i & 1)))));
  }
  const us = (values: readonly number[]) => Number(median(values).toFixed(2));
  ctx.note(JSON.stringify({ us: { signalMsi: us(signal), irqfd: us(irqfd), route: us(route) } }));
  return Promise.resolve();
});
