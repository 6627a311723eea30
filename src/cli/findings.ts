/** One finding of `tsvisor doctor`: 'ok', 'note' (works, could be better) or 'bad' (tsvisor cannot run a guest). */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'note' | 'bad';
  readonly text: string;
  readonly fix?: string | undefined;
  /** More for people, below the text; the first row is the head. JSON has `data` instead. */
  readonly table?: Table | undefined;
  readonly data?: unknown;
}

export type Table = readonly (readonly string[])[];

const INDENT = ' '.repeat(14);

/** The lines that people read of a finding, each with its newline. */
export function printFinding({ check, status, text, fix, table }: Finding): string {
  const lines = [`${status.padEnd(4)}  ${check.padEnd(7)} ${text}`];
  if (fix !== undefined) lines.push(`${INDENT}fix: ${fix}`);
  if (table !== undefined) lines.push(...layOut(table).map(row => INDENT + row));
  return `${lines.join('\n')}\n`;
}

/** What programs read of a finding. */
export function jsonFinding({ table: _, ...finding }: Finding): Omit<Finding, 'table'> {
  return finding;
}

/** Columns as wide as their widest cell, two spaces between them. */
function layOut(table: Table): string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map(row => row[column]?.length ?? 0)));
  return table.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
