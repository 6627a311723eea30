import { Vm, type VmOptions } from 'tsvisor';
import { debian } from '../e2e/debian.ts';

/** Debian's guest at its shell. */
export interface Guest extends AsyncDisposable {
  readonly vm: Vm;
  /**
   * Runs a shell command and gives what it printed, without the last line end. Fails when its exit status is not 0, unless
   * `status` is another one.
   */
  run(command: string, options?: { readonly timeout?: string; readonly status?: number }): Promise<string>;
  /** Powers the guest off and gives the reason of its end. */
  poweroff(): Promise<string>;
}

/** Lines of the host's side: `log` and `trace` events. */
export type Listener = (line: string) => void;

/** Options of a VM, and words to add to the kernel's command line. */
export type GuestOptions = Partial<VmOptions> & { readonly append?: string };

/**
 * Boots Debian's arm64 kernel with `options` to its shell; or says why there is none. `prepare` is called with the VM before it
 * starts, for events that come early.
 */
export async function bootDebian(
  options: GuestOptions = {},
  onLog?: Listener,
  prepare?: (vm: Vm) => void,
): Promise<Guest | string> {
  const image = await debian();
  return typeof image === 'string' ? image : await bootImage({ ...image, uart: 'ttyAMA0' }, options, onLog, prepare);
}

/** {@link bootDebian} with the files of an image, and the device of its console. */
export async function bootImage(
  image: { readonly kernel: string; readonly initrd: string; readonly uart: 'ttyAMA0' | 'ttyS0' },
  options: GuestOptions = {},
  onLog?: Listener,
  prepare?: (vm: Vm) => void,
): Promise<Guest> {
  const { append = '', ...rest } = options;
  const vm = await Vm.create({
    kernel: image.kernel,
    initrd: image.initrd,
    params: `console=${image.uart} panic=-1 quiet ${append}`.trim(),
    ...rest,
  });
  if (onLog !== undefined) {
    vm.on('log', onLog);
    vm.on('trace', onLog);
  }
  prepare?.(vm);
  await vm.start();
  await vm.console.waitFor('~ # ', { timeout: '180s' });
  // The echo stays on: without it busybox's shell takes the end of a background job for the end of its input.
  vm.console.write('PS1= PS2=\n');
  return atShell(vm);
}

/** The guest of a VM whose shell waits for a command, without a prompt: the fork of a {@link bootDebian}, for one. */
export function atShell(vm: Vm): Guest {
  let count = 0;
  return {
    vm,
    run: async (command, { timeout = '120s', status = 0 } = {}) => {
      // In what is echoed the marks have quotes in their middle.
      const n = ++count;
      vm.console.write(`echo "<<""${n}<<"; { ${command}\n} 2>&1; echo "|$?>>""${n}>>"\n`);
      await vm.console.waitFor(`<<${n}<<`, { timeout });
      const { before, captures } = await vm.console.waitFor(new RegExp(`\\|(\\d+)>>${n}>>`), { timeout });
      const text = before.replaceAll('\r\n', '\n').replace(/^\n/, '').replace(/\n$/, '');
      if (Number(captures[0]) !== status) throw new Error(`'${command}' ended with ${captures[0]}:\n${text}`);
      return text;
    },
    poweroff: async () => {
      vm.console.write('poweroff\n');
      return (await vm.exited).reason;
    },
    [Symbol.asyncDispose]: async () => {
      await vm.kill();
    },
  };
}
