/**
 * Keeps what a guest can cause without end out of logs: passes at most `burst` lines in each `periodNs` to `log`, and
 * says with the next line that passes how many were left out. Lines are functions, so that those left out cost nothing.
 */
export function limitRate(
  log: (line: string) => void,
  nowNs: () => number,
  { burst = 10, periodNs = 1e9 }: { readonly burst?: number; readonly periodNs?: number } = {},
): (line: () => string) => void {
  let period = Number.NEGATIVE_INFINITY;
  let lines = 0;
  return line => {
    const now = nowNs();
    if (now - period >= periodNs) {
      const omitted = lines - burst;
      period = now;
      lines = 0;
      if (omitted > 0) log(`(${omitted} more such lines left out)`);
    }
    if (lines++ < burst) log(line());
  };
}
