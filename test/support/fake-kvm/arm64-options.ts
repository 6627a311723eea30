import type { Arm64Options } from '../../../src/engines/kvm/arm64/architecture.ts';

/** Two vCPUs with a GICv3 where arm-virt has it, on a host that runs on its architected counter. */
export const ARM64_OPTIONS: Arm64Options = {
  cpus: 2,
  gic: 3,
  spis: 256,
  gicd: 0x0800_0000,
  gicc: 0x0801_0000,
  gicr: 0x080a_0000,
  its: 0x0808_0000,
  gicv2m: { address: 0x0802_0000, base: 80, count: 64 },
  ptp: true,
  clocksource: 'arch_sys_counter',
};
