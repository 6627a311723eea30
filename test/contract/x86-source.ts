import type { Rig } from './contract.ts';
import { X86 } from './places.ts';

// Parts that x86-64 guests of the suite are made of.

/** A guest: `body`, and the last write. @param tail what comes behind the end. */
export function guest(body: string, tail = ''): string {
  return `
${body}
        out     ${X86.end}, al
99:     jmp     99b
${tail}
`;
}

/** A write that the host waits for (Rig.finish), and a wait until the host has written `n` to the first word of data. */
export function meet(n: number): string {
  return `
        out     ${X86.end}, al
98:     cmp     dword ptr [${X86.data}], ${n}
        jne     98b
`;
}

/** The host's side of {@link meet}: waits for the guest's `n`th write, does something while no vCPU runs, and lets it go on. */
export async function meeting(rig: Rig, n: number, then: () => void | Promise<void>): Promise<void> {
  await rig.finish(n);
  rig.engine.pause();
  await then();
  rig.engine.memory.setU32(X86.data, n);
}
