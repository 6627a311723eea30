/** A hypercall in progress: `arg` and `result` are the calling convention's registers, 64 bits wide. */
export interface Hypercall {
  readonly abi: 'smccc' | 'kvm-x86';
  readonly cpu: number;
  /** Function id: the low 32 bits of X0 (smccc) or RAX (kvm-x86). */
  readonly id: number;
  /** Argument register n (smccc: n = 1..6 is X1..X6). */
  arg(n: number): bigint;
  /** Sets result register n (smccc: X0..X3). */
  result(n: number, value: bigint): void;
}

/** An inclusive range of function ids. */
export interface IdRange {
  readonly first: number;
  readonly last: number;
}

/** Something that answers hypercalls. It must set every result register that its calls define; see {@link smcccReturn}. */
export interface HypercallService {
  readonly name: string;
  readonly ids: readonly IdRange[];
  handle(call: Hypercall): void;
}

/** SMCCC's "unknown function" (DEN0028 section 5.2), as the signed value of X0. */
export const NOT_SUPPORTED = -1n;

/**
 * Ends an SMCCC call: X0..X3 = the values given, the rest of them 0. Values are taken modulo 2^64, so that -1n fills all
 * of X0: callers compare 64 bits, also after calls whose id is a 32-bit one.
 */
export function smcccReturn(call: Hypercall, ...values: readonly bigint[]): void {
  // No `?? 0n`: Node 20's compiler aborts on some choices between BigInts that a conversion follows.
  values.forEach((value, n) => {
    call.result(n, BigInt.asUintN(64, value));
  });
  for (let n = values.length; n < 4; n++) call.result(n, 0n);
}

/** Argument register `n` as the function id's convention sees it: the low half for a 32-bit id (bit 30 clear). */
export function smcccArg(call: Hypercall, n: number): bigint {
  const value = call.arg(n);
  return call.id & 0x4000_0000 ? value : BigInt.asUintN(32, value);
}
