import { describe, expect, test } from 'vitest';
import { parseMemlock } from './memlock.ts';

const limits = (soft: string) =>
  `Limit                     Soft Limit           Hard Limit           Units
Max processes             62845                62845                processes
Max locked memory         ${soft.padEnd(20)} 16777216             bytes
Max address space         unlimited            unlimited            bytes
`;
const status = (capabilities: string) => `Name:\tnode\nCapPrm:\tffffffffffffffff\nCapEff:\t${capabilities}\n`;

describe('RLIMIT_MEMLOCK', () => {
  test('is the soft limit', () => {
    expect(parseMemlock(limits('8388608'), status('0000000000000000'))).toBe(8388608);
    expect(parseMemlock(limits('0'), status('0000000000000000'))).toBe(0);
    expect(parseMemlock(limits('unlimited'), status('0000000000000000'))).toBe(Number.POSITIVE_INFINITY);
  });

  test('does not hold for a process with CAP_IPC_LOCK, and no other capability lifts it', () => {
    expect(parseMemlock(limits('8388608'), status('0000000000004000'))).toBe(Number.POSITIVE_INFINITY);
    expect(parseMemlock(limits('8388608'), status('ffffffffffffbfff'))).toBe(8388608);
  });

  test('is unknown in a text without it', () => {
    expect(parseMemlock('', '')).toBeUndefined();
  });
});
