import { askVm } from '../vmm/index.ts';

/** `tsvisor stop [NAME]`: ends a running VM and returns when it has ended. */
export async function stop(name: string | undefined): Promise<void> {
  await askVm(name, { verb: 'stop' });
}
