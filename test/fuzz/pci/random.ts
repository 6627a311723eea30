/** Numbers that a guest's driver would not choose, and that code may forget: borders of widths, and of sizes. */
const EDGES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x7fff, 0x8000, 0xffff];
const EDGES32 = [...EDGES, 0x1_0000, 0xf_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_fff0, 0xffff_ffff];

/** A seeded generator, xoshiro128** (Blackman, Vigna): everything that a run does follows from its seed. */
export class Random {
  readonly #s = new Uint32Array(4);

  constructor(readonly seed: number) {
    // splitmix32 spreads the seed, so that near seeds give unrelated runs.
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e37_79b9) >>> 0;
      let z = Math.imul(x ^ (x >>> 16), 0x21f0_aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
      this.#s[i] = z ^ (z >>> 15);
    }
  }

  /** 32 random bits. */
  u32(): number {
    const s = this.#s;
    const x = Math.imul(s[1]!, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result;
  }

  /** A number in [0, n); n up to 2^32. */
  below(n: number): number {
    return Math.floor((this.u32() / 2 ** 32) * n);
  }

  /** A number in [from, to]. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** True in one of `n` cases. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** A word of 32 bits as a hostile guest likes it: an edge, a power of two, or noise. */
  word(): number {
    switch (this.below(4)) {
      case 0:
        return this.pick(EDGES32);
      case 1:
        return (2 ** this.below(32) + this.between(-1, 1)) >>> 0;
      case 2:
        return this.below(256);
      default:
        return this.u32();
    }
  }

  size(): 1 | 2 | 4 {
    return this.pick([1, 2, 4, 4] as const);
  }

  fill(bytes: Uint8Array): Uint8Array {
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.u32();
    return bytes;
  }

  bytes(length: number): Uint8Array {
    return this.fill(new Uint8Array(length));
  }

  /** Changes some bytes in place: flips, extremes, words. */
  mutate(bytes: Uint8Array): void {
    for (let n = this.between(1, 4); n > 0 && bytes.length > 0; n--) {
      const at = this.below(bytes.length);
      if (this.oneIn(3)) bytes[at] = this.pick([0, 1, 0x7f, 0x80, 0xff]);
      else if (this.oneIn(2)) bytes[at]! ^= 1 << this.below(8);
      else {
        const word = this.word();
        for (let i = 0; i < 4 && at + i < bytes.length; i++) bytes[at + i] = word >>> (8 * i);
      }
    }
  }
}
