import { askVm, runningVms, type VmInfo } from '../vmm/index.ts';

/** `tsvisor ps`: the VMs of this user that run. */
export async function ps({ json = false }: { readonly json?: boolean }): Promise<void> {
  for (const name of await runningVms()) {
    const info = (await askVm(name, { verb: 'info' })) as VmInfo & { readonly pid: number };
    const { pid, state, engine, memoryBytes, vcpus, timeNs } = info;
    const line = json
      ? JSON.stringify({ ...info, name })
      : `${name.padEnd(20)} ${String(pid).padStart(7)}  ${state.padEnd(8)} ${engine}  ${vcpus.length} vCPU  ` +
        `${memoryBytes / 2 ** 20} MiB  ${(timeNs / 1e9).toFixed(0)} s`;
    process.stdout.write(`${line}\n`);
  }
}
