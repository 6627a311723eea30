import { readFileSync } from 'node:fs';

/** Number of CAP_IPC_LOCK (include/uapi/linux/capability.h), whose holder may lock what it likes. */
const CAP_IPC_LOCK = 14n;

/**
 * Bytes that this process may lock, RLIMIT_MEMLOCK: Infinity without a limit or with CAP_IPC_LOCK; undefined where the host has no
 * such limit to read.
 */
export function memlockBytes(): number | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return parseMemlock(readFileSync('/proc/self/limits', 'utf8'), readFileSync('/proc/self/status', 'utf8'));
  } catch {
    // No /proc: locking is limited all the same, and the kernel says so then.
    return undefined;
  }
}

/** The soft limit in the text of /proc/PID/limits, unless the capabilities in that of /proc/PID/status lift it. */
export function parseMemlock(limits: string, status: string): number | undefined {
  const effective = /^CapEff:\s*([0-9a-f]+)$/im.exec(status)?.[1];
  if (effective !== undefined && (BigInt(`0x${effective}`) >> CAP_IPC_LOCK) & 1n) return Number.POSITIVE_INFINITY;
  const soft = /^Max locked memory\s+(\d+|unlimited)\s/m.exec(limits)?.[1];
  if (soft === undefined) return undefined;
  return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}
