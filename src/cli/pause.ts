import { askVm } from '../vmm/index.ts';

/** `tsvisor pause [NAME]`: holds a running VM; returns when no vCPU runs any more. */
export async function pause(name: string | undefined): Promise<void> {
  await askVm(name, { verb: 'pause' });
}

/** `tsvisor resume [NAME]`: lets it go on. */
export async function resume(name: string | undefined): Promise<void> {
  await askVm(name, { verb: 'resume' });
}
