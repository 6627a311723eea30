import type { ErrorCode, VmExit } from '../vmm/index.ts';

/** Exit codes of every verb. Death by a signal is 128 + its number, as shells have it. */
export const EXIT = { ok: 0, guestCrash: 1, usage: 2, host: 3, fault: 4 } as const;

const CODES: Readonly<Record<ErrorCode, number>> = {
  ERR_USAGE: EXIT.usage,
  ERR_BAD_SIZE: EXIT.usage,
  ERR_FILE_NOT_FOUND: EXIT.usage,
  ERR_FILE_UNREADABLE: EXIT.usage,
  ERR_FILE_IS_DIRECTORY: EXIT.usage,
  ERR_NOT_A_KERNEL: EXIT.usage,
  ERR_WRONG_ARCHITECTURE: EXIT.usage,
  ERR_KERNEL_CORRUPT: EXIT.usage,
  ERR_MEMORY_TOO_SMALL: EXIT.usage,
  ERR_MEMORY_TOO_LARGE: EXIT.usage,
  ERR_DOES_NOT_FIT: EXIT.usage,
  ERR_ENGINE_UNAVAILABLE: EXIT.host,
  ERR_VCPU_STUCK: EXIT.host,
  ERR_VCPU_FAILED: EXIT.host,
  ERR_HOST_CALL: EXIT.host,
  ERR_CACHE_CORRUPT: EXIT.host,
  ERR_DISK_FULL: EXIT.host,
  ERR_OFFLINE: EXIT.host,
  ERR_DOWNLOAD: EXIT.host,
  ERR_VERIFY: EXIT.host,
  ERR_TIMEOUT: EXIT.host,
  ERR_STATE: EXIT.fault,
  ERR_OVERLAP: EXIT.fault,
  ERR_GUEST_ADDRESS: EXIT.fault,
  ERR_BAR: EXIT.usage,
  ERR_DISK: EXIT.usage,
  ERR_NETWORK: EXIT.host,
  ERR_DEVICE: EXIT.usage,
  ERR_PCI_SLOT: EXIT.usage,
  ERR_PIN_INVALID: EXIT.fault,
  ERR_PIN_PERMISSION: EXIT.fault,
  ERR_PIN_FAULT: EXIT.fault,
  ERR_PIN_UNSUPPORTED: EXIT.host,
  ERR_PIN_OVERFLOW: EXIT.fault,
  ERR_MEMLOCK_LIMIT: EXIT.host,
  ERR_PINNED: EXIT.host,
  ERR_INTERNAL: EXIT.fault,
};

/** The exit code for an error. */
export function exitCodeOfError(code: ErrorCode): number {
  return CODES[code];
}

/** The exit code for the end of a VM. A guest's reset counts as its power-off: tsvisor does not restart it. */
export function exitCodeOfVm(exit: VmExit): number {
  if (exit.error !== undefined) return exitCodeOfError(exit.error.code);
  return exit.reason === 'crash' ? EXIT.guestCrash : EXIT.ok;
}
