import { existsSync } from 'node:fs';
import { Vm, type VmOptions } from 'tsvisor';

/** Debian's EDK2 for QEMU's virt board: package qemu-efi-aarch64. */
export const AAVMF_CODE = '/usr/share/AAVMF/AAVMF_CODE.fd';
export const AAVMF_VARS = '/usr/share/AAVMF/AAVMF_VARS.fd';

/** Whether there is an EDK2 to boot; says so where there is none. */
export function hasUefi(test: string): boolean {
  const there = existsSync(AAVMF_CODE) && existsSync(AAVMF_VARS);
  if (!there) console.log(`skipped: ${test}: ${AAVMF_CODE} is not there (Debian: qemu-efi-aarch64)`);
  return there;
}

/** EDK2's shell. */
export interface UefiShell extends AsyncDisposable {
  readonly vm: Vm;
  /** Lines of the host's side. */
  readonly log: readonly string[];
  /** Runs a command and gives what it printed, without the escapes of the terminal. */
  run(command: string): Promise<string>;
}

/** What a terminal takes for colours and places of the cursor. */
const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;=]*[A-Za-z]`, 'g');
const TIMEOUT = '180s';

/** Boots EDK2, with nothing to boot from it, to its shell. */
export async function bootUefiShell(options: Partial<VmOptions>): Promise<UefiShell> {
  const vm = await Vm.create({ firmware: AAVMF_CODE, memory: '256M', slots: 0, ...options });
  const log: string[] = [];
  vm.on('log', line => log.push(line));
  try {
    await vm.start();
    await vm.console.waitFor('any other key to continue', { timeout: TIMEOUT });
    // Escape: not to wait for a script.
    vm.console.write('\x1b');
    await vm.console.waitFor('Shell> ', { timeout: TIMEOUT });
  } catch (e) {
    await vm.kill();
    throw e;
  }
  return {
    vm,
    log,
    run: async command => {
      vm.console.write(`${command}\r`);
      const { before } = await vm.console.waitFor('Shell> ', { timeout: TIMEOUT });
      const text = before.replace(ESCAPES, '').replaceAll('\r', '');
      // The first line is the echo.
      return text.slice(text.indexOf('\n') + 1).trim();
    },
    [Symbol.asyncDispose]: async () => {
      await vm.kill();
    },
  };
}
