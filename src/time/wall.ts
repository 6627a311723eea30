const NS_PER_SEC = 1_000_000_000n;

/** Wall-clock nanoseconds since 1970 as the whole seconds and nanoseconds of a timespec; `nsec` is never negative. */
export function toWall(ns: bigint): { readonly sec: bigint; readonly nsec: number } {
  const nsec = ((ns % NS_PER_SEC) + NS_PER_SEC) % NS_PER_SEC;
  return { sec: (ns - nsec) / NS_PER_SEC, nsec: Number(nsec) };
}
