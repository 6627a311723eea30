import { type Hypercall, type HypercallService, NOT_SUPPORTED, smcccReturn } from '../../bus/hypercall.ts';
import type { Entropy } from './entropy.ts';
import * as F from './functions.ts';

/** KVM's UUID of this interface, 0d21e000-4384-11eb-8070-5244554e5a4c, as the words of an SMCCC UUID. */
const UUID = [0x00e0_210dn, 0xeb11_8443n, 0x4452_7080n, 0x4c5a_4e55n];

const FUNCTIONS: ReadonlySet<number> = new Set([
  F.TRNG_VERSION,
  F.TRNG_FEATURES,
  F.TRNG_GET_UUID,
  F.TRNG_RND,
  F.TRNG_RND_64,
]);

/** The True Random Number Generator firmware interface 1.0 (DEN0098), fed from `entropy`. */
export function createTrng(entropy: Entropy): HypercallService {
  return {
    name: 'trng',
    ids: [
      { first: F.TRNG_VERSION, last: F.TRNG_RND },
      { first: F.TRNG_RND_64, last: F.TRNG_RND_64 },
    ],
    handle: call => smcccReturn(call, ...answer(call, entropy)),
  };
}

/** X0..X3 of a call. */
function answer(call: Hypercall, entropy: Entropy): readonly bigint[] {
  switch (call.id >>> 0) {
    case F.TRNG_VERSION:
      return [0x1_0000n];
    case F.TRNG_FEATURES:
      return [FUNCTIONS.has(Number(BigInt.asUintN(32, call.arg(1)))) ? F.SUCCESS : NOT_SUPPORTED];
    case F.TRNG_GET_UUID:
      return UUID;
    default:
      return random(Number(BigInt.asUintN(32, call.arg(1))), call.id & 0x4000_0000 ? 64 : 32, entropy);
  }
}

/** TRNG_RND: `bits` of entropy in three registers of `width`, X3 being the lowest; what was not asked for is 0. */
function random(bits: number, width: 32 | 64, entropy: Entropy): readonly bigint[] {
  if (bits === 0 || bits > 3 * width) return [F.INVALID_PARAMETERS];
  let value = 0n;
  for (const byte of entropy(Math.ceil(bits / 8))) value = (value << 8n) | BigInt(byte);
  value = BigInt.asUintN(bits, value);
  const register = (n: number) => BigInt.asUintN(width, value >> BigInt(n * width));
  return [F.SUCCESS, register(2), register(1), register(0)];
}
